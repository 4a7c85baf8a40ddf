"""P20: later events overtake one that is retried, unless the agent's type is ordered: then they wait behind it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import Reject, Retry, StillOpen
from aos.kernel.event import new_event
from aos.testing import World, sweep
from tests.protocol.agents import Backend, both, envelope, reasons
from tests.protocol.rivals import told

HOUR = timedelta(hours=1)


class Steps(BaseModel):
    done: list[str] = []


class Plain(Agent[Steps], max_attempts=3):
    """Notes what it is given. `fails`: how often an event fails before it succeeds."""

    def __init__(self, **fails: int) -> None:
        self.fails = fails

    @on("step")
    def step(self, data: str, ctx: Context[Steps]) -> list[str]:
        if self.fails.get(data, 0) > 0:
            self.fails[data] -= 1
            raise Retry("not yet", after=timedelta(seconds=30))
        ctx.state.done.append(data)
        return ctx.state.done

    @on("later")
    def later(self, data: str, ctx: Context[Steps]) -> None:
        ctx.schedule("step", data, key=data, after=timedelta(seconds=1))

    @on("aos.suspended")
    def suspended(self, ctx: Context[Steps]) -> None:
        ctx.cancel("t")


class Strict(Plain, ordered=True, max_attempts=3):
    """The same, in order."""


async def steps(world: World, agent: str, *names: str) -> None:
    await world.post(*(envelope(agent, "step", name, id=name, at=world) for name in names))
    await world.run()


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_later_events_overtake_one_that_is_retried(backend: Backend, hostile: bool) -> None:
    async with World(Plain(b=1), backend=backend, hostile=hostile) as world:
        await steps(world, "plain/a", "a", "b", "c", "d")
        assert world.state("plain/a")["done"] == ["a", "c", "d"]
        await world.advance(HOUR)
        assert world.state("plain/a")["done"] == ["a", "c", "d", "b"]


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_an_ordered_type_keeps_them_behind_it(backend: Backend, hostile: bool) -> None:
    async with World(Strict(b=1, d=2), backend=backend, hostile=hostile) as world:
        await steps(world, "strict/a", "a", "b", "c")
        await steps(world, "strict/a", "d", "e")
        assert world.state("strict/a")["done"] == ["a"]
        await world.advance(HOUR)
        assert world.state("strict/a")["done"] == ["a", "b", "c", "d", "e"]
        world.verify()


async def test_it_does_so_under_every_fault() -> None:
    async def scenario(world: World) -> None:
        await steps(world, "strict/a", "a", "b", "c")
        await steps(world, "strict/a", "d")
        await world.advance(HOUR)
        assert world.state("strict/a")["done"] == ["a", "b", "c", "d"]

    await sweep(scenario, agents=lambda: Strict(b=1), each=2)


@both
async def test_they_go_on_when_it_is_given_up(backend: Backend) -> None:
    async with World(Strict(a=9), backend=backend) as world:
        await steps(world, "strict/a", "a", "b", "c")
        await world.advance(HOUR)
        assert reasons(world, "strict/a") == ["max_attempts"]
        assert world.state("strict/a")["done"] == ["b", "c"]


async def test_they_go_on_when_it_expires() -> None:
    async with World(Strict(a=9)) as world:
        expiring = replace(new_event("a", "test", "step", "a"), expires=world.clock.now() + 10_000)
        await world.event(expiring, "strict/a")
        await steps(world, "strict/a", "b", "c")
        await world.advance(HOUR)
        assert world.state("strict/a")["done"] == ["b", "c"]
        assert told(world, "strict/a", expiring.key).final


async def test_they_go_on_when_its_timer_is_cancelled() -> None:
    async with World(Strict(t=9)) as world:
        await world.send("strict/a", "later", "t")
        await world.advance(timedelta(seconds=2))
        await world.command("strict/a", "aos.suspend")
        await steps(world, "strict/a", "b")
        await world.command("strict/a", "aos.resume")
        await world.advance(HOUR)
        assert world.state("strict/a")["done"] == ["b"]
        assert await world.ask("strict/a", "step", "c") == ["b", "c"]


async def test_a_backlog_longer_than_a_turn_keeps_its_order() -> None:
    names = [f"{n:03d}" for n in range(100)]
    async with World(Strict(**{"000": 1, "040": 1})) as world:
        await steps(world, "strict/a", *names)
        await world.advance(timedelta(seconds=31))
        await steps(world, "strict/a", "late")
        await world.advance(HOUR)
        assert world.state("strict/a")["done"] == [*names, "late"]


async def test_an_ask_behind_it_is_answered_when_its_turn_comes() -> None:
    async with World(Strict(a=1)) as world:
        await steps(world, "strict/a", "a")
        answer = world.ask("strict/a", "step", "b")
        with pytest.raises(StillOpen):
            await answer
        await world.advance(HOUR)
        assert told(world, "strict/a", answer.key).value == b'["a","b"]'


async def test_suspended_and_resumed_in_between_they_keep_their_order() -> None:
    async with World(Strict(a=1)) as world:
        await steps(world, "strict/a", "a", "b")
        await world.command("strict/a", "aos.suspend")
        await steps(world, "strict/a", "c")
        await world.advance(HOUR)
        await world.command("strict/a", "aos.resume")
        await world.advance(HOUR)
        assert world.state("strict/a")["done"] == ["a", "b", "c"]


async def test_every_receipt_behind_it_is_open_until_it_is_handled() -> None:
    async with World(Strict(a=1)) as world:
        await steps(world, "strict/a", "a", "b")
        keys: list[Any] = [new_event(name, "test", "step", name).key for name in "ab"]
        assert [told(world, "strict/a", key).final for key in keys] == [False, False]
        await world.advance(HOUR)
        assert [told(world, "strict/a", key).final for key in keys] == [True, True]


async def test_a_redrive_does_not_hold_up_the_others() -> None:
    class Once(Strict, type="once", ordered=True):
        @on("odd")
        def odd(self, ctx: Context[Steps]) -> None:
            raise Reject("no")

    async with World(Once()) as world:
        key = await world.send("once/a", "odd")
        await steps(world, "once/a", "b")
        await world.command("once/a", "aos.dead_letter.redrive", {"key": key})
        await steps(world, "once/a", "c")
        assert world.state("once/a")["done"] == ["b", "c"]
