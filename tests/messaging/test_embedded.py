"""What is special about the embedded bus: the file, the leases, the thread, the shared transaction."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.errors import BusUnavailable
from aos.kernel.ports import LockLost, Parcel
from aos.messaging.conformance import ManualClock
from aos.messaging.embedded import EmbeddedBus, process, statements, table
from aos.sqlitefile import SqliteFile
from tests.messaging.benches import SharedFileBench


def new_file(path: Path) -> SqliteFile:
    return SqliteFile(path, clock=SystemClock(), entropy=SystemEntropy())


def new_bus(file: SqliteFile, clock: ManualClock, renew_every: float | None = None) -> EmbeddedBus:
    return EmbeddedBus(file, clock=clock, entropy=SystemEntropy(), renew_every=renew_every)


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    file = new_file(tmp_path / "aos.db")
    yield file
    await file.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


# ------------------------------------------------------------------------------------------- the file


async def test_survives_reopening(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock)
    await file.open()
    await bus.send([Parcel("now", "a", b"1"), Parcel("later", "a", b"2", clock.now() + 5000)])
    await bus.close()
    await file.close()
    again = new_file(file.path)
    bus = new_bus(again, clock)
    await again.open()
    (session,) = await bus.accept(1)
    assert [d.parcel for d in await session.receive(10)] == [Parcel("now", "a", b"1")]
    clock.advance(5)
    assert [d.parcel for d in await session.receive(10)] == [Parcel("later", "a", b"2")]
    await bus.close()
    await again.close()


async def test_p32_polling_writes_nothing(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock)
    await file.open()
    await bus.send([Parcel("later", "a", b"", clock.now() + 60_000)])
    watcher = sqlite3.connect(file.path)
    before = watcher.execute("PRAGMA data_version").fetchone()
    for _ in range(10):
        assert not await bus.accept(10)
    assert watcher.execute("PRAGMA data_version").fetchone() == before
    watcher.close()
    await bus.close()


@pytest.mark.parametrize(
    "name", [name for name in dir(statements) if name.isupper() and name not in ("TABLES", "VERSION", "DEPTH")]
)
def test_no_statement_scans_or_sorts(name: str) -> None:
    """Holders may be scanned: there are a few. Messages and sessions may not, but by DEPTH, which counts them."""
    conn = sqlite3.connect(":memory:")
    for statement in statements.TABLES:
        conn.execute(statement)
    statement: str = getattr(statements, name)
    plan = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}", [None] * statement.count("?"))]
    conn.close()
    allowed = ("SCAN bus_owner", "SCAN CONSTANT ROW", "SCAN (subquery-")
    assert not [step for step in plan if step.startswith("SCAN") and not step.startswith(allowed)], plan
    assert not [step for step in plan if "TEMP B-TREE" in step], plan


async def test_a_store_that_is_away_is_a_bus_that_is_away(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock)
    with pytest.raises(BusUnavailable):
        await bus.accept(1)
    with pytest.raises(BusUnavailable):
        await bus.send([Parcel("m", "a", b"")])
    await bus.close()


async def test_needs_its_tables(file: SqliteFile, clock: ManualClock) -> None:
    await file.open()
    with pytest.raises(RuntimeError, match="declared before"):
        new_bus(file, clock)


# ----------------------------------------------------------------------------------------- closing and dying


async def test_close_releases_everything_at_once(file: SqliteFile, clock: ManualClock) -> None:
    first, second = new_bus(file, clock, 3.0), new_bus(file, clock)
    await file.open()
    await first.send([Parcel("m", name, b"") for name in "abc"])
    held = await first.accept(2)
    await held[0].receive(1)
    await first.close()
    await first.close()
    sessions = await second.accept(5)
    assert sorted(session.name for session in sessions) == ["a", "b", "c"]
    assert [d.count for session in sessions for d in await session.receive(1)] == [1, 1, 1]
    await held[0].release()
    for call in (first.accept(1), first.send([]), held[0].receive(1), held[0].renew()):
        with pytest.raises((BusUnavailable, LockLost)):
            await call
    await second.close()


async def test_close_wakes_who_waits(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock)
    await file.open()
    waiting = asyncio.ensure_future(bus.accept(1, wait=100))
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(waiting, 5)


async def test_a_client_that_died_is_taken_over_at_once(file: SqliteFile, clock: ManualClock) -> None:
    first, second = new_bus(file, clock), new_bus(file, clock)
    await file.open()
    await first.send([Parcel("m", "a", b"")])
    (stale,) = await first.accept(1)
    await stale.receive(1)
    assert not await second.accept(1)
    first.die()
    (session,) = await second.accept(1)
    assert [d.count for d in await session.receive(1)] == [2]
    await second.close()


async def test_a_close_that_fails_leaves_its_leases_to_others(file: SqliteFile, clock: ManualClock) -> None:
    first, second = new_bus(file, clock), new_bus(other := new_file(file.path), clock)
    await file.open()
    await other.open()
    await first.send([Parcel("m", "a", b"")])
    await first.accept(1)
    await file.close()
    await first.close()
    assert [session.name for session in await second.accept(1)] == ["a"]
    await second.close()
    await other.close()


@pytest.mark.parametrize("others", [0, 3])
async def test_an_accept_that_was_cancelled_leaves_nothing_locked(tmp_path: Path, others: int) -> None:
    """Wherever it is cut: while it waits for other writes, before its transaction, in the commit, after it."""
    async with SharedFileBench(tmp_path / "aos.db") as bench:
        bus = await bench.open()
        later = [Parcel("later", "b", b"", bench.now() + 1000)]
        for steps in range(1, 25):
            await bus.send([Parcel("m", "a", b"")])
            writes = [asyncio.ensure_future(bus.send(later)) for _ in range(others)]
            for _ in range(2 if others else 0):
                await asyncio.sleep(0)
            accepting = asyncio.ensure_future(bus.accept(1))
            for _ in range(steps):
                await asyncio.sleep(0)
            accepting.cancel()
            await asyncio.wait([accepting, *writes])
            sessions = await bus.accept(1) if accepting.cancelled() else accepting.result()
            assert [session.name for session in sessions] == ["a"], f"cut after {steps} steps"
            await sessions[0].complete(await sessions[0].receive(10))
            await sessions[0].release()


async def test_a_release_that_failed_is_made_good(
    file: SqliteFile, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = new_bus(file, clock)
    await file.open()
    await bus.send([Parcel("m", "a", b"")])
    (session,) = await bus.accept(1)
    with monkeypatch.context() as patch:
        patch.setattr(table, "release", _fail)
        with pytest.raises(sqlite3.Error):
            await session.release()
    assert [session.name for session in await bus.accept(1)] == ["a"]
    await bus.close()


def _fail(*_: object) -> bool:
    raise sqlite3.Error("injected")


# ------------------------------------------------------------------------------------- the shared transaction


async def test_put_and_finish_are_part_of_the_callers_transaction(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock)
    await file.open()
    await bus.send([Parcel("in", "a", b"")])
    (session,) = await bus.accept(1)
    got = await session.receive(1)

    def settle(conn: sqlite3.Connection, *, fails: bool) -> None:
        bus.put(conn, [Parcel("out", "b", b""), Parcel("timer", "c", b"", clock.now() + 1000)])
        bus.finish(conn, got)
        if fails:
            raise ValueError("after it has written")

    with pytest.raises(ValueError, match="after"):
        await file.write(lambda conn: settle(conn, fails=True))
    assert not await bus.accept(9)
    assert not await session.receive(9), "what is in hand was handed out again"
    await file.write(lambda conn: settle(conn, fails=False))
    assert not await session.receive(9)
    await session.release()
    assert [session.name for session in await bus.accept(9)] == ["b"]
    clock.advance(1)
    assert [session.name for session in await bus.accept(9)] == ["c"]
    await bus.close()


async def test_notify_wakes_accept(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock)
    await file.open()
    waiting = asyncio.ensure_future(bus.accept(1, wait=100))
    await asyncio.sleep(0)
    await file.write(lambda conn: bus.put(conn, [Parcel("m", "a", b"")]))
    bus.notify()
    assert [session.name for session in await asyncio.wait_for(waiting, 5)] == ["a"]
    await bus.close()


async def test_finish_leaves_alone_what_was_lost(file: SqliteFile, clock: ManualClock) -> None:
    first, second = new_bus(file, clock), new_bus(file, clock)
    await file.open()
    await first.send([Parcel("m", "a", b""), Parcel("m", "b", b"")])
    lost, kept = await first.accept(2)
    got = [*await lost.receive(1), *await kept.receive(1)]
    clock.advance(11)
    taken = await second.accept(1)
    await taken[0].release()
    await file.write(lambda conn: first.finish(conn, got))
    left = [d.parcel.session for session in await second.accept(5) for d in await session.receive(5)]
    assert sorted(left) == ["a", "b"], "a stale holder completed something"
    await first.close()
    await second.close()


# ------------------------------------------------------------------------------------- the renewing thread


async def test_p24_a_blocked_loop_keeps_its_leases(file: SqliteFile, clock: ManualClock) -> None:
    first, second = new_bus(file, clock, renew_every=0.005), new_bus(file, clock)
    await file.open()
    await first.send([Parcel("m", "a", b"")])
    (session,) = await first.accept(1)
    watcher = sqlite3.connect(file.path, timeout=5)
    for _ in range(5):  # without a single await: the loop stands still for 45 s
        clock.advance(9)
        deadline = time.monotonic() + 10
        while watcher.execute("SELECT until FROM bus_owner").fetchone()[0] < clock.now() + 10_000:
            assert time.monotonic() < deadline, "the lease was not renewed"
            time.sleep(0.002)
    watcher.close()
    assert not await second.accept(1)
    assert [d.count for d in await session.receive(1)] == [1]
    await session.release()
    await first.close()
    await second.close()


async def test_p24_nothing_is_renewed_while_nothing_is_held(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock, renew_every=0.001)
    await file.open()
    await bus.send([Parcel("m", "a", b"")])
    (session,) = await bus.accept(1)
    await session.complete(await session.receive(1))
    await session.release()
    before = file.read("SELECT until FROM bus_owner")
    clock.advance(5)
    await asyncio.sleep(0.05)
    assert file.read("SELECT until FROM bus_owner") == before
    await bus.close()


async def test_p24_a_renewal_waits_for_other_writers(file: SqliteFile, clock: ManualClock) -> None:
    bus = new_bus(file, clock, renew_every=0.001)
    await file.open()
    await bus.send([Parcel("m", "a", b"")])
    await bus.accept(1)
    other = sqlite3.connect(file.path, isolation_level=None, timeout=5)
    other.execute("BEGIN IMMEDIATE")
    clock.advance(5)
    await asyncio.sleep(0.02)
    other.execute("COMMIT")
    async with asyncio.timeout(10):
        while file.read("SELECT until FROM bus_owner") != [(clock.now() + 10_000,)]:
            await asyncio.sleep(0.002)
    other.close()
    await bus.close()


async def test_p24_a_renewal_that_fails_is_reported_and_tried_again(
    file: SqliteFile, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bus = new_bus(file, clock, renew_every=0.001)
    await file.open()
    await bus.send([Parcel("m", "a", b"")])
    await bus.accept(1)
    await file.write(lambda conn: conn.execute("ALTER TABLE bus_owner RENAME TO away"))
    async with asyncio.timeout(10):
        while "could not be renewed" not in caplog.text:
            await asyncio.sleep(0.002)
    await file.write(lambda conn: conn.execute("ALTER TABLE away RENAME TO bus_owner"))
    clock.advance(5)
    async with asyncio.timeout(10):
        while file.read("SELECT until FROM bus_owner") != [(clock.now() + 10_000,)]:
            await asyncio.sleep(0.002)
    await bus.close()


# ------------------------------------------------------------------------------------------ much at once


async def test_a_storm_of_timers(file: SqliteFile, clock: ManualClock) -> None:
    """More become due at once than one transaction makes due; the holder of a session gets its own among them."""
    bus = new_bus(file, clock)
    await file.open()
    due = clock.now() + 1000
    await bus.send([Parcel(f"{n}", f"s{n % 300}", b"", due) for n in range(1200)] + [Parcel("now", "last", b"")])
    await bus.send([Parcel("timer", "last", b"", due)])
    (session,) = await bus.accept(5)
    assert [d.parcel.id for d in await session.receive(5)] == ["now"]
    clock.advance(1)
    assert [d.parcel.id for d in await session.receive(5)] == ["timer"]
    drained = 0
    while sessions := await bus.accept(50):
        for held in sessions:
            got = await held.receive(32)
            drained += len(got)
            await held.complete(got)
            await held.release()
    assert drained == 1200
    await bus.close()


def test_what_is_read_ahead_is_bounded() -> None:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements.TABLES:
        conn.execute(statement)
    for name, size in (("small", 10), ("big", 200 * 1024)):
        table.put(conn, [Parcel(f"{n}", name, bytes(size)) for n in range(100)], 0)
    grants = [table.grant(conn, table.Lease(name, 1, n)) for n, name in enumerate(table.free_sessions(conn, 9))]
    assert [len(grant.messages) for grant in grants] == [32, 2]
    conn.close()


async def test_a_backlog_is_received_in_portions(file: SqliteFile, clock: ManualClock) -> None:
    """More than is read ahead, in hand all at once."""
    bus = new_bus(file, clock)
    await file.open()
    await bus.send([Parcel(f"{n}", "a", bytes(20_000)) for n in range(100)])
    (session,) = await bus.accept(1)
    received: list[str] = []
    while got := await session.receive(9):
        assert len(got) <= 9
        received.extend(d.parcel.id for d in got)
    assert received == [f"{n}" for n in range(100)]
    await bus.close()


# ------------------------------------------------------------------------------------------ processes


def test_p31_who_is_dead() -> None:
    client = process.new_client()
    place, pid, _, _ = client.split(" ")
    assert int(pid) == os.getpid()
    assert not process.is_dead(client)
    assert not process.is_dead(process.new_client())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        name = f"{place} {child.pid} {process._start(child.pid)} 1"
        assert not process.is_dead(name)
        assert process.is_dead(f"{place} {child.pid} 1 1"), "the pid was given to another process"
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.is_dead(name), "a zombie never runs again"
        child.wait()
        assert process.is_dead(name)
        assert not process.is_dead(name.replace(place, "elsewhere")), "that can't be known from here"
        assert not process.is_dead(f"- {child.pid} - 1"), "that can't be known without /proc"
    finally:
        child.communicate()
    process.declare_dead(client)
    assert process.is_dead(client)
