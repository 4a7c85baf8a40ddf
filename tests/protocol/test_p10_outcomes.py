"""P10: intent, run, result; what certainly did not happen; what is unknown, and who answers for it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import AskFailed, InvalidEvent, NotDone, OutcomeUnknown, Refused, StoreUnavailable
from aos.kernel.ports import Kind
from aos.kernel.receipt import Status
from aos.testing import Fault, FaultPoint, World, sweep
from tests.protocol.agents import Backend, Count, Outside, both, envelope, handled, no_circles, reasons

BANK = Address.parse("bank/a")
DEAD_BEFORE_THE_RESULT = [FaultPoint.INTENT_AFTER, FaultPoint.RESULT_BEFORE, FaultPoint.RESULT_LOST]


class Bank(Agent[Count], effects={"charge": "write"}, timeout=timedelta(milliseconds=200)):
    """`call` is the function of the effect, `idempotent` how it is declared."""

    def __init__(self, call: Callable[[str], Awaitable[Any]] | None = None, *, idempotent: bool = False) -> None:
        self.outside = Outside()
        self.call = call
        self.idempotent = idempotent

    async def charge(self, idempotency_key: str) -> int:
        await self.outside.charge(1, idempotency_key)
        if self.call is not None:
            await self.call(idempotency_key)
        return 5

    @on("bank.charge")
    async def plain(self, ctx: Context[Count]) -> int:
        ctx.state.total += await ctx.effect("charge", self.charge, idempotent=self.idempotent)
        return ctx.state.total

    @on("bank.try")
    async def decided(self, ctx: Context[Count]) -> str:
        try:
            await ctx.effect("charge", self.charge, idempotent=self.idempotent)
        except OutcomeUnknown as unknown:
            return f"unknown {unknown.name}"
        except NotDone as error:
            return f"not done: {error}"
        return "done"

    @on("bank.short")
    async def short(self, ctx: Context[Count]) -> int:
        return await ctx.effect("charge", self.charge, timeout=timedelta(milliseconds=10))

    @on("bank.two")
    async def two(self, ctx: Context[Count]) -> list[Any]:
        calls = (ctx.effect("charge", self.charge, key=key) for key in ("a", "b"))
        done = await asyncio.gather(*calls, return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error
        return done


async def fails(_: str) -> None:
    raise ConnectionResetError("no answer")


async def hangs(_: str) -> None:
    await asyncio.Event().wait()


async def not_done(_: str) -> None:
    raise NotDone("no connection")


async def once(bank: Bank, what: Callable[[str], Awaitable[Any]]) -> None:
    """The next call goes wrong like that, the ones after it don't."""

    async def act(key: str) -> None:
        bank.call = None
        await what(key)

    bank.call = act


async def rows(world: World) -> list[str]:
    return [row.key for row in await world.partitions.rows(BANK, Kind.JOURNAL)]


def entries(world: World, *kinds: str) -> list[str]:
    return [entry["k"] for entry in world.entries("bank/a", *kinds)]


# ------------------------------------------------------------------------------------------------------- the plain case


@both
async def test_an_effect_is_intent_run_and_result(backend: Backend) -> None:
    bank = Bank()
    seen: list[list[str]] = []

    async def look(_: str) -> None:
        seen.append(await rows(world))

    bank.call = look
    async with World(bank, backend=backend) as world:
        key = await world.send("bank/a", "bank.charge")
        assert seen == [[f"j{key}|000000", f"j{key}|000001"]], "the intent is written before it runs"
        assert await rows(world) == [], "and everything goes with the commit"
        assert entries(world, "effect.intent", "effect.result", "effect.unknown") == ["effect.intent", "effect.result"]
        (intent,) = world.entries("bank/a", "effect.intent")
        assert bank.outside.done == [(intent["op"], 1)], "the operation id is handed on"
        assert world.state("bank/a")["total"] == 5


@both
async def test_an_idempotent_effect_has_only_a_result(backend: Backend) -> None:
    bank = Bank(idempotent=True)
    seen: list[list[str]] = []

    async def look(_: str) -> None:
        seen.append(await rows(world))

    bank.call = look
    async with World(bank, backend=backend) as world:
        await world.send("bank/a", "bank.charge")
        assert seen == [[]], "nothing is written before it runs"
        assert world.state("bank/a")["total"] == 5


@both
@pytest.mark.parametrize("point", [FaultPoint.RESULT_BEFORE, FaultPoint.RESULT_LOST])
async def test_an_idempotent_effect_whose_result_is_missing_is_run_again_under_its_id(
    backend: Backend, point: FaultPoint
) -> None:
    bank = Bank(idempotent=True)
    async with World(bank, backend=backend, fault=Fault(point)) as world:
        await world.send("bank/a", "bank.charge")
        assert world.state("bank/a")["total"] == 5
        assert len(bank.outside.done) == 2
        assert len(set(bank.outside.done)) == 1


@both
@pytest.mark.parametrize("point", [FaultPoint.RESULT_DONE, FaultPoint.RESULT_AFTER, FaultPoint.COMMIT_BEFORE])
async def test_an_idempotent_effect_whose_result_is_there_is_not_run_again(backend: Backend, point: FaultPoint) -> None:
    bank = Bank(idempotent=True)
    async with World(bank, backend=backend, fault=Fault(point), settle_together=False) as world:
        await world.send("bank/a", "bank.charge")
        assert world.state("bank/a")["total"] == 5
        assert len(bank.outside.done) == 1


async def test_an_idempotent_effect_never_has_an_unknown_outcome() -> None:
    bank = Bank(fails, idempotent=True)
    async with World(bank) as world:
        await world.send("bank/a", "bank.charge")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "bank/a") == ["max_attempts"]
        assert len(bank.outside.done) == 5
        assert entries(world, "effect.unknown") == []


# ------------------------------------------------------------------------------------------------------------- not done


@both
async def test_what_was_not_done_is_recorded_and_tried_again(backend: Backend) -> None:
    bank = Bank()
    await once(bank, not_done)
    async with World(bank, backend=backend) as world:
        await world.send("bank/a", "bank.charge")
        assert world.dead_letters("bank/a") == []
        (result,) = world.entries("bank/a", "effect.result")
        assert result["outcome"] == "not_done"
        await world.advance(timedelta(minutes=1))
        assert world.state("bank/a")["total"] == 5
        assert len(bank.outside.done) == 2
        assert len(set(bank.outside.done)) == 1, "under the same operation id"


async def test_a_handler_may_take_not_done_for_an_answer() -> None:
    bank = Bank(not_done)
    async with World(bank) as world:
        assert await world.ask("bank/a", "bank.try") == "not done: no connection"
        assert len(bank.outside.done) == 1


async def test_what_was_not_done_is_not_tried_again_within_the_attempt() -> None:
    """A crash after the failed result: the run again is the same attempt and gets the same answer."""
    bank = Bank()
    await once(bank, not_done)
    async with World(bank, fault=Fault(FaultPoint.RESULT_AFTER)) as world:
        await world.send("bank/a", "bank.try")
        assert handled(world, "bank/a")
        assert len(bank.outside.done) == 1
        assert entries(world, "effect.unknown") == []


@both
@pytest.mark.parametrize("point", DEAD_BEFORE_THE_RESULT)
async def test_the_second_try_can_have_an_unknown_outcome_too(backend: Backend, point: FaultPoint) -> None:
    bank = Bank()
    await once(bank, not_done)
    async with World(bank, backend=backend, fault=Fault(point, 2)) as world:
        await world.send("bank/a", "bank.charge")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "bank/a") == ["outcome_unknown"]
        assert len(bank.outside.done) <= 2


# -------------------------------------------------------------------------------------------------------------- unknown


@both
@pytest.mark.parametrize("point", DEAD_BEFORE_THE_RESULT)
async def test_an_open_intent_is_unknown_and_never_run_again(backend: Backend, point: FaultPoint) -> None:
    bank = Bank()
    async with World(bank, backend=backend, fault=Fault(point)) as world:
        await world.send("bank/a", "bank.charge")
        await world.advance(timedelta(days=1))
        assert reasons(world, "bank/a") == ["outcome_unknown"]
        assert len(bank.outside.done) <= 1
        (letter,) = world.dead_letters("bank/a")
        assert [operation["name"] for operation in letter.operations] == ["charge"]
        assert "effect.unknown" in entries(world)


@pytest.mark.parametrize("type", ["bank.charge", "bank.short"])
@pytest.mark.parametrize("what", [fails, hangs])
async def test_any_other_exception_and_time_out_is_an_unknown_outcome(type: str, what: Any) -> None:
    bank = Bank(what)
    async with World(bank) as world:
        await world.send("bank/a", type)
        await world.advance(timedelta(hours=1))
        assert reasons(world, "bank/a") == ["outcome_unknown"]
        assert len(bank.outside.done) == 1


async def test_cancellation_by_the_handler_is_an_unknown_outcome() -> None:
    class Impatient(Bank, type="impatient", effects={"charge": "write"}):
        @on("impatient.go")
        async def go(self, ctx: Context[Count]) -> None:
            async with asyncio.timeout(0.01):
                await ctx.effect("charge", self.charge)

    bank = Impatient(hangs)
    async with World(bank) as world:
        await world.send("impatient/a", "impatient.go")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "impatient/a") == ["outcome_unknown"]
        assert len(bank.outside.done) == 1


async def test_a_cancellation_inside_of_the_effect_is_an_unknown_outcome() -> None:
    async def cancelled(_: str) -> None:
        task = asyncio.ensure_future(asyncio.sleep(9))
        task.cancel()
        await task

    bank = Bank(cancelled)
    async with World(bank) as world:
        no_circles(world)
        await world.send("bank/a", "bank.charge")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "bank/a") == ["outcome_unknown"]
        assert len(bank.outside.done) == 1


@pytest.mark.parametrize("text", ["no such file: \udcff", "\0", "x" * 3_000_000])
async def test_whatever_not_done_says_it_is_recorded(text: str) -> None:
    async def says(_: str) -> None:
        raise NotDone(text)

    bank = Bank()
    await once(bank, says)
    async with World(bank) as world:
        no_circles(world)
        await world.send("bank/a", "bank.charge")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "bank/a") == []
        assert world.state("bank/a")["total"] == 5


async def test_a_result_that_can_not_be_recorded_is_an_unknown_outcome() -> None:
    class Odd(Agent[Count], effects={"charge": "write"}):
        @on("odd.go")
        async def go(self, ctx: Context[Count]) -> None:
            await ctx.effect("charge", self.charge)

        async def charge(self) -> Any:
            done.append(1)
            return object()

    done: list[int] = []
    async with World(Odd()) as world:
        await world.send("odd/a", "odd.go")
        await world.advance(timedelta(hours=1))
        assert reasons(world, "odd/a") == ["outcome_unknown"]
        assert done == [1]


async def test_a_store_that_is_away_when_the_result_is_due_is_no_failure_of_the_handler() -> None:
    """The handler can't catch it and go on as if the effect had failed: the event is taken up again."""

    class Careless(Bank, type="careless", effects={"charge": "write"}):
        @on("careless.go")
        async def go(self, ctx: Context[Count]) -> str:
            try:
                await ctx.effect("charge", self.charge)
            except OutcomeUnknown:
                return "unknown"
            except Exception as error:
                return f"failed: {error!r}"
            return "done"

    bank = Careless()
    async with World(bank) as world:
        store = world._processes[0].connection.store
        journal = store.journal

        async def away(*_: Any) -> Any:
            store.journal = journal  # type: ignore[method-assign]
            raise StoreUnavailable("away")

        async def go_away(_: str) -> None:
            store.journal = away  # type: ignore[method-assign]

        await once(bank, go_away)
        key = await world.send("careless/a", "careless.go")
        await world.advance(timedelta(minutes=10))
        receipt = world.receipt("careless/a", key)
        assert receipt is not None and receipt.value in (b'"unknown"', b'"done"')
        assert len(bank.outside.done) == 1


@both
async def test_a_plain_function_is_an_effect_too(backend: Backend) -> None:
    done: list[str] = []

    def pay(cents: int, *, idempotency_key: str) -> dict[str, int]:
        done.append(idempotency_key)
        return {"cents": cents}

    class Plain(Agent[Count], effects={"charge": "write"}):
        @on("plain.go")
        async def go(self, ctx: Context[Count]) -> Any:
            return await ctx.effect("charge", pay, 3)

    async with World(Plain, backend=backend, fault=Fault(FaultPoint.RESULT_AFTER)) as world:
        key = await world.send("plain/a", "plain.go")
        receipt = world.receipt("plain/a", key)
        assert receipt is not None and receipt.value == b'{"cents":3}'
        assert len(done) == 1


async def test_a_partial_function_is_given_the_operation_id_too() -> None:
    outside = Outside()

    class Partly(Agent[Count], effects={"charge": "write"}):
        @on("partly.go")
        async def go(self, ctx: Context[Count]) -> Any:
            return await ctx.effect("charge", functools.partial(outside.charge, 3))

    async with World(Partly) as world:
        assert await world.ask("partly/a", "partly.go") == 6
        assert len(outside.done) == 1 and outside.done[0][0]


@both
@pytest.mark.parametrize("point", DEAD_BEFORE_THE_RESULT)
async def test_a_handler_may_turn_an_unknown_outcome_into_an_answer(backend: Backend, point: FaultPoint) -> None:
    bank = Bank()
    async with World(bank, backend=backend, fault=Fault(point)) as world:
        key = await world.send("bank/a", "bank.try")
        await world.advance(timedelta(minutes=5))
        receipt = world.receipt("bank/a", key)
        assert receipt is not None and receipt.value == b'"unknown charge"'
        assert world.dead_letters("bank/a") == []
        assert len(bank.outside.done) <= 1
        assert entries(world, "effect.unknown"), "the record says so"


async def test_an_asker_is_told() -> None:
    bank = Bank(fails)
    async with World(bank) as world:
        with pytest.raises(AskFailed, match="outcome_unknown"):
            await world.ask("bank/a", "bank.charge")


# ------------------------------------------------------------------------------------------------------------ operators


async def unknown(world: World, type: str = "bank.charge") -> tuple[str, list[str]]:
    """A dead letter with an unknown outcome: its key and its operations."""
    key = await world.send("bank/a", type, id="pay")
    (letter,) = world.dead_letters("bank/a")
    return key, [operation["op"] for operation in letter.operations]


async def resolve(world: World, key: str, op: str, answer: str, **more: Any) -> Any:
    return await world.command("bank/a", "aos.dead_letter.resolve", {"key": key, "op": op, "answer": answer, **more})


@both
async def test_it_happened_says_an_operator_and_the_event_goes_on_with_that_result(backend: Backend) -> None:
    bank = Bank()
    await once(bank, fails)
    async with World(bank, backend=backend) as world:
        key, (op,) = await unknown(world)
        await resolve(world, key, op, "happened", result=40)
        await world.run()
        assert world.state("bank/a")["total"] == 40
        assert len(bank.outside.done) == 1
        assert world.dead_letters("bank/a") == []
        (entry,) = world.entries("bank/a", "effect.resolved")
        assert (entry["op"], entry["answer"], entry["actor"]["id"]) == (op, "happened", "tester")
        assert await rows(world) == []


@both
async def test_it_did_not_happen_says_an_operator_and_it_is_run_again(backend: Backend) -> None:
    bank = Bank()
    await once(bank, fails)
    async with World(bank, backend=backend) as world:
        key, (op,) = await unknown(world)
        await resolve(world, key, op, "did_not_happen")
        await world.run()
        assert world.state("bank/a")["total"] == 5
        assert bank.outside.done == [(op, 1)] * 2
        assert world.dead_letters("bank/a") == []


async def test_discarded_by_an_operator_it_is_never_run_again() -> None:
    bank = Bank()
    await once(bank, fails)
    async with World(bank) as world:
        key, _ = await unknown(world)
        await world.command("bank/a", "aos.dead_letter.discard", {"key": key})
        await world.post(envelope("bank/a", "bank.charge", id="pay", at=world, attempt=7))
        await world.advance(timedelta(days=1))
        assert len(bank.outside.done) == 1
        assert await rows(world) == []
        receipt = await world.partitions.receipt(BANK, key)
        assert receipt is not None and receipt.status is Status.DISCARDED


@pytest.mark.parametrize("edit", [{}, {"data": {"x": 1}}])
async def test_nobody_redrives_what_is_unknown_without_an_answer(edit: dict[str, Any]) -> None:
    bank = Bank()
    await once(bank, fails)
    async with World(bank) as world:
        key, _ = await unknown(world)
        with pytest.raises(Refused, match="resolve it first"):
            await world.command("bank/a", "aos.dead_letter.redrive", {"key": key, **edit})
        await world.run()
        assert len(bank.outside.done) == 1


@pytest.mark.parametrize(("op", "answer"), [("other", "happened"), (None, "maybe")])
async def test_an_answer_that_makes_no_sense_is_refused_and_changes_nothing(op: str | None, answer: str) -> None:
    bank = Bank()
    await once(bank, fails)
    async with World(bank) as world:
        key, (known,) = await unknown(world)
        with pytest.raises(InvalidEvent):
            await resolve(world, key, op or known, answer)
        assert reasons(world, "bank/a") == ["outcome_unknown"]


@both
async def test_of_two_unknown_outcomes_each_is_answered_for(backend: Backend) -> None:
    bank = Bank(fails)
    async with World(bank, backend=backend) as world:
        no_circles(world)
        key, operations = await unknown(world, "bank.two")
        assert len(operations) == 2
        first, second = operations
        assert (await resolve(world, key, first, "happened", result=1))["open"] == 1
        with pytest.raises(Refused, match="resolve it first"):
            await world.command("bank/a", "aos.dead_letter.redrive", {"key": key})
        await resolve(world, key, second, "happened", result=2)
        await world.run()
        receipt = world.receipt("bank/a", key)
        assert receipt is not None and receipt.value in (b"[1,2]", b"[2,1]")
        assert len(bank.outside.done) == 2


async def test_an_answer_given_twice_counts_once() -> None:
    bank = Bank()
    await once(bank, fails)
    async with World(bank, hostile=True) as world:
        key, (op,) = await unknown(world)
        await resolve(world, key, op, "did_not_happen")
        await world.advance(timedelta(minutes=10))
        assert len(bank.outside.done) == 2
        assert world.state("bank/a")["total"] == 5


@both
async def test_an_operators_answer_survives_every_death(backend: Backend) -> None:
    bank = Bank()

    async def scenario(world: World) -> None:
        bank.outside.clear()
        no_circles(world)
        await once(bank, fails)
        await world.send("bank/a", "bank.charge", id="pay")
        await world.advance(timedelta(minutes=5))
        (letter,) = world.dead_letters("bank/a")
        tries = len(bank.outside.done)
        bank.call = None
        await resolve(world, letter.message.event.key, letter.operations[0]["op"], "happened", result=3)
        await world.advance(timedelta(minutes=5))
        assert world.state("bank/a")["total"] == 3
        assert len(bank.outside.done) == tries <= 1

    await sweep(scenario, bank, backend=backend, each=6 if backend == "memory" else 1)
