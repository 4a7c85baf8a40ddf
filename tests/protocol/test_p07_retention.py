"""P7: how long receipts live, and what becomes of a delivery that is older than its receipt may be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.kernel import commands
from aos.kernel.address import Address
from aos.kernel.agent import Agent, Outcome, Pending, after, on
from aos.kernel.context import Context
from aos.kernel.errors import Retry
from aos.kernel.limits import DAY, Limits
from aos.kernel.message import Actor
from aos.kernel.ports import Kind
from aos.testing import FaultPoint, World, sweep
from tests.protocol.agents import (
    Add,
    Backend,
    Count,
    Counter,
    Outside,
    Till,
    both,
    envelope,
    handled,
    internal,
    reasons,
)

MS = timedelta(milliseconds=1)
KEPT = timedelta(days=90)
EDGE = KEPT - timedelta(days=1)
OPERATOR = Actor("user", "op", "test")


def ago(world: World, span: timedelta) -> int:
    return world.clock.now() - span // MS


@both
async def test_older_than_receipts_live_less_a_day_it_is_a_dead_letter(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        await world.post(envelope("counter/a", "counter.add", {"by": 1}, at=ago(world, EDGE + MS)))
        await world.run()
        assert reasons(world, "counter/a") == ["too_late"]
        assert world.state("counter/a") is None, "it was not handled"


@both
async def test_up_to_then_it_is_handled(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        await world.post(envelope("counter/a", "counter.add", {"by": 1}, at=ago(world, EDGE)))
        await world.run()
        assert world.state("counter/a")["total"] == 1


async def test_the_retention_is_a_setting() -> None:
    async with World(Counter, limits=Limits(receipts=10 * DAY)) as world:
        await world.post(envelope("counter/a", "counter.add", id="old", at=ago(world, timedelta(days=9) + MS)))
        await world.post(envelope("counter/a", "counter.add", {}, id="new", at=ago(world, timedelta(days=9))))
        await world.run()
        assert reasons(world, "counter/a") == ["too_late"]
        assert handled(world, "counter/a") == ["new"]


@both
async def test_with_a_receipt_an_old_delivery_is_a_duplicate(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        sent = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        await world.post(sent)
        await world.advance(timedelta(days=100))
        await world.post(*(envelope("counter/a", "counter.add", {"by": 0}, id=f"n{n}", at=world) for n in range(40)))
        await world.post(sent)
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert reasons(world, "counter/a") == []


async def test_too_late_is_never_handled_with_an_effect_either() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:
        await world.post(envelope("till/a", "till.pay", {"cents": 1}, at=ago(world, KEPT)))
        await world.run()
        assert outside.done == []
        assert reasons(world, "till/a") == ["too_late"]


async def test_a_command_that_comes_too_late_is_not_carried_out() -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add())
        command = internal("counter/a", "aos.suspend", actor=OPERATOR, at=world)
        await world.advance(KEPT)
        await world.post(command)
        await world.run()
        assert world.life("counter/a") == "active"
        assert reasons(world, "counter/a") == ["too_late"]


class Patient(Agent[Count], max_attempts=10):
    """Things that take longer than receipts live."""

    @on("patient.timer")
    def timer(self, ctx: Context[Count]) -> None:
        ctx.schedule("patient.ring", key="k", after=timedelta(days=200))

    @on("patient.ring")
    def ring(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1

    @on("patient.send")
    def send(self, ctx: Context[Count]) -> None:
        ctx.send(ctx.me, "patient.ring", after=timedelta(days=200))

    @on("patient.slow")
    def slow(self, ctx: Context[Count]) -> None:
        self.tries += 1
        if self.tries < 3:
            raise Retry("later", after=timedelta(days=80))
        ctx.state.runs += 1

    @on("patient.call")
    def call(self, ctx: Context[Count]) -> Pending:
        return ctx.send("counter/c", "counter.add", {"by": 3}, after=timedelta(days=150), deadline=timedelta(days=300))

    @after("counter.add")
    def answered(self, out: Outcome[int], ctx: Context[Count]) -> int | None:
        return out.value

    tries = 0


@both
@pytest.mark.parametrize("type", ["patient.timer", "patient.send", "patient.slow"])
async def test_what_is_due_after_long_is_not_late(backend: Backend, type: str) -> None:
    """Timers and delayed sends are of the time at which they are due, and a retry has its receipt."""
    async with World(Patient(), backend=backend) as world:
        await world.send("patient/p", type)
        await world.advance(timedelta(days=201))
        assert world.state("patient/p")["runs"] == 1
        assert reasons(world, "patient/p") == []


async def test_an_answer_after_long_closes_the_receipt() -> None:
    async with World(Patient(), Counter) as world:
        key = await world.send("patient/p", "patient.call")
        await world.advance(timedelta(days=151))
        answer = world.receipt("patient/p", key)
        assert answer is not None and answer.value == b"3"


async def test_an_event_in_the_backlog_is_not_late() -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add())
        await world.command("counter/a", "aos.suspend")
        await world.send("counter/a", "counter.add", Add())
        await world.advance(timedelta(days=120))
        await world.command("counter/a", "aos.resume")
        await world.run()
        assert world.state("counter/a")["total"] == 2


async def test_an_operator_may_redrive_what_came_too_late() -> None:
    async with World(Counter) as world:
        await world.post(envelope("counter/a", "counter.add", {"by": 1}, at=ago(world, KEPT)))
        await world.run()
        (letter,) = world.dead_letters("counter/a")
        await world.command("counter/a", "aos.dead_letter.redrive", {"key": letter.message.event.key})
        await world.run()
        assert world.state("counter/a")["total"] == 1


@both
async def test_whatever_dies_too_late_is_one_dead_letter(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        sent = envelope("counter/a", "counter.add", {"by": 1}, at=ago(world, KEPT))
        await world.post(sent, sent)
        await world.run()
        assert reasons(world, "counter/a") == ["too_late"]
        assert world.state("counter/a") is None

    points = [point for point in FaultPoint if point.call in ("load", "read", "commit", "settle", "complete")]
    await sweep(scenario, Counter, backend=backend, points=points)


# ----------------------------------------------------------------------------------------------------------- collecting


async def collect(world: World, agent: str) -> Any:
    """The command that collects receipts; there is one."""
    (name,) = [name for name in commands.COMMANDS if "collect" in name]
    return await world.command(agent, name)


async def receipts(world: World, agent: str) -> set[str]:
    return {row.key[1:] for row in await world.partitions.rows(Address.parse(agent), Kind.RECEIPT)}


@both
async def test_a_command_collects_receipts_that_are_old_enough(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        old = await world.send("counter/a", "counter.add", Add(), id="old")
        await world.advance(timedelta(days=2))
        young = await world.send("counter/a", "counter.add", Add(), id="young")
        await world.advance(KEPT - timedelta(days=2))
        await collect(world, "counter/a")
        left = await receipts(world, "counter/a")
        assert young in left
        await world.advance(timedelta(days=1))
        await collect(world, "counter/a")
        left = await receipts(world, "counter/a")
        assert old not in left and young in left
        world.verify()


async def test_what_comes_again_after_its_receipt_was_collected_is_too_late() -> None:
    async with World(Counter) as world:
        sent = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        await world.post(sent)
        await world.advance(KEPT + timedelta(days=1))
        await collect(world, "counter/a")
        await world.post(sent)
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert reasons(world, "counter/a") == ["too_late"]


async def test_an_open_receipt_is_never_collected() -> None:
    async with World(Patient(), Counter) as world:
        key = await world.send("patient/p", "patient.call")
        await world.advance(timedelta(days=120))
        await collect(world, "patient/p")
        await world.advance(timedelta(days=31))
        answer = world.receipt("patient/p", key)
        assert answer is not None and answer.value == b"3"
