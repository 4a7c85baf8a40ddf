"""Store, blobs and bus on one file, and what they do in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aos.embedded import Embedded
from aos.kernel.address import Address
from aos.kernel.errors import StoreUnavailable
from aos.kernel.ports import (
    Batch,
    Committed,
    Conflict,
    Delivery,
    Duplicate,
    IndexRow,
    Kind,
    Parcel,
    Settler,
    Unknown,
    Verb,
    Write,
)
from tests.storage.places import JumpingClock

A = Address.of("order", "1")
RECORD = Write(Verb.INSERT, "e0", b"record")
NEXT = Parcel("next", "default/order/2", b"next")
SHOWN = IndexRow("list", "key", 1, b"shown")


def made(path: Path) -> Embedded:
    return Embedded(path, clock=JumpingClock(), entropy=Zeros(), renew_every=None)


class Zeros:
    def bytes(self, n: int) -> bytes:
        return bytes(n)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[Embedded]:
    system = made(tmp_path / "aos.db")
    await system.open()
    yield system
    await system.close()


async def delivered(system: Embedded, session: str = A.log) -> Delivery:
    """A message in hand."""
    await system.bus.send([Parcel("first", session, b"first")])
    (held,) = await system.bus.accept(1)
    (delivery,) = await held.receive(10)
    return delivery


async def waiting(system: Embedded) -> list[str]:
    """The messages that are on the bus and in nobody's hand, by another client's eyes."""
    other = made(system.file.path)
    await other.open()
    found = [d.parcel.id for session in await other.bus.accept(100) for d in await session.receive(10)]
    await other.close()
    return found


async def everything(system: Embedded) -> tuple[bytes | None, int, int, list[str]]:
    """Head, records, list rows, messages."""
    await system.bus.close()
    head = (await system.store.load(A)).head
    records = len(await system.store.read(A, Kind.RECORD))
    return head, records, len(await system.store.index_list("list")), await waiting(system)


async def test_p32_a_settlement_is_one_transaction(system: Embedded) -> None:
    delivery = await delivered(system)
    commits: list[sqlite3.Connection] = []
    original = system.file._commit

    def counted(conn: sqlite3.Connection) -> None:
        commits.append(conn)
        original(conn)

    system.file._commit = counted
    settler: Settler = system
    answer = await settler.settle(A, Batch("t", None, b"head", (RECORD,)), [NEXT], [SHOWN], [delivery])
    assert answer == Committed("1")
    assert len(commits) == 1
    assert await everything(system) == (b"head", 1, 1, ["next"])


@pytest.mark.parametrize(
    ("batch", "wanted"),
    [
        (Batch("t", None, b"late", (RECORD,)), Conflict()),
        (Batch("t", "1", b"late", (RECORD,)), Duplicate(("e0",))),
        (Batch("t", "1", b"late", (Write(Verb.EXPECT, "e0", b"other"),)), Conflict()),
    ],
)
async def test_p32_a_refused_settlement_does_nothing(system: Embedded, batch: Batch, wanted: object) -> None:
    await system.store.commit(A, Batch("t", None, b"head", (RECORD,)))
    delivery = await delivered(system)
    assert await system.settle(A, batch, [NEXT], [SHOWN], [delivery]) == wanted
    assert await everything(system) == (b"head", 1, 0, ["first"])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_p32_a_settlement_whose_commit_failed_is_unknown_and_whole_or_not(system: Embedded, after: bool) -> None:
    delivery = await delivered(system)
    original = system.file._commit

    def fail(conn: sqlite3.Connection) -> None:
        if after:
            original(conn)
        raise sqlite3.OperationalError("disk I/O error")

    system.file._commit = fail
    answer = await system.settle(A, Batch("t", None, b"head", (RECORD,)), [NEXT], [SHOWN], [delivery])
    assert isinstance(answer, Unknown)
    system.file._commit = original
    assert await everything(system) == ((b"head", 1, 1, ["next"]) if after else (None, 0, 0, ["first"]))


async def test_a_delivery_whose_session_was_lost_is_left_alone(system: Embedded) -> None:
    delivery = await delivered(system)
    system.bus.die()
    assert await waiting(system) == ["first"]
    answer = await system.settle(A, Batch("t", None, b"head"), [], [], [delivery])
    assert answer == Committed("1")
    assert await waiting(system) == ["first"]


async def test_who_waits_for_a_message_is_told_of_a_settlement_s(tmp_path: Path) -> None:
    system = made(tmp_path / "aos.db")
    await system.open()
    waiter = asyncio.ensure_future(system.bus.accept(1, wait=1e9))
    await asyncio.sleep(0)
    await system.settle(A, Batch("t", None, b"head"), [NEXT], [], [])
    (session,) = await waiter
    assert session.name == NEXT.session
    await system.close()


async def test_settlements_of_many_agents_share_a_transaction(system: Embedded) -> None:
    agents = [Address.of("order", str(n)) for n in range(40)]
    batch = Batch("t", None, b"head", (RECORD,))
    answers = await asyncio.gather(
        *(system.settle(a, batch, [Parcel(a.key, a.log, b"")], [], []) for a in agents),
        system.settle(agents[0], batch, [NEXT], [], []),
    )
    assert answers == [Committed("1")] * 40 + [Conflict()]
    await system.bus.close()
    assert sorted(await waiting(system)) == sorted(agent.key for agent in agents)


async def test_closed_and_not_yet_open(tmp_path: Path) -> None:
    system = made(tmp_path / "aos.db")
    await system.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        await system.settle(A, Batch("t", None, b"head"), [], [], [])
