"""P19: every wait ends: with an answer, with the news that there will be none, or at its deadline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.agent import Agent, Outcome, Pending, after, on
from aos.kernel.context import Context
from aos.kernel.errors import AskFailed, Denied, Reject, Retry, StillOpen
from aos.kernel.item import Ended
from aos.kernel.ports import Decision, Effect, GateRequest
from aos.testing import FaultPoint, World, sweep
from tests.protocol.agents import Backend, both, envelope, reasons
from tests.protocol.rivals import another, dispatch, told

DAY = timedelta(days=1)


class Asked(BaseModel):
    runs: int = 0
    heard: list[str] = []


class Oracle(Agent[Asked], effects={"think": "read"}, max_attempts=3):
    """Answers, or not, as the question says."""

    @on("oracle.ask")
    async def ask(self, data: str, ctx: Context[Asked]) -> str:
        ctx.state.runs += 1
        if data == "think":
            await ctx.effect("think", think)
        if data in ("reject", "think"):
            raise Reject("no answer to that")
        if data == "fail":
            raise Retry("not yet")
        return data.upper()


class Slow(Agent[Asked]):
    """Answers only after two days."""

    @on("slow.ask")
    def ask(self, data: str, ctx: Context[Asked]) -> Pending:
        ctx.state.runs += 1
        return ctx.send("echo/a", "echo.say", data, after=timedelta(days=2), deadline=timedelta(days=9))


class Echo(Agent[Asked]):
    @on("echo.say")
    def say(self, data: str, ctx: Context[Asked]) -> str:
        ctx.state.runs += 1
        return data


class Asker(Agent[Asked]):
    """Passes a question on, and the answer back."""

    @on("asker.oracle")
    def oracle(self, data: str, ctx: Context[Asked]) -> Pending:
        return ctx.send("oracle/a", "oracle.ask", data)

    @on("asker.slow")
    def slow(self, data: str, ctx: Context[Asked]) -> Pending:
        return ctx.send("slow/a", "slow.ask", data)

    @on("asker.hurry")
    def hurry(self, data: int, ctx: Context[Asked]) -> Pending:
        return ctx.send("slow/a", "slow.ask", "hurry", deadline=timedelta(minutes=data))

    @on("asker.chain")
    def chain(self, data: str, ctx: Context[Asked]) -> Pending:
        return ctx.send("asker/next", "asker.oracle", data)

    @on("asker.nobody")
    def nobody(self, ctx: Context[Asked]) -> Pending:
        return ctx.send("unknown-type/a", "some.thing")

    @on("asker.forgets")
    def forgets(self, ctx: Context[Asked]) -> Pending:
        return Pending("of no message of this event")


class Listener(Agent[Asked]):
    """Has a handler for the outcome."""

    @on("listener.ask")
    def ask(self, data: str, ctx: Context[Asked]) -> Pending:
        return ctx.send("oracle/a", "oracle.ask", data)

    @on("listener.note")
    def note(self, data: str, ctx: Context[Asked]) -> None:
        ctx.send("oracle/a", "oracle.ask", data)

    @after("oracle.ask")
    def heard(self, outcome: Outcome[str], ctx: Context[Asked]) -> str:
        told = outcome.value if outcome.ok else f"no: {outcome.reason}"
        ctx.state.heard.append(str(told))
        return f"heard {told}"


async def think() -> int:
    return 1


class Refuses:
    """A gate that allows everything but one type of event."""

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type

    async def decide(self, request: GateRequest) -> Decision:
        refused = ("event_type", self.event_type) in request.context
        return Decision(Effect.DENY if refused else Effect.ALLOW, ("test",), "0" * 64, "test/1", "0" * 64)


AGENTS = (Oracle, Slow, Echo, Asker, Listener)


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_an_answer_goes_back_through_all_who_passed_the_question_on(backend: Backend, hostile: bool) -> None:
    async with World(*AGENTS, backend=backend, hostile=hostile) as world:
        assert await world.ask("asker/a", "asker.chain", "yes") == "YES"
        assert await world.ask("listener/a", "listener.ask", "yes") == "heard YES"
        world.verify()


@both
async def test_a_dead_letter_tells_whoever_waits(backend: Backend) -> None:
    async with World(*AGENTS, backend=backend) as world:
        with pytest.raises(AskFailed, match="rejected"):
            await world.ask("asker/a", "asker.chain", "reject")
        assert await world.ask("listener/a", "listener.ask", "reject") == "heard no: rejected"
        assert reasons(world, "oracle/a") == ["rejected", "rejected"]
        assert reasons(world, "asker/a") == [], "that another agent gave up is no failure of the asker"


async def test_so_does_one_after_the_last_attempt() -> None:
    async with World(*AGENTS) as world:
        answer = world.ask("asker/a", "asker.oracle", "fail")
        with pytest.raises(StillOpen):
            await answer
        await world.advance(timedelta(hours=1))
        reply = told(world, "asker/a", answer.key)
        assert reply.ended is Ended.DEAD
        assert reply.reason == "max_attempts"


@both
async def test_the_news_is_in_the_same_commit_as_the_dead_letter(backend: Backend) -> None:
    """Wherever a process dies there are both or neither."""

    async def scenario(world: World) -> None:
        key = await world.send("asker/a", "asker.oracle", "reject")
        await world.advance(timedelta(minutes=10))
        assert told(world, "asker/a", key).reason == "rejected"
        assert reasons(world, "oracle/a") == ["rejected"]

    calls = ("commit", "send", "index") if backend == "memory" else ("settle",)
    points = [point for point in FaultPoint if point.call in calls]
    await sweep(scenario, *AGENTS, points=points, each=4, backend=backend)


async def test_an_agent_that_nobody_knows_answers_with_its_dead_letter() -> None:
    async with World(*AGENTS) as world:
        key = await world.send("asker/a", "asker.nobody")
        await world.advance(timedelta(hours=1))
        assert told(world, "asker/a", key).reason == "unknown_type"


# ----------------------------------------------------------------------------------------------------- deadlines


@both
async def test_a_wait_ends_after_a_day_unless_it_was_said_otherwise(backend: Backend) -> None:
    async with World(*AGENTS, backend=backend) as world:
        patient = await world.send("asker/a", "asker.slow", "x")
        hasty = await world.send("asker/a", "asker.hurry", 5)
        await world.advance(timedelta(minutes=6))
        assert told(world, "asker/a", hasty).reason == "deadline"
        assert not told(world, "asker/a", patient).final
        await world.advance(DAY)
        assert told(world, "asker/a", patient).reason == "deadline"


async def test_an_answer_after_the_deadline_changes_nothing() -> None:
    async with World(*AGENTS) as world:
        key = await world.send("asker/a", "asker.slow", "x")
        await world.advance(timedelta(days=1, minutes=1))
        before, records = told(world, "asker/a", key), len(world.records("asker/a"))
        await world.advance(timedelta(days=3))
        assert world.state("echo/a")["runs"] == 1, "the answer came"
        assert told(world, "asker/a", key) == before
        assert len(world.records("asker/a")) == records
        assert reasons(world, "asker/a") == []


async def test_a_deadline_after_the_answer_changes_nothing() -> None:
    async with World(*AGENTS) as world:
        await world.ask("listener/a", "listener.ask", "yes")
        await world.advance(timedelta(days=2))
        assert world.state("listener/a")["heard"] == ["YES"]


async def test_the_deadline_holds_for_whom_nobody_asked() -> None:
    async with World(*AGENTS) as world:
        await world.command("oracle/a", "aos.suspend")
        await world.send("listener/a", "listener.note", "yes")
        await world.advance(timedelta(days=2))
        assert world.state("listener/a")["heard"] == ["no: deadline"]


async def test_what_is_not_the_answer_to_a_message_of_this_event_can_not_be_waited_for() -> None:
    async with World(*AGENTS) as world:
        answer = world.ask("asker/a", "asker.forgets")
        with pytest.raises(AskFailed):
            await answer
        assert told(world, "asker/a", answer.key).final


async def test_an_outcome_that_can_not_be_handled_ends_the_wait_at_its_deadline() -> None:
    class Deaf(Agent[Asked]):
        @on("deaf.ask")
        def ask(self, ctx: Context[Asked]) -> Pending:
            return ctx.send("oracle/a", "oracle.ask", "yes", deadline=timedelta(hours=2))

        @after("oracle.ask")
        def heard(self, outcome: Outcome[str], ctx: Context[Asked]) -> str:
            if outcome.ok:
                raise Reject("can't hear it")
            return f"nothing but {outcome.reason}"

    async with World(*AGENTS, Deaf) as world:
        key = await world.send("deaf/a", "deaf.ask")
        assert reasons(world, "deaf/a") == ["rejected"]
        await world.advance(timedelta(hours=3))
        assert told(world, "deaf/a", key).value == b'"nothing but deadline"'


# --------------------------------------------------------------------------------------------------------- denials


@both
async def test_a_denial_is_told_to_who_asked_and_is_no_dead_letter(backend: Backend) -> None:
    async with World(*AGENTS, backend=backend, gate=Refuses("oracle.ask")) as world:
        answer = world.ask("oracle/a", "oracle.ask", "yes")
        with pytest.raises(Denied):
            await answer
        assert reasons(world, "oracle/a") == []
        (failed,) = world.entries("oracle/a", "event.failed")
        assert failed["reason"] == "denied"
        (decision,) = world.entries("oracle/a", "decision")
        assert decision["effect"] == "deny"
        world.verify()


async def test_a_denial_is_told_to_the_agent_that_waits() -> None:
    async with World(*AGENTS, gate=Refuses("oracle.ask")) as world:
        assert await world.ask("listener/a", "listener.ask", "yes") == "heard no: denied"
        with pytest.raises(AskFailed, match="denied"):
            await world.ask("asker/a", "asker.oracle", "yes")


async def test_a_denied_answer_ends_the_wait_all_the_same() -> None:
    async with World(*AGENTS, gate=Refuses("aos.call.done")) as world:
        key = await world.send("listener/a", "listener.ask", "yes")
        await world.advance(timedelta(days=3))
        assert told(world, "listener/a", key).final


# -------------------------------------------------------------------------------------------------- what is recorded


@pytest.mark.parametrize("question", ["reject", "think"])
async def test_a_failure_is_recorded_with_what_was_decided_and_done(question: str) -> None:
    async with World(*AGENTS) as world:
        await dispatch(another(world), envelope("oracle/a", "oracle.ask", question, at=world))
        (record,) = world.records("oracle/a")
        kinds = [entry["k"] for entry in record["entries"]]
        expected: list[Any] = ["decision", "event.dead_lettered"]
        if question == "think":
            expected[1:1] = ["decision", "effect.intent", "effect.result"]
        assert kinds == ["agent.created", *expected]
        world.verify()


async def test_so_is_one_that_is_tried_again() -> None:
    async with World(*AGENTS) as world:
        await dispatch(another(world), envelope("oracle/a", "oracle.ask", "fail", at=world))
        (record,) = world.records("oracle/a")
        assert [entry["k"] for entry in record["entries"]] == ["agent.created", "decision", "event.failed"]
