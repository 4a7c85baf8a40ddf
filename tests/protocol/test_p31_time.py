"""P31: time goes forwards in the record whatever the clock does, and nothing is decided by it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.embedded import Embedded
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import Retry
from aos.kernel.ports import Parcel
from aos.messaging.memory import MemoryBroker, MemoryBus
from aos.testing import ManualClock, SeededEntropy, World
from tests.protocol.agents import Add, Backend, Count, Counter, both, envelope, handled
from tests.protocol.rivals import another, dispatch

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Timed(Agent[Count]):
    def __init__(self) -> None:
        self.fails = 0

    @on("later")
    def later(self, ctx: Context[Count]) -> None:
        ctx.schedule("ring", key="t", after=HOUR)

    @on("ring")
    def ring(self, ctx: Context[Count]) -> None:
        if self.fails:
            self.fails -= 1
            raise Retry("not yet")
        ctx.state.runs += 1


def times(world: World, agent: str) -> list[int]:
    return [record["ts"] for record in world.records(agent)]


@both
async def test_the_record_never_goes_back(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        for move in (HOUR, -DAY, timedelta(0), HOUR, 2 * DAY):
            world.clock.move(move)
            await world.send("counter/a", "counter.add", Add(by=1))
        found = times(world, "counter/a")
        assert found == sorted(found)
        assert found[1] == found[2] == found[3] == found[0]
        assert world.state("counter/a")["total"] == 5
        world.verify()


async def test_two_hosts_whose_clocks_disagree_do_no_harm() -> None:
    async with World(Counter) as world:
        other = ManualClock()
        other.move(-DAY)
        for n in range(6):
            clock: Any = other if n % 2 else world.clock
            sent = envelope("counter/a", "counter.add", {"by": 1}, id=str(n), at=world)
            await dispatch(another(world, clock=clock), sent)
        assert handled(world, "counter/a") == [str(n) for n in range(6)]
        assert times(world, "counter/a") == sorted(times(world, "counter/a"))
        world.verify()


@both
async def test_a_timer_fires_once_though_the_clock_goes_back(backend: Backend) -> None:
    async with World(Timed, backend=backend) as world:
        await world.send("timed/a", "later")
        await world.advance(timedelta(minutes=50))
        world.clock.move(-2 * HOUR)
        await world.run()
        assert world.state("timed/a")["runs"] == 0
        await world.advance(3 * HOUR)
        assert world.state("timed/a")["runs"] == 1
        world.clock.move(-3 * HOUR)
        await world.advance(DAY)
        assert world.state("timed/a")["runs"] == 1


async def test_a_retry_comes_though_the_clock_goes_back() -> None:
    timed = Timed()
    timed.fails = 2
    async with World(timed) as world:
        await world.send("timed/a", "ring")
        world.clock.move(-HOUR)
        await world.advance(3 * HOUR)
        assert world.state("timed/a")["runs"] == 1


async def test_an_event_from_the_future_is_handled() -> None:
    async with World(Counter) as world:
        sent = envelope("counter/a", "counter.add", {"by": 1}, at=world.clock.now() + 10**9)
        await dispatch(another(world), sent)
        assert world.state("counter/a")["total"] == 1


@pytest.mark.parametrize("kind", ["memory", "embedded"])
async def test_a_lock_runs_out_though_the_clock_went_back(kind: str, tmp_path: Any) -> None:
    """With the clock alone it would be held for as long as the clock went back."""
    clock, entropy = ManualClock(), SeededEntropy()
    opened: list[Embedded] = []
    if kind == "memory":
        broker = MemoryBroker(clock)
        first: Any = MemoryBus(broker)
        second: Any = MemoryBus(broker)
    else:
        for _ in range(2):
            opened.append(Embedded(tmp_path / "aos.db", clock=clock, entropy=entropy, renew_every=None))
            await opened[-1].open()
        first, second = (embedded.bus for embedded in opened)
    try:
        await first.send([Parcel("1", "default/a/a", b"1")])
        assert len(await first.accept(1)) == 1
        clock.move(-DAY)
        assert await second.accept(1) == []
        await clock.sleep(11)
        assert len(await second.accept(1)) == 1
    finally:
        for embedded in opened:
            await embedded.close()


async def test_what_a_handler_is_told_is_the_turns_time() -> None:
    class Clocked(Agent[Count]):
        @on("when")
        def when(self, ctx: Context[Count]) -> list[str]:
            return [str(ctx.now), str(ctx.now.tzinfo)]

    async with World(Clocked) as world:
        world.clock.move(HOUR)
        assert await world.ask("clocked/a", "when") == ["2026-01-05 09:00:00+00:00", "UTC"]
