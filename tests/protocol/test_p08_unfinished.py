"""P8: an event that has begun an effect is kept whole and is finished before any other event of its agent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from aos.kernel import layout
from aos.kernel.address import Address
from aos.kernel.agent import Agent, cron, on
from aos.kernel.context import Context
from aos.kernel.errors import AskFailed, StillOpen
from aos.kernel.event import new_event
from aos.kernel.ports import Kind
from aos.kernel.receipt import Status, Waits
from aos.testing import Fault, FaultPoint, World, sweep
from tests.protocol.agents import Backend, Count, Outside, Paid, Pay, Till, both, envelope, handled, no_circles, reasons

AFTER_THE_INTENT = Fault(FaultPoint.INTENT_AFTER)
AFTER_THE_RESULT = Fault(FaultPoint.RESULT_AFTER)


@both
async def test_the_first_row_of_a_journal_holds_the_event_whole(backend: Backend) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend, fault=AFTER_THE_INTENT) as world:
        sent = envelope("till/a", "till.pay", Pay(cents=7).model_dump(), at=world, traceparent="00-ab-cd-01", hops=3)
        seen = []

        async def look() -> None:
            till, key = Address.parse("till/a"), sent.event.key
            loaded = await world.partitions.load(till)
            seen.append((loaded.head, await world.partitions.journal(till, key)))
            seen.append(await world.partitions.receipt(till, key))

        outside.then = [look]
        world.faults.armed = None
        await world.post(sent)
        await world.run()
        (head, journal), receipt = seen
        assert head.unfinished.key == sent.event.key, "the head names it"
        assert head.seq == 0, "and nothing was committed yet"
        assert journal.message.event == sent.event
        assert (journal.message.hops, journal.message.traceparent) == (3, "00-ab-cd-01")
        assert (receipt.status, receipt.waits, receipt.attempt) == (Status.OPEN, Waits.EFFECT, 1)
        world.faults.fired = 1


@both
@pytest.mark.parametrize("point", [FaultPoint.INTENT_BEFORE, FaultPoint.INTENT_LOST, FaultPoint.INTENT_DONE])
async def test_intent_event_and_receipt_are_written_together_or_not_at_all(backend: Backend, point: FaultPoint) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend, fault=Fault(point)) as world:
        await world.send("till/a", "till.pay", Pay(cents=3))
        assert outside.amounts == [3]
        assert world.state("till/a") == {"cents": 6, "others": 0}


@both
async def test_the_next_delivery_finishes_the_unfinished_event_before_its_own(backend: Backend) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend, fault=AFTER_THE_RESULT) as world:
        pay = envelope("till/a", "till.pay", {"cents": 3}, id="pay", at=world)
        other = envelope("till/a", "till.other", id="other", at=world)
        await world.post(pay, other)
        await world.run()
        assert handled(world, "till/a") == ["pay", "other"]
        assert outside.amounts == [3], "its result was there"


async def test_it_is_finished_by_another_event_though_its_own_delivery_is_lost() -> None:
    """The journal holds the event whole: the bus is not needed to finish it."""
    outside = Outside()
    async with World(Till(outside), fault=AFTER_THE_RESULT) as world:
        outside.then = [lambda: world.post(envelope("till/a", "till.other", id="other", at=world))]
        session = None
        await world.post(envelope("till/a", "till.pay", {"cents": 3}, id="pay", at=world))
        bus = world._processes[0].connection.bus
        for session in await bus.accept(1):
            deliveries = await session.receive(1)
            with pytest.raises(BaseException, match="RESULT_AFTER"):
                await world._processes[0].dispatcher.dispatch(Address.parse("till/a"), deliveries)
            await session.complete(deliveries)  # a broker that loses it
            await session.release()
        await world.crash()
        await world.run()
        assert handled(world, "till/a") == ["pay", "other"]
        assert outside.amounts == [3]


@both
async def test_an_ask_meanwhile_is_put_on_the_bus_and_waits_for_its_receipt(backend: Backend) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend, fault=AFTER_THE_RESULT) as world:
        with pytest.raises(StillOpen):
            await world.ask("till/a", "till.pay", Pay(cents=3), id="pay")
        other = world.ask("till/a", "till.other", id="other")
        with pytest.raises(StillOpen):
            await other
        assert handled(world, "till/a") == [], "nothing was committed before it"
        await world.advance(timedelta(minutes=5))
        assert handled(world, "till/a") == ["pay", "other"]
        receipt = world.receipt("till/a", other.key)
        assert receipt is not None and receipt.value == b"1"
        assert outside.amounts == [3]


@both
async def test_queries_meanwhile_answer_from_committed_state(backend: Backend) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend) as world:
        await world.send("till/a", "till.pay", Pay(cents=5))
        seen = []

        async def look() -> None:
            seen.append(await world._next().dispatcher.query(Address.parse("till/a"), "paid"))

        outside.then = [look]
        await world.send("till/a", "till.pay", Pay(cents=1))
        assert seen == [b"10"]
        assert await world.query("till/a", "paid") == 12


@both
async def test_while_an_effect_is_under_way_no_other_process_commits_another_event(backend: Backend) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend, processes=2) as world:
        committed = []

        async def elsewhere() -> None:
            other = envelope("till/a", "till.other", id="other", at=world)
            reply = await world._processes[0].dispatcher.ask(other, wait=0)
            reply = await world._processes[1].dispatcher.ask(other, wait=0) if reply.final else reply
            committed.append(reply.final)

        pay = envelope("till/a", "till.pay", {"cents": 2}, id="pay", at=world)
        outside.then = [elsewhere]
        reply = await asyncio.wait_for(world._processes[1].dispatcher.ask(pay, wait=0), 10)
        assert reply.final and committed == [False]
        await world.advance(timedelta(minutes=5))
        assert handled(world, "till/a") == ["pay", "other"]
        assert outside.amounts == [2]
        world.verify()


class Slow(Agent[Paid], effects={"charge": "write"}):
    """A handler that is given more time than most."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("slow.pay", timeout=timedelta(minutes=10))
    async def pay(self, ctx: Context[Paid]) -> int:
        return await ctx.effect("charge", self.outside.charge, 1)


async def test_an_event_that_runs_directly_is_not_taken_up_before_its_time_is_over() -> None:
    outside = Outside()
    async with World(Slow(outside), processes=2) as world:
        no_circles(world)

        async def take_long() -> None:
            world.clock.move(timedelta(minutes=5))
            for session in await world._processes[1].bus.accept(10):
                deliveries = await session.receive(10)
                done = await world._processes[1].dispatcher.dispatch(Address.parse("slow/a"), deliveries)
                await session.complete(done)
                await session.release()

        outside.then = [take_long]
        reply = await world._processes[0].dispatcher.ask(envelope("slow/a", "slow.pay", at=world), wait=0)
        await world.advance(timedelta(minutes=20))
        assert reasons(world, "slow/a") == []
        assert (reply.value, outside.amounts) == (b"2", [1])


async def test_a_dead_letter_lets_the_others_go_on() -> None:
    outside = Outside()
    async with World(Till(outside), fault=AFTER_THE_INTENT) as world:
        await world.post(
            envelope("till/a", "till.pay", {"cents": 3}, id="pay", at=world),
            envelope("till/a", "till.other", id="other", at=world),
        )
        await world.run()
        assert reasons(world, "till/a") == ["outcome_unknown"]
        assert handled(world, "till/a") == ["other"]
        assert len(outside.done) <= 1


class Hooked(Agent[Paid], effects={"lock": "write"}):
    """An effect in a life-cycle hook: its event is the operator's command."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("aos.suspended")
    async def suspended(self, ctx: Context[Paid]) -> None:
        ctx.state.cents += await ctx.effect("lock", self.outside.charge, 1)

    @on("hooked.work")
    def work(self, ctx: Context[Paid]) -> int:
        ctx.state.others += 1
        return ctx.state.others


async def test_a_command_whose_hook_has_an_effect_is_finished_too() -> None:
    outside = Outside()
    async with World(Hooked(outside)) as world:
        no_circles(world)
        await world.send("hooked/a", "hooked.work")
        assert await world.command("hooked/a", "aos.suspend") == {"life": "suspended", "changed": True}
        await world.send("hooked/a", "hooked.work")
        await world.command("hooked/a", "aos.resume")
        assert world.state("hooked/a") == {"cents": 2, "others": 2}
        rows = await world.partitions.rows(Address.parse("hooked/a"), Kind.JOURNAL)
        assert rows == [], "its journal is gone with it"


@pytest.mark.parametrize("point", [FaultPoint.INTENT_AFTER, FaultPoint.RESULT_AFTER, FaultPoint.COMMIT_LOST])
async def test_an_effect_in_a_hook_is_not_run_twice(point: FaultPoint) -> None:
    outside = Outside()
    async with World(Hooked(outside), fault=Fault(point, 2 if point is FaultPoint.COMMIT_LOST else 1)) as world:
        no_circles(world)
        await world.send("hooked/a", "hooked.work")
        with suppress(StillOpen):
            await world.command("hooked/a", "aos.suspend")
        await world.advance(timedelta(minutes=5))
        assert len(outside.done) <= 1
        if point is not FaultPoint.INTENT_AFTER:
            assert outside.done and reasons(world, "hooked/a") == []
        await world.send("hooked/a", "hooked.work", id="later")
        assert await world.partitions.receipt(Address.parse("hooked/a"), new_event("later", "test", "t").key)


async def test_a_command_whose_hook_had_an_unknown_outcome_goes_on_with_the_operators_answer() -> None:
    async def fails() -> None:
        raise ConnectionResetError("no answer")

    outside = Outside()
    async with World(Hooked(outside)) as world:
        no_circles(world)
        await world.send("hooked/a", "hooked.work")
        outside.then = [fails]
        with pytest.raises(AskFailed, match="outcome_unknown"):
            await world.command("hooked/a", "aos.suspend")
        assert world.life("hooked/a") == "active"
        (letter,) = world.dead_letters("hooked/a")
        answer = {"op": letter.operations[0]["op"], "answer": "happened", "result": 40}
        await world.command("hooked/a", "aos.dead_letter.resolve", {"key": letter.message.event.key, **answer})
        await world.run()
        assert len(outside.done) == 1, "it happened: it is not run again"
        assert world.life("hooked/a") == "suspended"
        assert world.state("hooked/a") == {"cents": 40, "others": 1}


async def test_a_command_that_has_nothing_left_to_do_leaves_no_journal() -> None:
    async def fails() -> None:
        raise ConnectionResetError("no answer")

    outside = Outside()
    async with World(Hooked(outside)) as world:
        no_circles(world)
        await world.send("hooked/a", "hooked.work")
        outside.then = [fails]
        with pytest.raises(AskFailed):
            await world.command("hooked/a", "aos.suspend")
        await world.command("hooked/a", "aos.suspend")  # another one, which goes well
        (letter,) = world.dead_letters("hooked/a")
        answer = {"op": letter.operations[0]["op"], "answer": "did_not_happen"}
        await world.command("hooked/a", "aos.dead_letter.resolve", {"key": letter.message.event.key, **answer})
        await world.run()
        assert world.dead_letters("hooked/a") == []
        assert len(outside.done) == 2
        assert await world.partitions.rows(Address.parse("hooked/a"), Kind.JOURNAL) == []


async def test_whatever_dies_an_effect_in_a_hook_is_never_run_twice() -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        no_circles(world)
        await world.send("hooked/a", "hooked.work")
        with suppress(StillOpen, AskFailed):
            await world.command("hooked/a", "aos.suspend")
        await world.advance(timedelta(minutes=5))
        assert len(outside.done) <= 1
        suspended = world.life("hooked/a") == "suspended"
        assert suspended or reasons(world, "hooked/a") == ["outcome_unknown"]
        with suppress(StillOpen):
            await world.command("hooked/a", "aos.resume")
        key = await world.send("hooked/a", "hooked.work")
        await world.advance(timedelta(minutes=5))
        receipt = world.receipt("hooked/a", key)
        assert receipt is not None and receipt.value == b"2"

    await sweep(scenario, Hooked(outside), processes=2, each=6)


class Nightly(Agent[Count], effects={"report": "write"}):
    """A schedule whose missed firings are left out, with an effect."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @cron("0 7 * * *", key="all", catch_up="none")
    async def night(self, ctx: Context[Count]) -> None:
        ctx.state.total += await ctx.effect("report", self.outside.charge, 1)

    @on("nightly.work")
    def work(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1


async def test_a_firing_with_a_journal_is_finished_however_late_it_is() -> None:
    outside = Outside()
    async with World(Nightly(outside), fault=Fault(FaultPoint.RESULT_BEFORE)) as world:
        no_circles(world)

        async def late() -> None:
            world.clock.move(timedelta(minutes=10))  # then the process dies: when it is taken up it counts as missed

        outside.then = [late]
        await world.advance(timedelta(days=1))
        assert len(outside.done) == 1
        assert reasons(world, "nightly/all") == ["outcome_unknown"]
        await world.send("nightly/all", "nightly.work")
        await world.advance(timedelta(days=1))
        assert world.state("nightly/all") == {"total": 2, "runs": 1}, "and the next firing is on time"


@both
async def test_whatever_dies_the_effect_is_never_run_twice(backend: Backend) -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        await world.post(
            envelope("till/a", "till.other", id="before", at=world),
            envelope("till/a", "till.pay", {"cents": 3}, id="pay", at=world),
            envelope("till/a", "till.other", id="after", at=world),
        )
        await world.run()
        await world.advance(timedelta(minutes=5))
        done = handled(world, "till/a")
        unknown = reasons(world, "till/a")
        assert len(outside.done) <= 1
        assert sorted([*done, *(["pay"] if unknown else [])]) == ["after", "before", "pay"]
        assert unknown in ([], ["outcome_unknown"])
        if not unknown:
            assert outside.amounts == [3]
        assert layout.journal("", 0) not in (row.key for row in await journal(world))

    if backend == "memory":
        await sweep(scenario, Till(outside), processes=2)
    else:
        await sweep(scenario, Till(outside), backend=backend, each=1)


async def journal(world: World) -> list:
    return await world.partitions.rows(Address.parse("till/a"), Kind.JOURNAL)


async def test_hostile_worlds_run_each_effect_once() -> None:
    outside = Outside()
    async with World(Till(outside), hostile=True, processes=2) as world:
        for n in range(30):
            await world.send("till/a", "till.pay", Pay(cents=n))
            await world.send("till/a", "till.other")
        await world.advance(timedelta(minutes=10))
        assert sorted(outside.amounts) == list(range(30))
        assert world.state("till/a") == {"cents": 2 * sum(range(30)), "others": 30}
        assert await journal(world) == []
        world.verify()
