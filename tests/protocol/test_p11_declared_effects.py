"""P11: effects are declared on the agent type, and concurrent ones of one name need a key."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.agent import Agent, after, cron, on
from aos.kernel.context import Context
from aos.kernel.errors import RegistrationError
from aos.kernel.gatekeeper import PermitAll
from aos.kernel.ports import Decision, GateRequest
from aos.testing import Boundary, Fault, FaultPoint, World, sweep
from tests.protocol.agents import Backend, Count, Outside, both, envelope, handled, no_circles, reasons


def refused(*agents: Any) -> str:
    with pytest.raises(RegistrationError) as caught:
        World(*agents)
    return str(caught.value)


def test_an_undeclared_name_is_refused_when_the_type_is_registered() -> None:
    class Sly(Agent[Count], effects={"charge": "write"}):
        @on("sly.go")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("refund", Outside().charge, 1)

    message = refused(Sly)
    assert "refund" in message and "effects=" in message
    assert "test_p11_declared_effects.py" in message, "it says where"


def test_in_whatever_handler_it_stands() -> None:
    class Cron(Agent[Count]):
        @cron("0 7 * * *", key="k")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("refund", Outside().charge, 1)

    class After(Agent[Count]):
        @after("x.y")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("refund", Outside().charge, 1)

    class Hook(Agent[Count]):
        @on("aos.initialized")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("refund", Outside().charge, 1)

    for agent in (Cron, Hook):
        assert "refund" in refused(agent)
    del After


def test_a_handler_that_is_inherited_is_looked_at_too() -> None:
    class Base(Agent[Count], effects={"refund": "write"}):
        @on("base.go")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("refund", Outside().charge, 1)

    class Child(Base, effects={"charge": "write"}):
        """Declares other effects than the handler that it inherits asks for."""

    assert "refund" in refused(Child)


def test_a_name_given_by_keyword_is_looked_at_too() -> None:
    class Sly(Agent[Count]):
        @on("sly.go")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect(name="refund", function=Outside().charge)

    assert "refund" in refused(Sly)


@pytest.mark.parametrize("danger", ["", "delete", "Write", None])
def test_a_danger_that_is_none_is_refused(danger: Any) -> None:
    class Odd(Agent[Count], effects={"charge": danger}):
        @on("odd.go")
        def go(self) -> None: ...

    assert "read, write or destroy" in refused(Odd)


async def test_a_name_that_is_known_only_when_it_is_used_is_refused_then() -> None:
    outside = Outside()

    class Late(Agent[Count], effects={"charge": "write"}):
        @on("late.go")
        async def go(self, data: str, ctx: Context[Count]) -> None:
            await ctx.effect(data, outside.charge, 1)

    async with World(Late) as world:
        await world.send("late/a", "late.go", "refund")
        (letter,) = world.dead_letters("late/a")
        assert letter.reason == "rejected" and "not declared" in letter.error
        assert outside.done == []
        await world.send("late/a", "late.go", "charge")
        assert outside.amounts == [1]


async def test_the_gate_is_asked_with_the_declared_danger() -> None:
    outside, gate = Outside(), Watching()

    class Wiper(Agent[Count], effects={"wipe": "destroy"}):
        @on("wiper.go")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("wipe", outside.charge, 1)

    async with World(Wiper, gate=gate) as world:
        await world.send("wiper/a", "wiper.go")
        (asked,) = [request for request in gate.asked if request.resource == "effect/wipe"]
        assert (asked.principal, asked.action) == ("agent/wiper", "destroy")


class Watching:
    """Allows everything, after having waited a little as a real gate may."""

    def __init__(self) -> None:
        self.asked: list[GateRequest] = []
        self._inner = PermitAll()

    async def decide(self, request: GateRequest) -> Decision:
        self.asked.append(request)
        await asyncio.sleep(0)
        return await self._inner.decide(request)


class Many(Agent[Count], effects={"charge": "write", "refund": "write"}):
    """Several effects at the same time."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("many.nameless")
    async def nameless(self, ctx: Context[Count]) -> list[int]:
        return await asyncio.gather(*(ctx.effect("charge", self.outside.charge, n) for n in (1, 2, 3)))

    @on("many.keyed")
    async def keyed(self, ctx: Context[Count]) -> list[int]:
        calls = (ctx.effect("charge", self.outside.charge, n, key=f"k{n}") for n in (1, 2, 3))
        done = await asyncio.gather(*calls)
        ctx.state.total += sum(done)
        return done

    @on("many.plain")
    def plain(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1

    @on("many.names")
    async def names(self, ctx: Context[Count]) -> tuple[int, int]:
        return await asyncio.gather(
            ctx.effect("charge", self.outside.charge, 1), ctx.effect("refund", self.outside.charge, 2)
        )

    @on("many.mixed")
    async def mixed(self, ctx: Context[Count]) -> list[int]:
        quick = ctx.effect("charge", self.outside.charge, 1, key="quick")
        slow = ctx.effect("charge", self.outside.charge, 2, key="slow")
        done = [asyncio.ensure_future(quick), asyncio.ensure_future(slow)]
        await done[0]
        third = ctx.effect("charge", self.outside.charge, 3)
        return await asyncio.gather(third, *done)

    @on("many.rows")
    async def rows(self, ctx: Context[Count]) -> list[int]:
        return [await ctx.effect("charge", self.outside.charge, n) for n in (1, 2, 3)]

    @on("many.twice")
    async def twice(self, ctx: Context[Count]) -> int:
        one = await ctx.effect("charge", self.outside.charge, 1, key="k")
        return one + await ctx.effect("charge", self.outside.charge, 1, key="k")

    @on("many.ordinal")
    async def ordinal(self, ctx: Context[Count]) -> int:
        one = await ctx.effect("charge", self.outside.charge, 1, key="#1")
        return one + await ctx.effect("charge", self.outside.charge, 2)


def slowly(outside: Outside, *yields: int) -> None:
    async def wait(times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    outside.then = [lambda n=n: wait(n) for n in yields]


@both
async def test_concurrent_effects_with_keys_each_run_once(backend: Backend) -> None:
    outside = Outside()
    async with World(Many(outside), backend=backend) as world:
        no_circles(world)
        slowly(outside, 5, 3, 1)
        await world.send("many/a", "many.keyed", id="go")
        await world.advance(timedelta(minutes=10))
        assert reasons(world, "many/a") == []
        assert sorted(outside.amounts) == [1, 2, 3]
        assert len({key for key, _ in outside.done}) == 3
        assert world.state("many/a")["total"] == 12


@both
async def test_concurrent_effects_of_different_names_need_no_keys(backend: Backend) -> None:
    outside = Outside()
    async with World(Many(outside), backend=backend) as world:
        no_circles(world)
        assert await world.ask("many/a", "many.names") == [2, 4]
        assert sorted(outside.amounts) == [1, 2]


@pytest.mark.parametrize("gate", [PermitAll, Watching])
@both
async def test_concurrent_effects_of_one_name_without_a_key_are_refused(backend: Backend, gate: Any) -> None:
    outside = Outside()
    async with World(Many(outside), backend=backend, gate=gate()) as world:
        no_circles(world)
        slowly(outside, 20)
        await world.send("many/a", "many.nameless")
        (letter,) = world.dead_letters("many/a")
        assert letter.reason == "rejected" and "key=" in letter.error
        assert outside.amounts in ([], [1]), "the first one may have begun"


async def test_one_without_a_key_beside_one_with_a_key_is_refused() -> None:
    """While a keyed effect of the name is under way, however many others of it have ended."""
    outside = Outside()
    async with World(Many(outside)) as world:
        no_circles(world)
        slowly(outside, 0, 50)
        await world.send("many/a", "many.mixed")
        (letter,) = world.dead_letters("many/a")
        assert letter.reason == "rejected" and "key=" in letter.error
        assert 3 not in outside.amounts


async def test_one_after_the_other_needs_no_key() -> None:
    outside = Outside()
    async with World(Many(outside)) as world:
        assert await world.ask("many/a", "many.rows") == [2, 4, 6]
        assert len({key for key, _ in outside.done}) == 3


async def test_a_key_is_used_once() -> None:
    outside = Outside()
    async with World(Many(outside)) as world:
        await world.send("many/a", "many.twice")
        (letter,) = world.dead_letters("many/a")
        assert letter.reason == "rejected" and "twice" in letter.error
        assert outside.amounts == [1]


async def test_no_key_is_taken_for_a_count() -> None:
    outside = Outside()
    async with World(Many(outside)) as world:
        assert await world.ask("many/a", "many.ordinal") == 6
        assert len({key for key, _ in outside.done}) == 2


@both
@pytest.mark.parametrize("point", [FaultPoint.INTENT_AFTER, FaultPoint.RESULT_AFTER, FaultPoint.RESULT_DONE])
async def test_concurrent_effects_are_not_doubled_by_a_death(backend: Backend, point: FaultPoint) -> None:
    outside = Outside()
    for nth in (1, 2, 3):
        outside.clear()
        async with World(Many(outside), backend=backend, fault=Fault(point, nth)) as world:
            no_circles(world)
            await world.send("many/a", "many.keyed", id="go")
            await world.advance(timedelta(minutes=10))
            assert all(outside.amounts.count(n) <= 1 for n in (1, 2, 3))
            if not reasons(world, "many/a"):
                assert handled(world, "many/a") == ["go"]
                assert sorted(outside.amounts) == [1, 2, 3]
                assert world.state("many/a")["total"] == 12


@both
@pytest.mark.parametrize("boundary", [Boundary.BEFORE, Boundary.LOST, Boundary.DONE, Boundary.AFTER])
async def test_events_before_concurrent_effects_are_committed_once(backend: Backend, boundary: Boundary) -> None:
    """The first of the effects commits what is before it; when that goes wrong the others must not do it again."""
    outside = Outside()
    call = "settle" if backend == "sqlite" else "commit"
    point = next(p for p in FaultPoint if (p.call, p.boundary) == (call, boundary))
    async with World(Many(outside), backend=backend, fault=Fault(point)) as world:
        no_circles(world)
        await world.post(
            envelope("many/a", "many.plain", id="plain", at=world), envelope("many/a", "many.keyed", id="go", at=world)
        )
        await world.advance(timedelta(minutes=10))
        assert handled(world, "many/a") == ["plain", "go"]
        assert world.state("many/a") == {"total": 12, "runs": 1}
        assert sorted(outside.amounts) == [1, 2, 3]
        world.verify()


@both
async def test_concurrent_effects_survive_what_leaves_nothing_unknown(backend: Backend) -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        no_circles(world)
        await world.send("many/a", "many.keyed", id="go")
        await world.advance(timedelta(minutes=10))
        assert sorted(outside.amounts) == [1, 2, 3]
        assert handled(world, "many/a") == ["go"]

    harmless = [FaultPoint.LOAD_AFTER, FaultPoint.COMMIT_BEFORE, FaultPoint.COMMIT_LOST, FaultPoint.COMPLETE_BEFORE]
    await sweep(scenario, Many(outside), backend=backend, settle_together=False, points=harmless)
