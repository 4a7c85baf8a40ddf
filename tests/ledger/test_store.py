"""Verification of a store: whatever was changed behind the kernel's back is found, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from aos.audit import verify_agent
from aos.exporting import PAGE
from aos.kernel import layout, ledger
from aos.kernel.address import Address
from aos.kernel.errors import StoreUnavailable
from aos.kernel.ledger import Payload
from aos.kernel.ports import Kind, Snapshot, Store
from aos.kernel.receipt import Receipt, Status
from aos.testing import World
from tests.ledger.desk import DESK, Add, Desk, audit, behead, delete, put, replace, row, set_head, work

TURNS = 5


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with World(Desk, backend=request.param) as world:
        await work(world, TURNS)
        yield world


@pytest.fixture
async def desk() -> AsyncIterator[World]:
    async with World(Desk) as world:
        await work(world, TURNS)
        yield world


async def test_what_was_only_worked_with_is_whole(world: World) -> None:
    result = await audit(world)
    assert (result.exit, result.bad, result.records, result.payloads) == (0, None, TURNS, 2 * TURNS)
    assert result.head == (await world.partitions.load(DESK)).head.hash  # pyright: ignore[reportOptionalMemberAccess]


async def test_more_than_a_page_of_everything() -> None:
    async with World(Desk) as world:
        await work(world, PAGE + 7)
        assert (await audit(world)).records == PAGE + 7
        await delete(world, layout.history(PAGE + 1))
        assert seq(await audit(world)) == (PAGE + 1) // 2


async def test_hostile_worlds_are_whole() -> None:
    async with World(Desk, hostile=True) as world:
        await work(world, 3)
        assert (await audit(world)).exit == 0


async def test_big_payloads_and_states_in_blobs() -> None:
    async with World(Desk) as world:
        await world.ask(DESK, "desk.add", Add(filling="x" * 600_000))
        assert (await row(world, layout.record(0))).body[:1] == b"@"
        assert (await audit(world)).exit == 0
        for name in await world.partitions.blobs.list(DESK.log):
            kept = await world.partitions.blobs.get(name)
            assert kept is not None
            await world.partitions.blobs.delete(name)
            assert (await audit(world)).exit == 1, "what a row refers to was deleted, not unavailable"
            await world.partitions.blobs.put(name, kept + b"x" if name.endswith("/0") else b"\x00" + kept[1:-1])
            assert (await audit(world)).exit == 1
            await world.partitions.blobs.delete(name)
            await world.partitions.blobs.put(name, kept)
        assert (await audit(world)).exit == 0


async def test_an_agent_that_never_was(desk: World) -> None:
    result = await audit(desk, Address.of("desk", "nobody"))
    assert (result.exit, result.bad) == (2, None)


# ------------------------------------------------------------------------------------------------ what was changed

Change = Callable[[World], Awaitable[Any]]


async def cut_tail(world: World) -> None:
    """The last record goes, and the head says what it said before."""
    snapshot = await world.partitions.store.load(DESK)
    await work(world, 1)
    await delete(world, layout.record(TURNS))
    assert snapshot.head is not None
    await set_head(world, snapshot.head)


async def relink(world: World) -> None:
    """The link of the last record, by one digit."""
    link = json.loads(ledger.unpack((await row(world, layout.record(4))).body)[0])["prev"]
    await replace(world, layout.record(4), link.encode(), link[1:].encode() + b"0")


async def swap(world: World) -> None:
    first, second = await row(world, layout.record(1)), await row(world, layout.record(2))
    await put(world, first.key, second.body)
    await put(world, second.key, first.body)


async def another(world: World) -> None:
    """The record of another agent in the place of one of ours."""
    other = Address.of("desk", "other")
    await work(world, 3, other)
    (found,) = await world.partitions.store.read(other, Kind.RECORD, layout.number(2), limit=1)
    await put(world, layout.record(2), found.body)


async def wipe(world: World) -> None:
    """A payload's bytes go, and no entry says so."""
    data, payloads = ledger.unpack((await row(world, layout.record(2))).body)
    await put(world, layout.record(2), ledger.pack(data, [Payload(bytes(32), None), payloads[1]]))


async def drop_payload(world: World) -> None:
    data, payloads = ledger.unpack((await row(world, layout.record(2))).body)
    await put(world, layout.record(2), ledger.pack(data, payloads[:1]))


async def add_payload(world: World) -> None:
    data, payloads = ledger.unpack((await row(world, layout.record(2))).body)
    await put(world, layout.record(2), ledger.pack(data, [*payloads, Payload(bytes(32), b"forged")]))


async def shorten(world: World) -> None:
    await put(world, layout.record(2), (await row(world, layout.record(2))).body[:-1])


async def refer(world: World) -> None:
    receipt = Receipt(attempt=1, status=Status.HANDLED, request="", turn="", seq=TURNS)
    await put(world, layout.receipt("0" * 64), receipt.encode())


CHANGES: dict[str, tuple[Change, int | None, str]] = {
    "a record": (lambda w: replace(w, layout.record(2), b'"ms":0', b'"ms":9'), 2, "not those that record 3 links to"),
    "the first record": (lambda w: replace(w, layout.record(0), b'"ms":0', b'"ms":9'), 0, "record 1 links to"),
    "the last record": (lambda w: replace(w, layout.record(4), b'"ms":0', b'"ms":9'), 4, "head refers to other bytes"),
    "the last link": (relink, 4, "it does not link to record 3"),
    "a record deleted": (lambda w: delete(w, layout.record(2)), 2, "its row was deleted"),
    "the first record deleted": (lambda w: delete(w, layout.record(0)), 0, "its row was deleted"),
    "the last record deleted": (lambda w: delete(w, layout.record(4)), 4, "the head knows of 5 records"),
    "all records deleted": (lambda w: delete(w, *map(layout.record, range(5))), 0, "the head knows of 5 records"),
    "two records swapped": (swap, 1, "it is missing"),
    "another agent's record": (another, 2, "a record of the log 'default/desk/other' stands in its place"),
    "the tail cut and the head put back": (cut_tail, 5, "the receipt"),
    "a row cut": (shorten, 2, "cut"),
    "a row of junk": (lambda w: put(w, layout.record(2), b"junk"), 2, "cut"),
    "a row that is no record's": (lambda w: put(w, "ex", b"junk"), 5, "the head does not know of it"),
    "a payload": (lambda w: replace(w, layout.record(2), b'{"by":1', b'{"by":2'), 2, "payload 1 of 2"),
    "a payload wiped": (wipe, 2, "no `erased` entry says so"),
    "a payload dropped": (drop_payload, 2, "no `erased` entry says so"),
    "a payload more": (add_payload, 2, "a payload that it does not commit to"),
    "the state": (lambda w: behead(w, b'"total":5', b'"total":6'), 4, "the live state is not the one"),
    "the life cycle": (lambda w: behead(w, b'"active"', b'"suspended"'), 4, "the live state is not the one"),
    "the head's sequence raised": (lambda w: behead(w, b'"seq":5', b'"seq":6'), 5, "the head knows of 6 records"),
    "the head's sequence lowered": (lambda w: behead(w, b'"seq":5', b'"seq":4'), 4, "the head does not know of it"),
    "the head's salt": (lambda w: behead(w, b'"salt":"', b'"salt":"00'), 4, "the live state is not the one"),
    "the head": (lambda w: set_head(w, b"junk"), None, "the head was deleted, can't be read"),
    "a history item": (lambda w: replace(w, layout.history(4), b'"by":1', b'"by":2'), 2, "history item 4"),
    "a history item deleted": (
        lambda w: delete(w, layout.history(4)),
        2,
        "history item 4, which it wrote, was deleted",
    ),
    "a history item erased": (lambda w: put(w, layout.history(4), b"\nnull"), 2, "no `erased` entry says so"),
    "a history item added": (lambda w: put(w, layout.history(10), b"00\n1"), None, "no record wrote it"),
    "a row": (lambda w: replace(w, layout.keyed("sums", "k4"), b"\n4", b"\n5"), 3, "the row sums|k4, which it wrote"),
    "a row's earlier value": (lambda w: put(w, layout.keyed("sums", "latest"), b"00\n1"), 4, "was changed"),
    "a row deleted": (lambda w: delete(w, layout.keyed("sums", "k4")), 3, "was deleted"),
    "a row added": (lambda w: put(w, layout.keyed("sums", "forged"), b"00\n1"), None, "but no record says so"),
    "a row of junk added": (lambda w: put(w, layout.keyed("sums", "forged"), b"junk"), None, "but no record says so"),
    "a deleted row put back": (lambda w: put(w, layout.keyed("sums", "k2"), b"00\n2"), None, "but no record says so"),
    "a receipt of a record that is not there": (refer, 5, "the receipt 0000"),
    "a receipt of junk": (lambda w: put(w, layout.receipt("0" * 64), b"junk"), None, "can't be read"),
}


@pytest.mark.parametrize(("change", "bad", "what"), CHANGES.values(), ids=CHANGES.keys())
async def test_what_was_changed_is_found(desk: World, change: Change, bad: int | None, what: str) -> None:
    await change(desk)
    result = await audit(desk)
    assert result.exit == 1
    assert result.bad is not None
    assert (result.bad.seq, what in result.bad.what) == (bad, True), result


async def test_in_sqlite_as_well(world: World) -> None:
    await replace(world, layout.record(2), b'"ms":0', b'"ms":9')
    assert seq(await audit(world)) == 2


# ----------------------------------------------------------------------------------------------- what was erased


async def test_erasure_is_accepted_and_said(world: World) -> None:
    await world.command(DESK, "aos.erase", {"first": 1, "last": 2})
    result = await audit(world)
    assert (result.exit, result.erased) == (0, 4 + 4), "two payloads and two history items a record"
    await world.command(DESK, "aos.erase", {"first": 0, "last": 5})
    assert (await audit(world)).exit == 0


async def test_erasure_of_big_payloads() -> None:
    async with World(Desk) as world:
        await world.ask(DESK, "desk.add", Add(filling="x" * 300_000))
        await work(world, 2)
        await world.command(DESK, "aos.erase", {"first": 0, "last": 2})
        assert (await audit(world)).exit == 0


# ------------------------------------------------------------------------------------------- while others go on


class Busy:
    """A store in which a turn happens before each of so many reads."""

    def __init__(self, world: World, turns: int) -> None:
        self._store = world.partitions.store
        self._world = world
        self._turns = turns

    async def load(self, agent: Address) -> Snapshot:
        await self._turn()
        return await self._store.load(agent)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        await self._turn()
        return await self._store.read(*args, **kwargs)

    async def _turn(self) -> None:
        if self._turns:
            self._turns -= 1
            await work(self._world, 1)


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 13, 21])
async def test_turns_that_happen_meanwhile_are_no_tampering(turns: int) -> None:
    async with World(Desk) as world:
        await work(world, 3)
        store = cast("Store", Busy(world, turns))
        result = await verify_agent(store, world.partitions.blobs, DESK)
        assert (result.exit, result.bad) == (0, None)


async def test_a_row_that_never_stands_still_is_not_called_tampered() -> None:
    async with World(Desk) as world:
        await work(world, 3)
        result = await verify_agent(cast("Store", Busy(world, 10_000)), world.partitions.blobs, DESK)
        assert result.bad is None


async def test_an_erasure_that_happens_meanwhile_is_no_tampering() -> None:
    async with World(Desk) as world:
        await work(world, 3)

        class Erasing(Busy):
            async def _turn(self) -> None:
                self._turns += 1
                if self._turns == 6:
                    await world.command(DESK, "aos.erase", {"first": 0, "last": 2})

        result = await verify_agent(cast("Store", Erasing(world, 0)), world.partitions.blobs, DESK)
        assert (result.exit, result.erased > 0) == (0, True)


# --------------------------------------------------------------------------------------------------- unavailable


class Broken:
    """A store that can't be read from some call on."""

    def __init__(self, store: Store, left: int) -> None:
        self._store = store
        self._left = left

    def __getattr__(self, name: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise StoreUnavailable("the disk is gone")
        return getattr(self._store, name)


async def test_a_store_that_can_not_be_read_is_unavailable(desk: World) -> None:
    calls = 0
    while True:
        try:
            store = cast("Store", Broken(desk.partitions.store, calls))
            assert (await verify_agent(store, desk.partitions.blobs, DESK)).exit == 0
            break
        except StoreUnavailable:
            calls += 1
    assert calls > 4


def seq(result: Any) -> int | None:
    assert result.bad is not None
    return result.bad.seq
