"""P18: an event that kills whoever runs it is found out: it runs alone, its starts are counted, three are enough."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import Retry
from aos.testing import Crash, World
from tests.protocol.agents import Add, Backend, Count, Counter, both, envelope, handled, reasons
from tests.protocol.rivals import another, delivery, dies, dispatch, lost_answer, store_of, told

A = Address.parse("bomb/a")


class Bomb(Agent[Count], effects={"touch": "write"}):
    """Ends its process as long as it is armed, before or after an effect."""

    def __init__(self) -> None:
        self.armed = True
        self.runs = self.touched = 0

    @on("bomb.run")
    def go(self, ctx: Context[Count]) -> int:
        self.runs += 1
        if self.armed:
            raise Crash("the handler")
        ctx.state.runs += 1
        return ctx.state.runs

    @on("bomb.touch")
    async def touch_and_go(self, ctx: Context[Count]) -> int:
        await ctx.effect("touch", self.touch)
        return self.go(ctx)

    @on("bomb.fail")
    def fail(self, ctx: Context[Count]) -> None:
        self.runs += 1
        raise Retry("later", after=timedelta(hours=1))

    @on("bomb.harmless")
    def harmless(self, ctx: Context[Count]) -> None:
        ctx.state.total += 1

    def touch(self) -> None:
        self.touched += 1


def running(world: World, type: str = "bomb.run", **more: Any) -> Any:
    return envelope("bomb/a", type, id="1", at=world, **more)


async def test_three_starts_without_an_end_are_enough() -> None:
    bomb = Bomb()
    async with World(bomb) as world:
        for count in range(1, 8):
            await dies(another(world), running(world), count=count)
            assert world.records("bomb/a") == []
        await dispatch(another(world), running(world), count=8)
        assert bomb.runs == 7
        assert reasons(world, "bomb/a") == ["crash_suspected"]
        world.verify()


async def test_the_agent_goes_on_without_it() -> None:
    async with World(Bomb()) as world:
        for count in range(1, 8):
            await dies(another(world), running(world), count=count)
        await dispatch(another(world), running(world), count=8)
        await world.send("bomb/a", "bomb.harmless")
        assert world.state("bomb/a")["total"] == 1


async def test_it_can_be_redriven_when_the_code_is_mended() -> None:
    bomb = Bomb()
    async with World(bomb) as world:
        for count in range(5, 8):
            await dies(another(world), running(world), count=count)
        await dispatch(another(world), running(world), count=8)
        bomb.armed = False
        await world.command("bomb/a", "aos.dead_letter.redrive", {"key": running(world).event.key})
        assert told(world, "bomb/a", running(world).event.key).value == b"1"
        assert reasons(world, "bomb/a") == []


async def test_what_survives_its_third_start_is_handled() -> None:
    bomb = Bomb()
    async with World(bomb) as world:
        for count in (5, 6):
            await dies(another(world), running(world), count=count)
        bomb.armed = False
        await dispatch(another(world), running(world), count=7)
        assert handled(world, "bomb/a") == ["1"]
        assert reasons(world, "bomb/a") == []


@pytest.mark.parametrize(("count", "turns"), [(4, 1), (5, 3)])
async def test_from_the_fifth_delivery_on_it_runs_alone(count: int, turns: int) -> None:
    bomb = Bomb()
    bomb.armed = False
    async with World(bomb) as world:
        before, after = (envelope("bomb/a", "bomb.harmless", id=id, at=world) for id in ("before", "after"))
        sent = [delivery(before), delivery(running(world), count), delivery(after)]
        await another(world).dispatch(A, sent)
        assert len(world.records("bomb/a")) == turns
        assert handled(world, "bomb/a") == ["before", "1", "after"]


async def test_its_neighbours_in_the_batch_are_handled_though_it_kills_the_process() -> None:
    async with World(Bomb()) as world:
        before = envelope("bomb/a", "bomb.harmless", id="before", at=world)
        after = envelope("bomb/a", "bomb.harmless", id="after", at=world)
        for count in range(1, 8):
            with pytest.raises(Crash):
                sent = [delivery(before, count), delivery(running(world), count), delivery(after, count)]
                await another(world).dispatch(A, sent)
        await another(world).dispatch(A, [delivery(message, 8) for message in (before, running(world), after)])
        assert handled(world, "bomb/a") == ["before", "after"]
        assert reasons(world, "bomb/a") == ["crash_suspected"]


async def test_a_recorded_failure_is_an_end() -> None:
    bomb = Bomb()
    async with World(bomb) as world:
        for attempt in range(1, 5):
            for count in (5, 6):
                await dispatch(another(world), running(world, "bomb.fail", attempt=attempt), count=count)
        assert reasons(world, "bomb/a") == []
        assert [entry["attempt"] for entry in world.entries("bomb/a", "event.failed")] == [1, 2, 3, 4]


async def test_conflicts_are_no_starts() -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add(by=1))
        sent = envelope("counter/a", "counter.add", {"by": 100}, id="mine", at=world)

        def rival(n: int) -> Any:
            return lambda: dispatch(another(world), envelope("counter/a", "counter.add", {}, id=f"r{n}", at=world))

        store = store_of(world).before("commit", *(rival(n) for n in range(5)))
        await dispatch(another(world, store=store), sent, count=5)
        await world.advance(timedelta(minutes=1))
        assert reasons(world, "counter/a") == []
        assert handled(world, "counter/a").count("mine") == 1


async def test_lost_answers_are_no_starts() -> None:
    async with World(Counter) as world:
        sent = envelope("counter/a", "counter.add", {"by": 100}, id="mine", at=world)
        store = store_of(world).after("journal", *[lost_answer] * 4)
        await dispatch(another(world, store=store), sent, count=5)
        assert reasons(world, "counter/a") == []
        assert handled(world, "counter/a") == ["mine"]


async def test_an_event_that_has_begun_an_effect_is_found_out_too() -> None:
    """It is finished by whatever delivery the agent gets next, so its own deliveries say nothing."""
    bomb = Bomb()
    async with World(bomb) as world:
        for count in range(1, 20):
            if reasons(world, "bomb/a"):
                break
            try:
                await dispatch(another(world), running(world, "bomb.touch"), count=count)
            except Crash:
                continue
        assert reasons(world, "bomb/a") == ["crash_suspected"]
        assert bomb.touched == 1
        assert bomb.runs <= 10
        await world.send("bomb/a", "bomb.harmless")
        assert world.state("bomb/a")["total"] == 1


@pytest.mark.parametrize("type", ["bomb.run", "bomb.touch"])
async def test_one_in_the_backlog_is_found_out_too(type: str) -> None:
    """No delivery of its own brings it back, only the one that drains."""
    bomb = Bomb()
    async with World(bomb) as world:
        await world.send("bomb/a", "bomb.harmless")
        await world.command("bomb/a", "aos.suspend")
        for sent in ("bomb.harmless", type, "bomb.harmless"):
            await world.send("bomb/a", sent)
        await world.command("bomb/a", "aos.resume")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "bomb/a") == ["crash_suspected"]
        assert world.state("bomb/a")["total"] == 3, "the others are handled"
        assert bomb.touched <= 1
        assert bomb.runs <= 12


@both
@pytest.mark.parametrize("processes", [1, 2])
async def test_it_ends_by_itself(backend: Backend, processes: int) -> None:
    """With nobody counting by hand: a world's processes die as real ones do."""
    bomb = Bomb()
    async with World(bomb, backend=backend, processes=processes) as world:
        await world.send("bomb/a", "bomb.run")
        await world.send("bomb/a", "bomb.harmless")
        assert reasons(world, "bomb/a") == ["crash_suspected"]
        assert world.state("bomb/a")["total"] == 1
        assert bomb.runs <= 10
