"""P28: lists are made of index rows that only a later turn replaces; what is open has a row of its own."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel import index
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import Reject
from aos.kernel.ports import IndexRow
from aos.testing import FaultPoint, World, sweep
from tests.protocol.agents import Backend, both, envelope
from tests.protocol.rivals import another, crash, dies, dispatch, store_of


class Seen(BaseModel):
    events: int = 0


class Item(Agent[Seen]):
    def __init__(self) -> None:
        self.mended = False

    @on("touch")
    def touch(self, ctx: Context[Seen]) -> None:
        ctx.state.events += 1

    @on("spoil")
    def spoil(self, ctx: Context[Seen]) -> None:
        if not self.mended:
            raise Reject("spoilt")


AGENTS = index.agents_partition("default", "item")
DEAD, OPEN = index.dead_partition("default"), index.open_partition("default")


async def listed(world: World, partition: str, limit: int = 100) -> list[Any]:
    rows = await world.partitions.store.index_list(partition, limit=limit)
    return [json.loads(row.body or b"null") for row in rows]


async def keys(world: World, partition: str) -> list[str]:
    return [row.key for row in await world.partitions.store.index_list(partition)]


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_agents_are_listed_by_type_the_newest_first(backend: Backend, hostile: bool) -> None:
    async with World(Item, backend=backend, hostile=hostile) as world:
        for n in range(4):
            await world.send(f"item/{n}", "touch")
            await world.advance(timedelta(seconds=1))
        await world.send("schedule/s", "schedule.delete")
        assert [row["agent"] for row in await listed(world, AGENTS)] == ["item/3", "item/2", "item/1", "item/0"]
        assert {row["life"] for row in await listed(world, AGENTS)} == {"active"}


@both
async def test_a_list_comes_in_pages(backend: Backend) -> None:
    async with World(Item, backend=backend) as world:
        for n in range(7):
            await world.send(f"item/{n}", "touch")
            await world.advance(timedelta(seconds=1))
        found: list[str] = []
        after = ""
        while page := await world.partitions.store.index_list(AGENTS, after, limit=3):
            found += [json.loads(row.body or b"")["agent"] for row in page]
            after = page[-1].key
        assert found == [f"item/{n}" for n in reversed(range(7))]


async def test_a_row_is_written_only_when_an_indexed_field_changed() -> None:
    async with World(Item) as world:
        await world.send("item/a", "touch")
        store = store_of(world)
        process = another(world, store=store)
        for n in range(3):
            await dispatch(process, envelope("item/a", "touch", id=str(n), at=world))
        assert "index_put" not in store.calls
        await dispatch(process, envelope("item/a", "spoil", id="spoil", at=world))
        assert store.calls.count("index_put") == 1


async def test_it_keeps_its_key_for_life() -> None:
    async with World(Item) as world:
        await world.send("item/a", "touch")
        first = await keys(world, AGENTS)
        for command in ("aos.suspend", "aos.resume", "aos.terminate"):
            await world.advance(timedelta(hours=1))
            await world.command("item/a", command)
            assert await keys(world, AGENTS) == first
        assert [row["life"] for row in await listed(world, AGENTS)] == ["terminated"]


@both
async def test_a_dead_letter_is_in_two_lists_until_it_is_dealt_with(backend: Backend) -> None:
    item = Item()
    async with World(item, backend=backend) as world:
        sent = [await world.send("item/a", "spoil") for _ in range(3)]
        assert [row["open"] for row in await listed(world, DEAD)] == [True] * 3
        assert {row["key"] for row in await listed(world, OPEN)} == set(sent)
        assert [row["dead"] for row in await listed(world, AGENTS)] == [3]
        all_keys = sorted(await keys(world, DEAD))
        await world.command("item/a", "aos.dead_letter.discard", {"key": sent[0]})
        item.mended = True
        await world.command("item/a", "aos.dead_letter.redrive", {"key": sent[1]})
        assert [row["key"] for row in await listed(world, OPEN)] == [sent[2]]
        assert sorted(bool(row["open"]) for row in await listed(world, DEAD)) == [False, False, True]
        assert sorted(await keys(world, DEAD)) == all_keys
        assert [row["dead"] for row in await listed(world, AGENTS)] == [1]


async def test_dead_letters_are_listed_the_newest_first() -> None:
    async with World(Item) as world:
        sent: list[str] = []
        for n in range(3):
            sent.append(await world.send(f"item/{n}", "spoil"))
            await world.advance(timedelta(seconds=1))
        assert [row["key"] for row in await listed(world, DEAD)] == sent[::-1]
        assert [row["key"] for row in await listed(world, OPEN)] == sent[::-1]


@both
async def test_an_older_row_never_replaces_a_newer_one(backend: Backend) -> None:
    async with World(Item, backend=backend) as world:
        put = world.partitions.store.index_put
        await put([IndexRow("p", "k", 5, b'"new"'), IndexRow("p", "gone", 7, None)])
        await put([IndexRow("p", "k", 4, b'"old"'), IndexRow("p", "k", 5, b'"same"'), IndexRow("p", "gone", 6, b"1")])
        assert await listed(world, "p") == ["new"]
        await put([IndexRow("p", "k", 6, b'"newer"'), IndexRow("p", "gone", 8, b'"back"')])
        assert sorted(await listed(world, "p")) == ["back", "newer"]


async def test_an_outbox_that_is_delivered_late_does_not_reopen_what_is_closed() -> None:
    async with World(Item) as world:
        await world.send("item/a", "touch")
        spoil = envelope("item/a", "spoil", at=world)
        stale: list[Any] = []
        inner = world.partitions.store

        class Late:
            """Keeps the list rows back, as a process does that hangs before it puts them."""

            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            async def index_put(self, rows: Any) -> None:
                stale.extend(rows)

        await dispatch(another(world, store=Late()), spoil)
        await world.command("item/a", "aos.dead_letter.discard", {"key": spoil.event.key})
        await inner.index_put(stale)
        assert await listed(world, OPEN) == []
        assert [row["open"] for row in await listed(world, DEAD)] == [False]
        assert [row["dead"] for row in await listed(world, AGENTS)] == [0]


async def test_what_a_crash_left_is_listed_by_the_redelivery() -> None:
    async with World(Item) as world:
        await world.send("item/a", "touch")
        spoil = envelope("item/a", "spoil", at=world)
        await dies(another(world, store=store_of(world).before("index_put", crash)), spoil)
        assert await listed(world, OPEN) == []
        await dispatch(another(world), spoil, count=2)
        assert [row["key"] for row in await listed(world, OPEN)] == [spoil.event.key]


@both
async def test_the_lists_are_right_under_every_fault(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        await world.send("item/a", "touch")
        first = await world.send("item/a", "spoil")
        second = await world.send("item/a", "spoil")
        await world.command("item/a", "aos.dead_letter.discard", {"key": first})
        await world.advance(timedelta(minutes=10))
        assert [row["key"] for row in await listed(world, OPEN)] == [second]
        assert [(row["life"], row["dead"]) for row in await listed(world, AGENTS)] == [("active", 1)]

    calls = ("commit", "send", "index", "forget") if backend == "memory" else ("settle",)
    points = [point for point in FaultPoint if point.call in calls]
    await sweep(scenario, Item, points=points, backend=backend)
