"""P9: the journal of an event: where it lies, what is fixed in it, when it is read and how long it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.address import Address
from aos.kernel.agent import Agent, Outcome, Pending, after, on
from aos.kernel.context import Context
from aos.kernel.errors import OutcomeUnknown, Retry
from aos.kernel.ports import Kind
from aos.kernel.receipt import Status, Waits
from aos.testing import Fault, FaultPoint, World, sweep
from tests.protocol.agents import (
    Backend,
    Counter,
    Outside,
    Paid,
    Pay,
    Till,
    both,
    envelope,
    handled,
    no_circles,
    reasons,
)

SHOP = Address.parse("shop/a")


class Shop(Agent[Paid], effects={"charge": "write", "refund": "destroy"}, max_attempts=3):
    """Handlers that a test writes: `then` is called with the context in each attempt, in order; the last one stays."""

    def __init__(self) -> None:
        self.outside = Outside()
        self.then: list[Callable[[Context[Paid]], Any]] = []

    @on("shop.do")
    async def do(self, ctx: Context[Paid]) -> Any:
        act = self.then.pop(0) if len(self.then) > 1 else self.then[0]
        return await act(ctx)

    @on("shop.other")
    def other(self, ctx: Context[Paid]) -> int:
        ctx.state.others += 1
        return ctx.state.others

    async def charge(self, ctx: Context[Paid], cents: int = 1, **more: Any) -> int:
        return await ctx.effect("charge", self.outside.charge, cents, **more)

    async def charge_then_fail(self, ctx: Context[Paid]) -> None:
        await self.charge(ctx)
        raise Retry("later", after=timedelta(minutes=10))

    async def charge_then_reject(self, ctx: Context[Paid]) -> None:
        await self.charge(ctx)
        raise ValueError("broken")


async def rows(world: World, agent: Address = SHOP) -> list[str]:
    return [row.key for row in await world.partitions.rows(agent, Kind.JOURNAL)]


async def test_journal_rows_lie_outside_of_what_a_turn_loads() -> None:
    shop = Shop()
    shop.then = [shop.charge_then_fail, shop.charge]
    async with World(shop) as world:
        key = await world.send("shop/a", "shop.do")
        assert await rows(world) == [f"j{key}|000000", f"j{key}|000001", f"j{key}|000001r"]
        snapshot = await world.partitions.store.load(SHOP)
        assert snapshot.outbox == ()


@both
@pytest.mark.parametrize("point", [FaultPoint.RESULT_AFTER, FaultPoint.COMMIT_BEFORE, FaultPoint.COMMIT_LOST])
async def test_time_and_chance_are_those_of_the_first_run(backend: Backend, point: FaultPoint) -> None:
    shop = Shop()
    runs: list[list[Any]] = []

    async def draw(ctx: Context[Paid]) -> None:
        world.clock.move(timedelta(seconds=7))
        runs.append([ctx.now, ctx.random.random(), ctx.uuid()])
        await shop.charge(ctx)
        runs[-1] += [ctx.now, ctx.random.choice("abcdefghij"), ctx.uuid()]

    shop.then = [draw]
    async with World(shop, backend=backend, fault=Fault(point), settle_together=False) as world:
        await world.send("shop/a", "shop.do")
        first, again = runs
        assert first == again[: len(first)] and len(again) == 6
        assert shop.outside.amounts == [1]


async def test_time_and_chance_are_the_same_in_a_retry_and_after_a_redrive() -> None:
    shop, seen = Shop(), []

    async def draw(ctx: Context[Paid]) -> None:
        seen.append((ctx.now, ctx.uuid()))
        await shop.charge(ctx)
        if len(seen) < 4:
            raise ValueError("not yet")

    shop.then = [draw]
    async with World(shop) as world:
        key = await world.send("shop/a", "shop.do")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "shop/a") == ["max_attempts"]
        await world.command("shop/a", "aos.dead_letter.redrive", {"key": key})
        await world.advance(timedelta(hours=1))
        assert handled(world, "shop/a")
        assert len(seen) == 4 and len(set(seen)) == 1
        assert shop.outside.amounts == [1]


@both
async def test_a_failure_keeps_the_journal_and_lets_the_others_go_on(backend: Backend) -> None:
    shop = Shop()
    shop.then = [shop.charge_then_fail, shop.charge]
    async with World(shop, backend=backend) as world:
        key = await world.send("shop/a", "shop.do", id="do")
        head = (await world.partitions.load(SHOP)).head
        assert head is not None and head.unfinished is None
        assert len(await rows(world)) == 3
        assert await world.ask("shop/a", "shop.other", id="other") == 1
        await world.advance(timedelta(minutes=11))
        assert handled(world, "shop/a")[-1] == "do"
        assert shop.outside.amounts == [1], "the retry read the journal"
        assert await rows(world) == [], "and it is gone with the event"
        receipt = await world.partitions.receipt(SHOP, key)
        assert receipt is not None and not receipt.journal


@both
@pytest.mark.parametrize("end", ["redrive", "discard"])
async def test_a_dead_letter_keeps_its_journal_until_it_is_handled_or_discarded(backend: Backend, end: str) -> None:
    shop = Shop()
    shop.then = [shop.charge_then_reject]
    async with World(shop, backend=backend) as world:
        key = await world.send("shop/a", "shop.do")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "shop/a") == ["max_attempts"]
        assert shop.outside.amounts == [1]
        assert len(await rows(world)) == 3
        shop.then = [shop.charge]
        await world.command("shop/a", f"aos.dead_letter.{end}", {"key": key})
        await world.run()
        assert shop.outside.amounts == [1]
        assert await rows(world) == []
        receipt = await world.partitions.receipt(SHOP, key)
        assert receipt is not None
        assert receipt.status is (Status.HANDLED if end == "redrive" else Status.DISCARDED)


async def test_an_edited_redrive_discards_the_old_event_with_its_journal() -> None:
    shop = Shop()
    shop.then = [shop.charge_then_reject]
    async with World(shop) as world:
        key = await world.send("shop/a", "shop.do")
        await world.advance(timedelta(hours=1))
        shop.then = [shop.charge]
        await world.command("shop/a", "aos.dead_letter.redrive", {"key": key, "data": 1})
        await world.run()
        receipt = await world.partitions.receipt(SHOP, key)
        assert receipt is not None and receipt.status is Status.DISCARDED
        assert await rows(world) == [], "nobody will ever read it again"


async def test_a_denied_event_leaves_no_journal() -> None:
    shop = Shop()

    async def act(ctx: Context[Paid]) -> None:
        await shop.charge(ctx)
        await ctx.effect("refund", shop.outside.charge, 1)

    shop.then = [act]
    async with World(shop, gate=_NoRefunds()) as world:
        await world.send("shop/a", "shop.do")
        assert shop.outside.amounts == [1]
        assert await rows(world) == []
        assert await world.ask("shop/a", "shop.other") == 1


class _NoRefunds:
    async def decide(self, request: Any) -> Any:
        from aos.kernel.gatekeeper import PermitAll

        if request.action == "destroy":
            raise RuntimeError("the gate fails")
        return await PermitAll().decide(request)


@both
async def test_a_retry_that_waits_in_the_backlog_keeps_its_journal(backend: Backend) -> None:
    """Suspended between two attempts: what was done outside before is still known when it goes on."""
    shop = Shop()
    shop.then = [shop.charge_then_fail, shop.charge]
    async with World(shop, backend=backend) as world:
        await world.send("shop/a", "shop.do", id="do")
        await world.command("shop/a", "aos.suspend")
        await world.advance(timedelta(minutes=11))
        await world.command("shop/a", "aos.resume")
        await world.advance(timedelta(minutes=1))
        assert "do" in handled(world, "shop/a")
        assert shop.outside.amounts == [1]
        assert await rows(world) == []


async def test_a_redriven_event_that_waits_in_the_backlog_keeps_its_journal() -> None:
    shop = Shop()
    shop.then = [shop.charge_then_reject]
    async with World(shop) as world:
        key = await world.send("shop/a", "shop.do", id="do")
        await world.advance(timedelta(hours=1))
        await world.command("shop/a", "aos.suspend")
        shop.then = [shop.charge]
        await world.command("shop/a", "aos.dead_letter.redrive", {"key": key})
        await world.run()
        await world.command("shop/a", "aos.resume")
        await world.run()
        assert "do" in handled(world, "shop/a")
        assert shop.outside.amounts == [1]


# -------------------------------------------------------------------------------------------------------- other effects


async def test_other_arguments_than_the_journal_holds_are_a_mismatch() -> None:
    shop = Shop()

    async def other(ctx: Context[Paid]) -> None:
        await shop.charge(ctx, 2)

    shop.then = [shop.charge_then_fail, other]
    async with World(shop) as world:
        await world.send("shop/a", "shop.do")
        await world.advance(timedelta(minutes=11))
        assert reasons(world, "shop/a") == ["journal_mismatch"]
        assert shop.outside.amounts == [1]


async def test_an_effect_that_is_not_asked_for_again_is_a_mismatch() -> None:
    shop = Shop()

    async def nothing(ctx: Context[Paid]) -> None:
        ctx.state.others += 100

    shop.then = [shop.charge_then_fail, nothing]
    async with World(shop) as world:
        await world.send("shop/a", "shop.do")
        await world.advance(timedelta(minutes=11))
        assert reasons(world, "shop/a") == ["journal_mismatch"]
        assert world.state("shop/a") in (None, {"cents": 0, "others": 0})


async def test_another_effect_in_its_place_is_a_mismatch() -> None:
    shop = Shop()

    async def other(ctx: Context[Paid]) -> None:
        await ctx.effect("refund", shop.outside.charge, 100)

    shop.then = [shop.charge_then_fail, other]
    async with World(shop) as world:
        await world.send("shop/a", "shop.do")
        await world.advance(timedelta(minutes=11))
        assert reasons(world, "shop/a") == ["journal_mismatch"]
        assert shop.outside.amounts.count(1) == 1


async def test_a_mismatch_is_one_even_if_the_handler_catches_everything() -> None:
    shop = Shop()

    async def other(ctx: Context[Paid]) -> str:
        try:
            await shop.charge(ctx, 2)
        except Exception:
            return "never mind"
        return "done"

    shop.then = [shop.charge_then_fail, other]
    async with World(shop) as world:
        await world.send("shop/a", "shop.do")
        await world.advance(timedelta(minutes=11))
        assert reasons(world, "shop/a") == ["journal_mismatch"]


async def test_more_effects_than_the_journal_holds_are_fine() -> None:
    """The journal of a run that died is a beginning of what the handler asks for."""
    shop = Shop()

    async def two(ctx: Context[Paid]) -> int:
        return await shop.charge(ctx, 1) + await shop.charge(ctx, 2)

    shop.then = [two]
    async with World(shop, fault=Fault(FaultPoint.RESULT_AFTER)) as world:
        await world.send("shop/a", "shop.do")
        assert shop.outside.amounts == [1, 2]
        assert handled(world, "shop/a")


# ------------------------------------------------------------------------------------------------------------ the fence


async def overtaken(world: World, shop: Shop) -> str:
    """An effect is under way in the first process when its lock is lost; the second one takes the event up."""
    await world.post(envelope("shop/a", "shop.do", id="do", at=world))
    first, second = world._processes

    async def take_over() -> None:
        await second.dispatcher.dispatch(SHOP, deliveries)

    shop.outside.then = [take_over]
    (session,) = await first.connection.bus.accept(1)
    deliveries = await session.receive(10)
    await first.dispatcher.dispatch(SHOP, deliveries)
    await session.complete(deliveries)
    await session.release()
    return deliveries[0].parcel.id.partition(".")[0]


@both
async def test_a_result_is_recorded_though_the_head_has_moved_on(backend: Backend) -> None:
    """The result row is fenced by its intent row, not by the head: what is known must not be thrown away."""
    shop = Shop()
    shop.then = [shop.charge]
    async with World(shop, backend=backend, processes=2) as world:
        no_circles(world)
        key = await overtaken(world, shop)
        assert shop.outside.amounts == [1]
        assert reasons(world, "shop/a") == ["outcome_unknown"], "it was not known when it was taken up"
        assert f"j{key}|000001r" in await rows(world), "but it is now"


@both
async def test_a_dead_letter_whose_result_came_late_can_go_on(backend: Backend) -> None:
    """Nobody has to answer for an effect whose result was recorded after all; the redrive takes it."""
    shop = Shop()
    shop.then = [shop.charge]
    async with World(shop, backend=backend, processes=2) as world:
        no_circles(world)
        key = await overtaken(world, shop)
        await world.command("shop/a", "aos.dead_letter.redrive", {"key": key})
        await world.run()
        assert handled(world, "shop/a")[-1] == "do"
        assert shop.outside.amounts == [1]


async def test_a_late_result_is_not_recorded_once_its_intent_is_gone() -> None:
    """Discarded meanwhile: the result of what was given up must not come back as a row that nobody deletes."""
    shop = Shop()
    shop.then = [shop.charge]
    async with World(shop, processes=2) as world:
        no_circles(world)
        await world.post(envelope("shop/a", "shop.do", id="do", at=world))
        first, second = world._processes
        (session,) = await first.connection.bus.accept(1)
        deliveries = await session.receive(10)
        key = deliveries[0].parcel.id.partition(".")[0]

        async def give_up() -> None:
            await second.dispatcher.dispatch(SHOP, deliveries)
            world._processes.remove(first)
            await world.command("shop/a", "aos.dead_letter.discard", {"key": key})
            world._processes.insert(0, first)

        shop.outside.then = [give_up]
        await first.dispatcher.dispatch(SHOP, deliveries)
        assert await rows(world) == []
        receipt = await world.partitions.receipt(SHOP, key)
        assert receipt is not None and receipt.status is Status.DISCARDED
        assert handled(world, "shop/a")[-1] != "do"


# ------------------------------------------------------------------------------------------- handlers of their own kind


@both
async def test_an_effect_that_nobody_waited_for_does_not_bring_its_event_back(backend: Backend) -> None:
    """The handler ends before its effect has begun: the event is handled, or it is not, but not both."""
    shop, tasks = Shop(), []

    async def hasty(ctx: Context[Paid]) -> str:
        await shop.charge(ctx, 1, key="first")
        tasks.append(asyncio.ensure_future(shop.charge(ctx, 2, key="second")))
        return "done"

    shop.then = [hasty]
    async with World(shop, backend=backend) as world:
        no_circles(world)
        await world.post(envelope("shop/a", "shop.do", id="do", at=world))
        await world.post(envelope("shop/a", "shop.other", id="other", at=world))
        await world.run()
        await asyncio.gather(*tasks, return_exceptions=True)
        await world.advance(timedelta(hours=1))
        assert shop.outside.amounts.count(1) == 1
        head = (await world.partitions.load(SHOP)).head
        assert head is not None and head.unfinished is None
        assert len(handled(world, "shop/a")) + len(reasons(world, "shop/a")) == 2, "each event has come to one end"


async def test_a_failing_effect_beside_one_that_is_under_way_leaves_both_to_be_answered_for() -> None:
    shop = Shop()
    under_way = asyncio.Event()

    async def fails() -> None:
        await under_way.wait()
        raise ConnectionError("no answer")

    async def slow() -> None:
        under_way.set()
        for _ in range(50):
            await asyncio.sleep(0)

    async def both_at_once(ctx: Context[Paid]) -> None:
        await asyncio.gather(shop.charge(ctx, 1, key="a"), shop.charge(ctx, 2, key="b"))

    shop.then = [both_at_once]
    shop.outside.then = [fails, slow]
    async with World(shop) as world:
        no_circles(world)
        key = await world.send("shop/a", "shop.do", id="do")
        assert reasons(world, "shop/a") == ["outcome_unknown"]
        (letter,) = world.dead_letters("shop/a")
        for operation in letter.operations:
            await world.command(
                "shop/a",
                "aos.dead_letter.resolve",
                {"key": key, "op": operation["op"], "answer": "happened", "result": 1},
            )
        await world.run()
        assert handled(world, "shop/a")[-1] == "do"
        assert sorted(shop.outside.amounts) == [1, 2]


class Caller(Agent[Paid], effects={"charge": "write"}):
    """Waits for an answer, and acts outside when it comes."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("caller.call")
    def call(self, ctx: Context[Paid]) -> Pending:
        return ctx.send("counter/b", "counter.add", {"by": 1}, deadline=timedelta(minutes=5))

    @after("counter.add")
    async def added(self, out: Outcome[int], ctx: Context[Paid]) -> int:
        got = await ctx.effect("charge", self.outside.charge, 1)
        if not ctx.state.others and out.ok:
            raise Retry("not yet", after=timedelta(minutes=10))
        ctx.state.cents += got
        return got

    @on("caller.other")
    def other(self, ctx: Context[Paid]) -> None:
        ctx.state.others += 1


async def test_an_answer_with_a_journal_comes_to_an_end_though_its_wait_is_over() -> None:
    outside = Outside()
    async with World(Caller(outside), Counter) as world:
        no_circles(world)
        await world.send("caller/a", "caller.call", id="call")
        await world.advance(timedelta(minutes=6))  # the deadline of the wait
        await world.send("caller/a", "caller.other", id="other")
        await world.advance(timedelta(hours=1))
        assert "other" in handled(world, "caller/a")
        open_ones = [
            receipt.key
            for receipt in await world.partitions.rows(Address.parse("caller/a"), Kind.RECEIPT)
            if b'"status":"open"' in receipt.body and Waits.RETRY.value.encode() in receipt.body
        ]
        assert open_ones == [], "nothing is left half done"


# ------------------------------------------------------------------------------------------------------------ all of it


@both
async def test_at_whatever_point_a_process_dies_journals_are_read_and_cleaned_up(backend: Backend) -> None:
    shop = Shop()

    async def two(ctx: Context[Paid]) -> int:
        try:
            first = await shop.charge(ctx, 1)
        except OutcomeUnknown:
            first = 0
        try:
            second = await shop.charge(ctx, 2)
        except OutcomeUnknown:
            second = 0
        if not failed:
            failed.append(True)
            raise Retry("once")
        return first + second

    failed: list[bool] = []
    shop.then = [two]

    async def scenario(world: World) -> None:
        shop.outside.clear()
        failed.clear()
        no_circles(world)
        await world.send("shop/a", "shop.do", id="do")
        await world.advance(timedelta(minutes=10))
        assert handled(world, "shop/a") == ["do"]
        assert sorted(shop.outside.amounts) in ([1, 2], [1], [2])
        assert await rows(world) == []

    await sweep(scenario, shop, backend=backend, each=5 if backend == "memory" else 1)


async def test_a_till_that_is_asked_survives_everything_too() -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        no_circles(world)
        answer = world.ask("till/a", "till.pay", Pay(cents=4), id="pay")
        await world.advance(timedelta(minutes=10))
        receipt = world.receipt("till/a", answer.key)
        assert receipt is not None and receipt.final
        assert outside.amounts in ([4], [])
        if receipt.value is not None:
            assert (outside.amounts, receipt.value) == ([4], b"8")

    await sweep(scenario, Till(outside), processes=2, each=5)
