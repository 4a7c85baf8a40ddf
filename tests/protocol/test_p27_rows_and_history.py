"""P27: keyed rows and history live beside the state: read on demand, written and recorded with the commit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel import ledger
from aos.kernel.address import Address
from aos.kernel.agent import Agent, on, query
from aos.kernel.context import Context, Query
from aos.kernel.errors import Reject
from aos.kernel.ports import Kind
from aos.testing import FaultPoint, World, sweep
from tests.protocol.agents import Backend, both, envelope, reasons
from tests.protocol.rivals import another, dispatch, store_of, told

A = Address.parse("shelf/a")


class Book(BaseModel):
    text: str = ""


class Shelf(Agent[Book]):
    @on("put")
    def put(self, data: dict[str, Any], ctx: Context[Book]) -> None:
        for key, value in data.items():
            ctx.put("books", key, value)

    @on("delete")
    def delete(self, data: list[str], ctx: Context[Book]) -> None:
        for key in data:
            ctx.rows("books").delete(key)

    @on("read")
    async def read(self, data: str, ctx: Context[Book]) -> Any:
        return await ctx.get("books", data, "nothing")

    @on("own")
    async def own(self, ctx: Context[Book]) -> Any:
        rows = ctx.rows("books")
        rows.put("b", "mine")
        rows.delete("c")
        ctx.append("mine")
        return [await rows.get("b"), await rows.get("c"), await rows.range(), await ctx.tail(2)]

    @on("failing")
    def failing(self, ctx: Context[Book]) -> None:
        ctx.put("books", "lost", 1)
        ctx.append("lost")
        raise Reject("no")

    @on("append")
    def append(self, data: list[Any], ctx: Context[Book]) -> None:
        for item in data:
            ctx.append(item)

    @on("state")
    def state(self, data: int, ctx: Context[Book]) -> int:
        ctx.state.text = "x" * data
        return data

    @on("quiet")
    def quiet(self) -> None:
        """Nothing."""

    @query
    async def tail(self, data: int, ctx: Query[Book]) -> list[Any]:
        return await ctx.tail(data)

    @query
    async def range(self, data: list[Any], ctx: Query[Book]) -> list[Any]:
        first, last, limit = data
        return [list(found) for found in await ctx.rows("books").range(first, last, limit=limit)]

    @query
    async def other(self, ctx: Query[Book]) -> list[Any]:
        return [list(found) for found in await ctx.rows("book").range()]


def put(world: World, id: str, **books: Any) -> Any:
    return envelope("shelf/a", "put", books, id=id, at=world)


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_rows_are_there_after_the_commit(backend: Backend, hostile: bool) -> None:
    async with World(Shelf, backend=backend, hostile=hostile) as world:
        await world.send("shelf/a", "put", {"a": 1, "b": {"deep": [1, 2]}, "c": None})
        assert await world.ask("shelf/a", "read", "b") == {"deep": [1, 2]}
        assert await world.ask("shelf/a", "read", "z") == "nothing"
        await world.send("shelf/a", "delete", ["a", "never there"])
        assert await world.query("shelf/a", "range", ["", None, 10]) == [["b", {"deep": [1, 2]}], ["c", None]]
        assert await world.query("shelf/a", "other") == [], "rows of another name are others"
        world.verify()


@both
async def test_ranges_are_in_order_and_half_open(backend: Backend) -> None:
    async with World(Shelf, backend=backend) as world:
        await world.send("shelf/a", "put", {key: key for key in ("b", "a", "ab", "é", "z", "0")})
        ranges: dict[tuple[str, str | None, int], list[str]] = {
            ("", None, 100): ["0", "a", "ab", "b", "z", "é"],
            ("a", "b", 100): ["a", "ab"],
            ("aa", None, 2): ["ab", "b"],
            ("", "0", 100): [],
        }
        for asked, keys in ranges.items():
            assert [key for key, _ in await world.query("shelf/a", "range", list(asked))] == keys


@both
async def test_an_event_reads_what_it_wrote_itself(backend: Backend) -> None:
    async with World(Shelf, backend=backend) as world:
        await world.send("shelf/a", "put", {"a": 1, "c": 3})
        await world.send("shelf/a", "append", ["before"])
        got = await world.ask("shelf/a", "own")
        assert got == ["mine", None, [["a", 1], ["b", "mine"]], ["before", "mine"]]


@both
async def test_two_events_of_one_batch_may_write_the_same_row(backend: Backend) -> None:
    async with World(Shelf, backend=backend) as world:
        asked = envelope("shelf/a", "read", "a", id="4", at=world)
        deleting = envelope("shelf/a", "delete", ["b"], id="3", at=world)
        await world.post(put(world, "1", a=1, b=1), put(world, "2", a=2), deleting, asked, put(world, "5", b=5))
        await world.run()
        assert told(world, "shelf/a", asked.event.key).value == b"2"
        assert await world.query("shelf/a", "range", ["", None, 10]) == [["a", 2], ["b", 5]]
        assert reasons(world, "shelf/a") == []
        world.verify()


async def test_what_fails_writes_nothing() -> None:
    async with World(Shelf) as world:
        await world.send("shelf/a", "failing")
        assert reasons(world, "shelf/a") == ["rejected"]
        assert world.history("shelf/a") == []
        assert await world.ask("shelf/a", "read", "lost") == "nothing"


@both
async def test_they_are_written_with_the_commit_or_not_at_all(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        await world.post(put(world, "1", a=1), envelope("shelf/a", "append", ["x"], id="2", at=world))
        await world.run()
        await world.post(put(world, "3", a=3), envelope("shelf/a", "append", ["y"], id="4", at=world))
        await world.run()
        assert world.history("shelf/a") == ["x", "y"]
        assert await world.query("shelf/a", "range", ["", None, 10]) == [["a", 3]]

    points = [point for point in FaultPoint if point.call in ("commit", "settle")]
    await sweep(scenario, Shelf, each=2, points=points, backend=backend)


async def test_reading_costs_one_request_and_only_who_reads_pays() -> None:
    async with World(Shelf) as world:
        await world.send("shelf/a", "put", {"a": 1})
        for type, data, calls in (
            ("quiet", None, ["load", "commit"]),
            ("put", {"b": 1}, ["load", "commit"]),
            ("append", [1], ["load", "commit"]),
            ("read", "a", ["load", "read", "commit"]),
        ):
            store = store_of(world)
            await dispatch(another(world, store=store), envelope("shelf/a", type, data, id=type, at=world))
            assert store.calls == calls


async def test_a_turn_costs_the_same_however_much_there_is() -> None:
    async with World(Shelf) as world:
        sizes: list[int] = []
        for round in range(3):
            for n in range(20):
                await world.send("shelf/a", "append", [f"{round} {n} {m}" for m in range(40)])
                await world.send("shelf/a", "put", {f"{round}{n}{m}": m for m in range(40)})
            store = store_of(world)
            await dispatch(
                another(world, store=store), envelope("shelf/a", "read", "0000", id=f"read {round}", at=world)
            )
            assert store.calls == ["load", "read", "commit"]
            snapshot = await world.partitions.store.load(A)
            sizes.append(len(snapshot.head or b""))
        assert max(sizes) - min(sizes) < 20, "nothing that grows lives in the head"
        assert len(world.history("shelf/a")) == 2400


# ---------------------------------------------------------------------------------------------------------- on record


async def test_a_row_is_committed_to_in_the_record() -> None:
    async with World(Shelf) as world:
        await world.send("shelf/a", "put", {"a": {"secret": 1}, "b": 2})
        await world.send("shelf/a", "delete", ["b"])
        written, deleted = world.entries("shelf/a", "rows.written")
        (row,) = await world.partitions.store.read(A, Kind.KEYED)
        salt, _, body = row.body.partition(b"\n")
        found = {(row["name"], row["key"]): row["hash"] for row in written["rows"]}
        assert found["books", "a"] == ledger.commit(bytes.fromhex(salt.decode()), body)
        assert deleted["rows"] == [{"name": "books", "key": "b", "hash": None}]
        assert b"secret" not in (await _record(world, 0)), "the record holds no content"


async def test_a_history_item_is_committed_to_in_the_record() -> None:
    async with World(Shelf) as world:
        await world.send("shelf/a", "append", ["one", "two"])
        await world.send("shelf/a", "append", ["three"])
        first, second = world.entries("shelf/a", "history.appended")
        assert (first["first"], second["first"]) == (0, 2)
        rows = await world.partitions.store.read(A, Kind.HISTORY)
        hashes = [
            ledger.commit(bytes.fromhex(salt.decode()), body)
            for salt, _, body in (row.body.partition(b"\n") for row in rows)
        ]
        assert hashes == first["hashes"] + second["hashes"]


async def _record(world: World, seq: int) -> bytes:
    found = await world.partitions.record(A, seq)
    assert found is not None
    return found[0]


# ------------------------------------------------------------------------------------------------------------ history


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_history_is_in_order_and_its_tail_is_the_latest(backend: Backend, hostile: bool) -> None:
    async with World(Shelf, backend=backend, hostile=hostile) as world:
        for n in range(0, 30, 3):
            await world.send("shelf/a", "append", [n, n + 1, n + 2])
        assert world.history("shelf/a") == list(range(30))
        for limit, expected in ((3, [27, 28, 29]), (0, []), (99, list(range(30)))):
            assert await world.query("shelf/a", "tail", limit) == expected


# -------------------------------------------------------------------------------------------------------------- state


@both
@pytest.mark.parametrize(("size", "inline"), [(0, True), (479 * 1024, True), (500 * 1024, False), (3_900_000, False)])
async def test_the_state_stays_in_the_head_up_to_480_kib(backend: Backend, size: int, inline: bool) -> None:
    async with World(Shelf, backend=backend) as world:
        await world.send("shelf/a", "state", size)
        await world.send("shelf/a", "quiet")
        snapshot = await world.partitions.store.load(A)
        assert (len(snapshot.head or b"") >= size) is inline
        assert len(world.state("shelf/a")["text"]) == size
        assert await world.ask("shelf/a", "state", 3) == 3, "and it comes back when it shrinks"
        assert len((await world.partitions.store.load(A)).head or b"") < 2000
        world.verify()


async def test_a_state_of_five_mebibytes_is_rejected() -> None:
    async with World(Shelf) as world:
        await world.send("shelf/a", "state", 1)
        await world.send("shelf/a", "state", 5 * 1024 * 1024)
        assert reasons(world, "shelf/a") == ["rejected"]
        assert "rows or history" in world.dead_letters("shelf/a")[0].error
        assert world.state("shelf/a") == {"text": "x"}
