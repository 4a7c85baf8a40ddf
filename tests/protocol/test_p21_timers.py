"""P21: a timer fires once, or not at all when it was cancelled; an event with a journal keeps its timer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import Reject, Retry
from aos.kernel.event import new_event
from aos.kernel.ports import Delivery, Parcel
from aos.testing import Fault, FaultPoint, World, sweep
from tests.protocol.agents import Backend, Outside, both, envelope, reasons
from tests.protocol.rivals import Between, another, dispatch, told

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Rung(BaseModel):
    rang: list[str] = []
    paid: int = 0


class Alarm(Agent[Rung], effects={"charge": "write"}):
    """Sets, cancels, rings; `fails`: how often ringing fails first."""

    def __init__(self, outside: Outside | None = None, fails: int = 0) -> None:
        self.outside = outside or Outside()
        self.fails = fails

    @on("alarm.set")
    def set(self, data: str, ctx: Context[Rung]) -> None:
        ctx.schedule("alarm.ring", data, key="alarm", after=HOUR)

    @on("alarm.at")
    def at(self, data: datetime, ctx: Context[Rung]) -> None:
        ctx.schedule("alarm.ring", "at", key="alarm", at=data)

    @on("alarm.cancel")
    def cancel(self, ctx: Context[Rung]) -> None:
        ctx.cancel("alarm")

    @on("alarm.both")
    def both(self, ctx: Context[Rung]) -> None:
        ctx.schedule("alarm.ring", "x", key="alarm", after=HOUR)
        ctx.cancel("alarm")

    @on("alarm.two")
    def two(self, ctx: Context[Rung]) -> None:
        ctx.schedule("alarm.ring", "first", key="one", after=HOUR)
        ctx.schedule("alarm.ring", "second", key="two", after=2 * HOUR)

    @on("alarm.ring")
    def ring(self, data: str, ctx: Context[Rung]) -> None:
        self._fail()
        ctx.state.rang.append(f"{data} {ctx.now:%H:%M}")
        if data == "again":
            ctx.schedule("alarm.ring", "again", key="alarm", after=HOUR)

    @on("alarm.paying")
    def paying(self, ctx: Context[Rung]) -> None:
        ctx.schedule("alarm.pay", 5, key="alarm", after=HOUR)

    @on("alarm.pay")
    async def pay(self, data: int, ctx: Context[Rung]) -> None:
        got = await ctx.effect("charge", self.outside.charge, data)
        self._fail()
        ctx.state.paid += got

    @on("alarm.internal")
    def internal(self, data: str, ctx: Context[Rung]) -> None:
        ctx.schedule(data, {}, key="alarm", after=MINUTE)

    @on("alarm.quiet")
    def quiet(self, ctx: Context[Rung]) -> None:
        """Nothing."""

    def _fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise Retry("not yet", after=10 * MINUTE)


class Sent:
    """A bus that keeps what is sent."""

    def __init__(self, parcels: list[Parcel]) -> None:
        self.parcels = parcels

    async def send(self, parcels: Sequence[Parcel]) -> None:
        self.parcels += parcels


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_a_timer_fires_once_when_it_is_due(backend: Backend, hostile: bool) -> None:
    async with World(Alarm, backend=backend, hostile=hostile) as world:
        await world.send("alarm/a", "alarm.set", "one")
        await world.advance(timedelta(minutes=59))
        assert world.state("alarm/a")["rang"] == []
        await world.advance(timedelta(days=9))
        assert world.state("alarm/a")["rang"] == ["one 09:00"]
        world.verify()


async def test_it_does_so_under_every_fault() -> None:
    async def scenario(world: World) -> None:
        await world.send("alarm/a", "alarm.set", "again")
        await world.advance(timedelta(hours=2, minutes=30))
        assert len(world.state("alarm/a")["rang"]) == 2
        await world.send("alarm/a", "alarm.cancel")
        await world.advance(9 * HOUR)
        assert len(world.state("alarm/a")["rang"]) == 2

    await sweep(scenario, Alarm)


async def test_the_time_of_day_may_be_given() -> None:
    async with World(Alarm) as world:
        await world.send("alarm/a", "alarm.at", datetime(2026, 1, 5, 20, 15, tzinfo=UTC))
        await world.advance(timedelta(days=1))
        assert world.state("alarm/a")["rang"] == ["at 20:15"]


async def test_a_time_that_has_passed_fires_now() -> None:
    async with World(Alarm) as world:
        await world.send("alarm/a", "alarm.at", datetime(2020, 1, 1, tzinfo=UTC))
        assert world.state("alarm/a")["rang"] == ["at 08:00"]


@both
async def test_a_cancelled_timer_never_fires(backend: Backend) -> None:
    async with World(Alarm, backend=backend) as world:
        await world.send("alarm/a", "alarm.set", "one")
        await world.send("alarm/a", "alarm.cancel")
        await world.send("alarm/b", "alarm.both")
        await world.advance(timedelta(days=1))
        assert world.state("alarm/a")["rang"] == world.state("alarm/b")["rang"] == []
        assert [entry["name"] for entry in world.entries("alarm/a", "timer.cancelled")] == ["t:alarm"]


async def test_to_cancel_what_is_not_there_is_fine() -> None:
    async with World(Alarm) as world:
        await world.send("alarm/a", "alarm.cancel")
        assert world.entries("alarm/a", "timer.cancelled") == []


async def test_the_same_key_replaces_it_and_others_stay() -> None:
    async with World(Alarm) as world:
        await world.send("alarm/a", "alarm.set", "one")
        await world.advance(30 * MINUTE)
        await world.send("alarm/a", "alarm.set", "two")
        await world.send("alarm/a", "alarm.two")
        await world.advance(timedelta(days=1))
        assert world.state("alarm/a")["rang"] == ["two 09:30", "first 09:30", "second 10:30"]


async def test_a_second_delivery_of_a_firing_changes_nothing() -> None:
    async with World(Alarm) as world:
        seen: list[Parcel] = []
        await world.send("alarm/a", "alarm.quiet")
        process = another(world, bus=Between(Sent(seen)))
        await dispatch(process, envelope("alarm/a", "alarm.set", "one", at=world))
        world.clock.move(HOUR)
        for count in (1, 2, 3):
            await process.dispatch(Address.parse("alarm/a"), [Delivery(parcel, count, None) for parcel in seen])
        assert world.state("alarm/a")["rang"] == ["one 09:00"]


# ------------------------------------------------------------------------------------------------ failures between


@both
async def test_a_firing_that_is_retried_keeps_its_token(backend: Backend) -> None:
    async with World(Alarm(fails=2), backend=backend) as world:
        await world.send("alarm/a", "alarm.set", "one")
        await world.advance(timedelta(days=1))
        assert world.state("alarm/a")["rang"] == ["one 09:20"]
        assert reasons(world, "alarm/a") == []


async def test_the_token_is_checked_when_the_retry_is_about_to_run() -> None:
    async with World(Alarm(fails=1)) as world:
        await world.send("alarm/a", "alarm.set", "one")
        await world.advance(HOUR + MINUTE)
        (failed,) = world.entries("alarm/a", "event.failed")
        await world.send("alarm/a", "alarm.cancel")
        await world.advance(timedelta(days=1))
        assert world.state("alarm/a")["rang"] == []
        assert told(world, "alarm/a", failed["key"]).final, "it will never run, and its receipt says so"


async def test_a_firing_with_a_journal_keeps_its_token_even_when_it_is_cancelled() -> None:
    outside = Outside()
    async with World(Alarm(outside, fails=1)) as world:
        await world.send("alarm/a", "alarm.paying")
        await world.advance(HOUR + MINUTE)
        assert outside.amounts == [5]
        await world.send("alarm/a", "alarm.cancel")
        await world.advance(timedelta(days=1))
        assert world.state("alarm/a")["paid"] == 10
        assert outside.amounts == [5]


async def test_so_does_one_that_a_crash_interrupted() -> None:
    outside = Outside()
    async with World(Alarm(outside), fault=Fault(FaultPoint.RESULT_AFTER)) as world:
        await world.send("alarm/a", "alarm.paying")
        await world.advance(2 * HOUR)
        assert (outside.amounts, world.state("alarm/a")["paid"]) == ([5], 10)


async def test_an_event_with_a_journal_does_not_expire() -> None:
    outside = Outside()
    async with World(Alarm(outside, fails=1)) as world:
        expires = world.clock.now() + 60_000
        await world.event(replace(new_event("1", "test", "alarm.pay", 7), expires=expires), "alarm/a")
        await world.advance(HOUR)
        assert (outside.amounts, world.state("alarm/a")["paid"]) == ([7], 14)


async def test_one_without_does() -> None:
    async with World(Alarm) as world:
        late = replace(new_event("1", "test", "alarm.pay", 7), expires=world.clock.now() - 1)
        await world.event(late, "alarm/a")
        assert world.state("alarm/a") is None
        assert [entry["reason"] for entry in world.entries("alarm/a", "event.expired")] == ["expired"]
        assert told(world, "alarm/a", late.key).final


async def test_a_dead_lettered_firing_can_be_redriven_though_its_token_is_gone() -> None:
    alarm = Alarm(fails=9)
    async with World(alarm) as world:
        await world.send("alarm/a", "alarm.set", "one")
        await world.advance(timedelta(days=1))
        (letter,) = world.dead_letters("alarm/a")
        alarm.fails = 0
        await world.command("alarm/a", "aos.dead_letter.redrive", {"key": letter.message.event.key})
        assert len(world.state("alarm/a")["rang"]) == 1


# ----------------------------------------------------------------------------------------------------- not allowed


@pytest.mark.parametrize("type", ["aos.terminate", "aos.call.done", "task.run"])
async def test_an_agent_can_not_time_an_internal_event(type: str) -> None:
    async with World(Alarm) as world:
        await world.send("alarm/a", "alarm.internal", type)
        assert reasons(world, "alarm/a") == ["rejected"]
        await world.advance(HOUR)
        assert world.life("alarm/a") != "terminated"


class Fickle(Agent[Rung], type="fickle"):
    """Cancels its timer the first time, and thinks better of it when it is run again."""

    def __init__(self) -> None:
        self.asked = 0

    @on("fickle.set")
    def set(self, ctx: Context[Rung]) -> None:
        ctx.schedule("fickle.ring", key="k", after=timedelta(minutes=1))

    @on("fickle.stop")
    def stop(self, ctx: Context[Rung]) -> None:
        self.asked += 1
        if self.asked > 1:
            raise Reject("not any more")
        ctx.cancel("k")

    @on("fickle.ring")
    def ring(self, ctx: Context[Rung]) -> None:
        ctx.append("rung")


async def test_a_firing_is_not_stale_by_a_cancellation_that_was_never_committed() -> None:
    async with World(Fickle, fault=Fault(FaultPoint.COMMIT_LOST, 2)) as world:
        await world.send("fickle/a", "fickle.set")
        world.clock.move(timedelta(minutes=2))
        await world.post(envelope("fickle/a", "fickle.stop", at=world))
        process = world._processes[0]
        (session,) = await process.connection.bus.accept(1)
        deliveries = sorted(await session.receive(10), key=lambda delivery: b"fickle.stop" not in delivery.parcel.body)
        assert len(deliveries) == 2, "the cancellation first, then the firing, in one batch"
        await session.complete(await process.dispatcher.dispatch(Address.parse("fickle/a"), deliveries))
        await session.release()
        await world.run()
        assert world.history("fickle/a") == ["rung"]
        assert reasons(world, "fickle/a") == ["rejected"]
        world.verify()
