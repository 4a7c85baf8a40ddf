"""P32: where store and bus share a file, a turn, its messages and its completions are one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aos.embedded import Embedded
from aos.kernel.address import Address
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.ports import Batch, Committed, Conflict, IndexRow, Parcel, Verb, Write
from aos.testing import Fault, FaultPoint, ManualClock, SeededEntropy, World, sweep
from tests.protocol.agents import Add, Count, Counter
from tests.protocol.rivals import outbox


class Teller(Agent[Count]):
    """Tells the counter, and counts its own runs outside of any transaction."""

    def __init__(self) -> None:
        self.ran = 0

    @on("teller.tell")
    def tell(self, data: Add, ctx: Context[Count]) -> int:
        self.ran += 1
        ctx.state.runs += 1
        ctx.send("counter/a", "counter.add", data)
        return ctx.state.runs


@asynccontextmanager
async def embedded(path: Path) -> AsyncIterator[Embedded]:
    opened = Embedded(path / "aos.db", clock=ManualClock(), entropy=SeededEntropy(), renew_every=None)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def batch(turn: str, expected: str | None = None) -> Batch:
    return Batch(turn, expected, turn.encode(), (Write(Verb.INSERT, f"e{turn}", b"record"),))


# ------------------------------------------------------------------------------------------------------ one transaction


@pytest.mark.parametrize(
    ("point", "ran"), [(FaultPoint.SETTLE_BEFORE, 2), (FaultPoint.SETTLE_LOST, 2), (FaultPoint.SETTLE_AFTER, 1)]
)
async def test_a_crash_is_before_all_of_it_or_after_all_of_it(point: FaultPoint, ran: int) -> None:
    teller = Teller()
    async with World(teller, Counter, backend="sqlite", fault=Fault(point)) as world:
        await world.send("teller/a", "teller.tell", Add(by=1))
        assert teller.ran == ran, "what was settled is not delivered again"
        assert world.state("teller/a")["runs"] == 1
        assert world.state("counter/a")["total"] == 1
        assert outbox(world, "teller/a") == []
        world.verify()


async def test_everything_survives_every_fault_with_and_without_it() -> None:
    async def scenario(world: World) -> None:
        assert await world.ask("teller/a", "teller.tell", Add(by=1)) == 1
        await world.send("teller/a", "teller.tell", Add(by=1))
        await world.advance(timedelta(minutes=5))
        assert world.state("counter/a")["total"] == 2
        assert world.state("teller/a")["runs"] == 2

    together = await sweep(scenario, Teller, Counter, backend="sqlite", each=1)
    apart = await sweep(scenario, Teller, Counter, backend="sqlite", each=1, settle_together=False)
    assert FaultPoint.COMMIT_BEFORE in together.missing
    assert FaultPoint.SETTLE_BEFORE in apart.missing


async def test_hostile_mode_runs_without_it() -> None:
    async with World(Teller, Counter, backend="sqlite", hostile=True) as world:
        for _ in range(5):
            await world.send("teller/a", "teller.tell", Add(by=1))
        assert world.faults.passed[FaultPoint.SETTLE_BEFORE] == 0
        assert world.faults.passed[FaultPoint.COMMIT_BEFORE] > 0
        assert world.state("counter/a")["total"] == 5


async def test_of_a_conflict_nothing_happens(tmp_path: Path) -> None:
    async with embedded(tmp_path) as file:
        agent = Address.parse("a/a")
        await file.bus.send([Parcel("in", agent.log, b"in")])
        (session,) = await file.bus.accept(1)
        (delivery,) = await session.receive(1)
        parcel, row = Parcel("out", "default/b/b", b"out"), IndexRow("list", "key", 1, b"1")
        assert await file.settle(agent, batch("0", "never"), [parcel], [row], [delivery]) == Conflict()
        assert await file.bus.accept(9) == [], "nothing was sent"
        assert await file.store.index_list("list") == ()
        await session.abandon([delivery])
        (again,) = await session.receive(9)
        assert again.parcel.id == "in", "nothing was completed"
        assert isinstance(await file.settle(agent, batch("1"), [parcel], [row], [again]), Committed)
        await session.release()
        assert [held.name for held in await file.bus.accept(9)] == ["default/b/b"]
        assert len(await file.store.index_list("list")) == 1


# ------------------------------------------------------------------------------------------------------- group commit


async def test_one_turns_conflict_does_not_touch_its_neighbours(tmp_path: Path) -> None:
    async with embedded(tmp_path) as file:
        agents = [Address.of("a", str(n)) for n in range(20)]
        wrong = {3, 4, 11}
        answers = await asyncio.gather(
            *(
                file.settle(agent, batch("1", "old" if n in wrong else None), [Parcel(f"{n}", agent.log, b"")], [], [])
                for n, agent in enumerate(agents)
            )
        )
        assert {n for n, answer in enumerate(answers) if isinstance(answer, Conflict)} == wrong
        assert {agent.key for agent in await file.store.agents()} == {str(n) for n in range(20) if n not in wrong}
        assert len(await file.bus.accept(99)) == 17


async def test_a_bug_in_one_turn_does_not_touch_its_neighbours(tmp_path: Path) -> None:
    async with embedded(tmp_path) as file:
        twice = Batch("1", None, b"head", (Write(Verb.PUT, "ra", b"1"), Write(Verb.PUT, "ra", b"2")))
        jobs: list[Any] = [file.settle(Address.of("a", str(n)), batch("1"), [], [], []) for n in range(8)]
        jobs.insert(4, file.settle(Address.of("a", "bug"), twice, [], [], []))
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(answers[4], ValueError)
        assert sum(isinstance(answer, Committed) for answer in answers) == 8


async def test_fifty_agents_at_once() -> None:
    async with World(Teller, Counter, backend="sqlite", processes=2) as world:
        asked = [world.ask(f"teller/{n}", "teller.tell", Add(by=1)) for n in range(50)]
        assert [await answer for answer in asked] == [1] * 50
        await world.advance(timedelta(minutes=5))
        assert world.state("counter/a")["total"] == 50
        world.verify()


# ---------------------------------------------------------------------------------------------------------- consumers


async def test_consumers_that_find_nothing_write_nothing(tmp_path: Path) -> None:
    async with embedded(tmp_path) as file:
        await file.bus.send([Parcel("later", "default/a/a", b"", due=10**15)])
        with sqlite3.connect(tmp_path / "aos.db") as watcher:
            before = watcher.execute("PRAGMA data_version").fetchone()
            for _ in range(20):
                assert await file.bus.accept(9) == []
            assert watcher.execute("PRAGMA data_version").fetchone() == before
            await file.bus.send([Parcel("now", "default/b/b", b"")])
            assert len(await file.bus.accept(9)) == 1
            assert watcher.execute("PRAGMA data_version").fetchone() != before
        watcher.close()
