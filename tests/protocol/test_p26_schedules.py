"""P26: a schedule arms its own next firing, in the commit of the one before; a missed or doubled tick fires once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.app import AgentOperatingSystem
from aos.kernel import schedules
from aos.kernel.address import Address
from aos.kernel.agent import Agent, cron
from aos.kernel.context import Context
from aos.kernel.errors import AosError, AskFailed, RegistrationError, Reject, Retry
from aos.kernel.message import Message
from aos.kernel.ports import Delivery, Parcel
from aos.testing import Crash, Fault, FaultPoint, ManualClock, World, sweep
from tests.protocol.agents import Add, Backend, Counter, Outside, both, envelope, handled, reasons
from tests.protocol.rivals import another, crash, dispatch, store_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Fired(BaseModel):
    at: list[str] = []
    paid: int = 0


class Nine(Agent[Fired], effects={"charge": "write"}, max_attempts=2):
    """Fires at nine; `failing` says what goes wrong, how often, and `where`."""

    def __init__(self, outside: Outside | None = None) -> None:
        self.outside = outside or Outside()
        self.failing: Sequence[BaseException] = ()
        self.where = ""

    @cron("0 9 * * *", key="one")
    def one(self, ctx: Context[Fired]) -> None:
        self._fire(ctx)

    @cron("0 9 * * *", key="all", catch_up="all")
    def all(self, ctx: Context[Fired]) -> None:
        self._fire(ctx)

    @cron("0 9 * * *", key="none", catch_up="none")
    def none(self, ctx: Context[Fired]) -> None:
        self._fire(ctx)

    @cron("0 9 * * *", key="pays", catch_up="none")
    async def pays(self, ctx: Context[Fired]) -> None:
        ctx.state.paid += await ctx.effect("charge", self.outside.charge, 1)
        self._fire(ctx)

    def _fire(self, ctx: Context[Fired]) -> None:
        if self.failing and ctx.me.key == self.where:
            error, *self.failing = self.failing
            raise error
        ctx.state.at.append(f"{ctx.now:%d %H:%M}")


class Berlin(Agent[Fired]):
    @cron("30 2 * * *", key="a", tz="Europe/Berlin")
    def night(self, ctx: Context[Fired]) -> None:
        ctx.state.at.append(f"{ctx.now:%d %H:%M}")


class Kept:
    """A bus that keeps what is sent."""

    def __init__(self, parcels: list[Parcel]) -> None:
        self.parcels = parcels

    async def send(self, parcels: Sequence[Parcel]) -> None:
        self.parcels += parcels


def fired(world: World, agent: str) -> list[str]:
    state = world.state(agent)
    return [] if state is None else state["at"]


async def firing(world: World, agent: str) -> list[Delivery]:
    """The next firing of a schedule's agent, as it lies on the bus."""
    kind = world.registry.type(agent.split("/", maxsplit=1)[0])
    address = Address.parse(agent)
    head = (await world.partitions.load(address)).head
    assert head is not None
    found: list[Delivery] = []
    for name, timer in head.timers.items():
        job = schedules.of_timer(kind, name)
        assert job is not None
        event = schedules.firing(address.source, job, timer.due)
        message = Message(to=address, event=event, token=f"{timer.token}:{name}", sent_at=timer.due)
        found.append(Delivery(message.parcel(), 1, None))
    return found


# ----------------------------------------------------------------------------------------------------- declared in code


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_it_fires_when_it_is_due_day_after_day(backend: Backend, hostile: bool) -> None:
    async with World(Nine, backend=backend, hostile=hostile) as world:
        await world.advance(timedelta(days=3))
        for agent in ("nine/one", "nine/all", "nine/none"):
            assert fired(world, agent) == ["05 09:00", "06 09:00", "07 09:00"]
        world.verify()


async def test_it_does_so_under_every_fault() -> None:
    async def scenario(world: World) -> None:
        await world.advance(timedelta(days=2))
        await world.advance(timedelta(minutes=10))
        assert len(fired(world, "berlin/a")) == 2

    await sweep(scenario, Berlin)


async def test_the_next_firing_is_armed_in_the_commit_of_this_one() -> None:
    async with World(Berlin) as world:
        await world.advance(timedelta(days=1))
        record = world.records("berlin/a")[-1]
        assert [entry["k"] for entry in record["entries"] if entry["k"] in ("event.handled", "timer.set")] == [
            "event.handled",
            "timer.set",
        ]


async def test_each_firing_is_an_event_that_says_which_one_it_is() -> None:
    async with World(Berlin) as world:
        await world.advance(timedelta(days=1))
        id = handled(world, "berlin/a")[-1]
        due = int(datetime(2026, 1, 6, 1, 30, tzinfo=UTC).timestamp() * 1000)
        assert id.startswith("cron:night:")
        assert id.endswith(f":{due}")


async def test_a_tick_with_nothing_due_commits_nothing() -> None:
    async with World(Nine) as world:
        await world.run()
        before = len(world.records("nine/one"))
        for _ in range(10):
            await world.advance(timedelta(minutes=5))
        assert len(world.records("nine/one")) == before


async def test_a_doubled_tick_fires_once() -> None:
    async with World(Nine) as world:
        await world.run()
        sent = await firing(world, "nine/one")
        world.clock.move(timedelta(hours=1))
        processes = [another(world, store=store_of(world)) for _ in range(2)]
        for process in processes * 2:
            await process.dispatch(Address.parse("nine/one"), sent)
        await world.run()
        assert fired(world, "nine/one") == ["05 09:00"]


# ---------------------------------------------------------------------------------------------------------- catch up


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("nine/one", ["08 12:00", "09 09:00"]),
        ("nine/all", ["08 12:00", "08 12:00", "08 12:00", "08 12:00", "09 09:00"]),
        ("nine/none", ["09 09:00"]),
    ],
)
async def test_what_was_missed_is_caught_up_as_declared(agent: str, expected: list[str]) -> None:
    async with World(Nine) as world:
        await world.run()
        world.clock.move(timedelta(days=3, hours=4))
        await world.run()
        await world.advance(DAY)
        assert fired(world, agent) == expected
        assert reasons(world, agent) == []


async def test_what_was_missed_is_on_record() -> None:
    async with World(Nine) as world:
        await world.run()
        world.clock.move(timedelta(days=1))
        await world.run()
        assert [entry["reason"] for entry in world.entries("nine/none", "event.expired")] == ["missed"]


async def test_a_firing_that_is_tried_again_was_not_missed() -> None:
    nine = Nine()
    async with World(nine) as world:
        await world.run()
        sent = await firing(world, "nine/none")
        world.clock.move(HOUR)
        nine.where, nine.failing = "none", [Retry("later", after=timedelta(minutes=10))]
        await another(world).dispatch(Address.parse("nine/none"), sent)
        await world.advance(DAY)
        assert fired(world, "nine/none") == ["05 09:10", "06 09:00"]


async def test_a_firing_whose_effect_has_begun_is_finished_however_late() -> None:
    outside = Outside()
    async with World(Nine(outside)) as world:
        await world.run()
        sent = await firing(world, "nine/pays")
        world.clock.move(HOUR)
        store = store_of(world).before("commit", crash)
        with pytest.raises(Crash):
            await another(world, store=store).dispatch(Address.parse("nine/pays"), sent)
        world.clock.move(timedelta(minutes=30))
        await another(world).dispatch(Address.parse("nine/pays"), sent)
        assert outside.amounts == [1]
        assert world.state("nine/pays")["paid"] == 2
        assert len(world.records("nine/pays")) == 2
        await world.advance(DAY)
        assert outside.amounts == [1, 1]


# ------------------------------------------------------------------------------------------------- it never just stops


@pytest.mark.parametrize("failing", [[Reject("no")], [ValueError(), ValueError()]])
async def test_a_firing_that_is_given_up_arms_the_next_one(failing: list[BaseException]) -> None:
    nine = Nine()
    async with World(nine) as world:
        await world.run()
        sent = await firing(world, "nine/one")
        world.clock.move(HOUR)
        nine.where, nine.failing = "one", list(failing)
        await another(world).dispatch(Address.parse("nine/one"), sent)
        await world.advance(2 * DAY)
        assert len(reasons(world, "nine/one")) == 1
        assert fired(world, "nine/one") == ["06 09:00", "07 09:00"]


async def test_so_does_one_that_kills_its_process() -> None:
    nine = Nine()
    async with World(nine) as world:
        await world.run()
        (sent,) = await firing(world, "nine/one")
        world.clock.move(HOUR)
        for count in range(1, 9):
            nine.where, nine.failing = "one", [Crash("the handler")]
            with suppress(Crash):
                await another(world).dispatch(Address.parse("nine/one"), [Delivery(sent.parcel, count, None)])
        nine.failing = ()
        assert reasons(world, "nine/one") == ["crash_suspected"]
        await world.advance(2 * DAY)
        assert fired(world, "nine/one") == ["06 09:00", "07 09:00"]


class Behind(ManualClock):
    """The clock of a host that is a little behind the bus's."""

    def __init__(self, clock: ManualClock, by: int) -> None:
        super().__init__()
        self._clock, self._by = clock, by

    def now(self) -> int:
        return self._clock.now() - self._by


@pytest.mark.parametrize("agent", ["nine/one", "nine/all", "nine/none"])
async def test_a_host_whose_clock_is_behind_neither_stops_it_nor_fires_it_twice(agent: str) -> None:
    async with World(Nine) as world:
        await world.run()
        sent = await firing(world, agent)
        world.clock.move(HOUR)
        await another(world, clock=Behind(world.clock, 200)).dispatch(Address.parse(agent), sent)
        await world.advance(timedelta(days=2))
        assert [at[:2] for at in fired(world, agent)] == ["05", "06", "07"]


# -------------------------------------------------------------------------------------------------- code that changes


async def test_a_changed_definition_replaces_the_old_firing() -> None:
    class Ten(Agent[Fired], type="nine"):
        @cron("0 10 * * *", key="one")
        def one(self, ctx: Context[Fired]) -> None:
            ctx.state.at.append(f"{ctx.now:%d %H:%M}")

    async with World(Nine) as world:
        await world.advance(DAY)
        del world.registry.types["nine"]
        world.registry.add(Ten)
        await world._arm_schedules()
        await world.advance(2 * DAY)
        assert fired(world, "nine/one") == ["05 09:00", "06 10:00", "07 10:00"]
        assert reasons(world, "nine/one") == []


async def test_arming_again_at_every_start_changes_nothing() -> None:
    async with World(Berlin) as world:
        await world.advance(DAY)
        for _ in range(3):
            await world._arm_schedules()
            await world.run()
        await world.advance(DAY)
        assert len(fired(world, "berlin/a")) == 2


async def test_a_schedule_that_nobody_can_read_is_refused_when_it_is_registered() -> None:
    class Wrong(Agent):
        @cron("61 * * * *", key="a")
        def wrong(self) -> None: ...

    class Nowhere(Agent):
        @cron("1 * * * *", key="a", tz="Europe/Atlantis")
        def nowhere(self) -> None: ...

    for kind in (Wrong, Nowhere):
        with pytest.raises(RegistrationError, match=r"61|Atlantis"):
            AgentOperatingSystem([kind])


# ----------------------------------------------------------------------------------------------------------- time zones


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (datetime(2026, 3, 27, 12, tzinfo=UTC), ["28 01:30", "29 01:00", "30 00:30"]),
        (datetime(2026, 10, 23, 12, tzinfo=UTC), ["24 00:30", "25 00:30", "26 01:30"]),
    ],
)
async def test_summer_time_neither_loses_nor_doubles_a_night(start: datetime, expected: list[str]) -> None:
    """02:30 does not exist on the first night and comes twice on the second."""
    async with World(Berlin, start=start) as world:
        await world.advance(timedelta(days=3))
        assert [at[:2] for at in fired(world, "berlin/a")] == [at[:2] for at in expected]
        assert fired(world, "berlin/a") == expected


# ------------------------------------------------------------------------------------------------- made by operators


async def schedule(world: World, **more: Any) -> Any:
    wanted = {"cron": "0 9 * * *", "agent": "counter/a", "type": "counter.add", "data": {"by": 1}, **more}
    return await world.ask("schedule/s", "schedule.set", wanted)


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_an_operators_schedule_fires_too(backend: Backend, hostile: bool) -> None:
    async with World(Counter, backend=backend, hostile=hostile) as world:
        assert await schedule(world) == "2026-01-05T09:00:00Z"
        await world.advance(timedelta(days=3))
        assert world.state("counter/a")["total"] == 3
        await world.ask("schedule/s", "schedule.delete")
        await world.advance(timedelta(days=3))
        assert world.state("counter/a")["total"] == 3


@pytest.mark.parametrize(("catch_up", "expected"), [("one", 1), ("all", 4), ("none", 0)])
async def test_it_catches_up_as_told(catch_up: str, expected: int) -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add(by=100))
        await schedule(world, catch_up=catch_up)
        world.clock.move(timedelta(days=3, hours=4))
        await world.run()
        assert world.state("counter/a")["total"] == 100 + expected


async def test_it_fires_once_under_every_fault() -> None:
    async def scenario(world: World) -> None:
        await schedule(world)
        await world.advance(timedelta(days=2))
        assert world.state("counter/a")["total"] == 2

    await sweep(scenario, Counter, each=2)


async def test_it_fires_once_though_the_host_is_behind() -> None:
    async with World(Counter) as world:
        sent: list[Parcel] = []
        await schedule(world, cron="0 8 * * *")
        process = another(world, bus=Kept(sent))
        set_again = {"cron": "0 9 * * *", "agent": "counter/a", "type": "counter.add", "data": {"by": 1}}
        await dispatch(process, envelope("schedule/s", "schedule.set", set_again, at=world))
        world.clock.move(HOUR)
        late = another(world, clock=Behind(world.clock, 200))
        await late.dispatch(Address.parse("schedule/s"), [Delivery(parcel, 1, None) for parcel in sent])
        await world.advance(timedelta(hours=20))
        assert world.state("counter/a")["total"] == 1
        await world.advance(timedelta(hours=20))
        assert world.state("counter/a")["total"] == 2


@pytest.mark.parametrize("wrong", [{"cron": "never"}, {"tz": "Mars/Base"}, {"agent": "no address"}])
async def test_what_can_not_be_scheduled_is_said_at_once(wrong: dict[str, str]) -> None:
    async with World(Counter) as world:
        with pytest.raises((AskFailed, AosError)):
            await schedule(world, **wrong)
        assert world.state("schedule/s") is None or world.state("schedule/s")["schedule"] is None


async def test_a_crash_between_two_firings_loses_none() -> None:
    async with World(Counter, fault=Fault(FaultPoint.COMMIT_AFTER, 5)) as world:
        await schedule(world, cron="* * * * *")
        await world.advance(timedelta(minutes=10))
        assert world.state("counter/a")["total"] == 10
