"""P3: hops count nested sends only, up to 64; they are read off how deep an agent gets that sends to itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.agent import Agent, Outcome, Pending, after, cron, on
from aos.kernel.context import Context
from aos.testing import World
from tests.protocol.agents import Count, Counter, Depth, envelope, no_circles, reasons

LIMIT = 64


def hops(world: World, agent: str = "depth/d") -> int:
    """At which hop the agent was told to go down: it got from there to the limit."""
    assert reasons(world, agent) == ["too_many_hops"]
    return LIMIT + 1 - world.state(agent)["runs"]


class Way(Agent[Count], max_attempts=3):
    """The ways by which an event may come to the depth."""

    @on("way.send")
    def send(self, ctx: Context[Count]) -> None:
        ctx.send("depth/d", "depth.down")

    @on("way.delayed")
    def delayed(self, ctx: Context[Count]) -> None:
        ctx.send("depth/d", "depth.down", after=timedelta(minutes=1))

    @on("way.timer")
    def timer(self, ctx: Context[Count]) -> None:
        ctx.schedule("way.send", key="k", after=timedelta(minutes=1))

    @on("way.retry")
    def retry(self, ctx: Context[Count]) -> None:
        if len(self.tries) < 2:
            self.tries.append(1)
            raise ValueError("again")
        ctx.send("depth/d", "depth.down")

    @on("way.call")
    def call(self, ctx: Context[Count]) -> None:
        ctx.send("counter/c", "counter.add", {"by": 1})

    @after("counter.add")
    def answered(self, out: Outcome[int], ctx: Context[Count]) -> None:
        ctx.send("depth/d", "depth.down")

    @on("way.through")
    def through(self, ctx: Context[Count]) -> None:
        ctx.send("way/other", "way.ask")

    @on("way.ask")
    def ask(self, ctx: Context[Count]) -> Pending:
        return ctx.send("way/third", "way.nothing")

    @after("way.ask")
    def asked(self, out: Outcome[Any], ctx: Context[Count]) -> None:
        ctx.send("depth/d", "depth.down")

    @on("way.nothing")
    def nothing(self) -> None: ...

    def __init__(self) -> None:
        self.tries: list[int] = []


@pytest.mark.parametrize("start", [0, 60])
async def test_a_circle_of_sends_ends_after_64(start: int) -> None:
    async with World(Depth) as world:
        no_circles(world)
        await world.post(envelope("depth/d", "depth.down", hops=start, at=world))
        await world.run()
        assert hops(world) == start


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("way.send", 61),
        ("way.delayed", 61),
        ("way.retry", 61),
        ("way.call", 61),
        ("way.through", 61),
        ("way.timer", 1),
    ],
)
async def test_nested_sends_count_and_nothing_else_does(way: str, expected: int) -> None:
    """A delayed send is a send; a retry keeps its count; an answer returns with its call's, through however many
    agents; a timer starts at 0."""
    async with World(Depth, Counter, Way()) as world:
        no_circles(world, 20_000)
        await world.post(envelope("way/a", way, hops=60, at=world))
        await world.advance(timedelta(hours=1))
        assert hops(world) == expected


async def test_a_schedule_starts_at_0() -> None:
    class Daily(Agent[Count]):
        @cron("0 7 * * *", key="k")
        def go(self, ctx: Context[Count]) -> None:
            ctx.send("depth/d", "depth.down")

    async with World(Depth, Daily) as world:
        await world.advance(timedelta(days=1))
        assert hops(world) == 1


async def test_putting_an_event_off_keeps_its_count() -> None:
    """In the backlog of a suspended agent."""
    async with World(Depth) as world:
        await world.post(envelope("depth/d", "depth.down", id="first", hops=64, at=world))
        await world.run()
        (letter,) = world.dead_letters("depth/d")
        await world.command("depth/d", "aos.dead_letter.discard", {"key": letter.message.event.key})
        await world.command("depth/d", "aos.suspend")
        await world.post(envelope("depth/d", "depth.down", hops=50, at=world))
        await world.run()
        await world.command("depth/d", "aos.resume")
        await world.run()
        assert world.state("depth/d")["runs"] == 1 + 15


async def test_two_agents_that_talk_for_long_are_not_taken_for_a_circle() -> None:
    """A hundred calls one after the other are not nested."""

    class Patient(Agent[Count]):
        @on("patient.go")
        def go(self, ctx: Context[Count]) -> None:
            ctx.send("counter/c", "counter.add", {"by": 1})

        @after("counter.add")
        def answered(self, out: Outcome[int], ctx: Context[Count]) -> None:
            ctx.state.runs += 1
            if ctx.state.runs < 100:
                ctx.send("counter/c", "counter.add", {"by": 1})

    async with World(Patient, Counter) as world:
        await world.send("patient/p", "patient.go")
        assert world.state("patient/p")["runs"] == world.state("counter/c")["total"] == 100
        assert reasons(world, "counter/c") == []


async def test_a_circle_through_answers_that_come_later_ends_too() -> None:
    """Each round is one send deeper, though every answer comes through a third agent."""

    class Circle(Agent[Count]):
        @on("circle.go")
        def go(self, ctx: Context[Count]) -> None:
            ctx.state.runs += 1
            ctx.send("circle/b", "circle.ask")

        @on("circle.ask")
        def ask(self, ctx: Context[Count]) -> Pending:
            return ctx.send("counter/c", "counter.add", {"by": 1})

        @after("circle.ask")
        def asked(self, out: Outcome[int], ctx: Context[Count]) -> None:
            ctx.send(ctx.me, "circle.go")

    async with World(Circle, Counter) as world:
        no_circles(world, 20_000)
        await world.send("circle/a", "circle.go")
        await world.advance(timedelta(days=2))
        assert world.state("circle/a")["runs"] <= LIMIT + 1
        assert "too_many_hops" in reasons(world, "circle/a") + reasons(world, "circle/b")
