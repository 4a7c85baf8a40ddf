"""P25: created, active, suspended, terminated; what comes for a suspended agent waits in order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.agent import Agent, Outcome, Pending, after, cron, on
from aos.kernel.context import Context
from aos.kernel.errors import AgentSuspended, AgentTerminated, AosError, Refused, Retry
from aos.kernel.event import new_event
from aos.kernel.item import Ended
from aos.kernel.message import Actor
from aos.testing import Fault, FaultPoint, World, sweep
from tests.protocol.agents import Add, Backend, Counter, Outside, both, envelope, internal, reasons
from tests.protocol.rivals import another, delivery, dispatch, outbox, told

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OPERATOR = Actor("user", "tester", "test")
SUSPEND, RESUME, TERMINATE = "aos.suspend", "aos.resume", "aos.terminate"


class Log(BaseModel):
    lines: list[str] = []


class Worker(Agent[Log], effects={"charge": "write"}):
    """Writes down what happens to it."""

    def __init__(self, outside: Outside | None = None) -> None:
        self.outside = outside or Outside()
        self.fails = 0

    @on("line")
    def line(self, data: str, ctx: Context[Log]) -> int:
        ctx.state.lines.append(data)
        return len(ctx.state.lines)

    @on("tell")
    def tell(self, ctx: Context[Log]) -> None:
        ctx.send("counter/a", "counter.add", Add(by=1))

    @on("timer")
    def timer(self, data: str, ctx: Context[Log]) -> None:
        ctx.schedule("line", data, key="t", after=HOUR)

    @on("cancel")
    def cancel(self, ctx: Context[Log]) -> None:
        ctx.cancel("t")

    @on("pay")
    async def pay(self, ctx: Context[Log]) -> None:
        got = await ctx.effect("charge", self.outside.charge, 5)
        if self.fails:
            self.fails -= 1
            raise Retry("not yet", after=timedelta(minutes=1))
        ctx.state.lines.append(f"paid {got}")

    @on("wait")
    def wait(self, ctx: Context[Log]) -> Pending:
        return ctx.send("worker/other", "later", deadline=2 * DAY)

    @on("later")
    def later(self, ctx: Context[Log]) -> Pending:
        return ctx.send("worker/third", "line", "x", after=DAY, deadline=9 * DAY)

    @on("end")
    def end(self, ctx: Context[Log]) -> None:
        ctx.schedule("line", "never", key="t", after=HOUR)
        ctx.terminate()


class Hooked(Agent[Log], effects={"charge": "write"}):
    """Is told about its life, and acts outside when it is."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("line")
    def line(self, data: str, ctx: Context[Log]) -> int:
        ctx.state.lines.append(data)
        return len(ctx.state.lines)

    @on("aos.initialized")
    def initialized(self, ctx: Context[Log]) -> None:
        ctx.state.lines.append("initialized")

    @on("aos.suspended")
    async def suspended(self, ctx: Context[Log]) -> None:
        await ctx.effect("charge", self.outside.charge, 1)
        ctx.state.lines.append("suspended")

    @on("aos.resumed")
    def resumed(self, ctx: Context[Log]) -> None:
        ctx.state.lines.append("resumed")

    @on("aos.terminating")
    async def terminating(self, ctx: Context[Log]) -> None:
        await ctx.effect("charge", self.outside.charge, 2)
        ctx.state.lines.append("terminating")


class Hurt(Agent[Log]):
    """Objects to being suspended."""

    @on("line")
    def line(self, data: str, ctx: Context[Log]) -> None:
        ctx.state.lines.append(data)

    @on("aos.suspended")
    def suspended(self, ctx: Context[Log]) -> None:
        raise ValueError("not now")


class Daily(Agent[Log]):
    @cron("0 9 * * *", key="a")
    def nine(self, ctx: Context[Log]) -> None:
        ctx.state.lines.append(f"{ctx.now:%d}")


class Caller(Agent[Log]):
    @on("call")
    def call(self, ctx: Context[Log]) -> None:
        ctx.send("worker/a", "wait", deadline=3 * DAY)

    @after("wait")
    def waited(self, outcome: Outcome[int], ctx: Context[Log]) -> None:
        ctx.state.lines.append(str(outcome.reason))


def line(world: World, text: str, agent: str = "worker/a") -> Any:
    return envelope(agent, "line", text, id=text, at=world)


async def lines(world: World, *texts: str) -> None:
    await world.post(*(line(world, text) for text in texts))
    await world.run()


def kinds(world: World, agent: str) -> list[str]:
    return [entry["k"] for entry in world.entries(agent) if entry["k"].startswith("agent.")]


# ------------------------------------------------------------------------------------------------------ transitions


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_every_transition_is_on_record(backend: Backend, hostile: bool) -> None:
    async with World(Worker, backend=backend, hostile=hostile) as world:
        await lines(world, "1")
        for command, life in ((SUSPEND, "suspended"), (RESUME, "active"), (SUSPEND, "suspended"), (TERMINATE, "end")):
            answer = await world.command("worker/a", command, {"why": "a test"})
            assert answer["changed"]
            assert life in (world.life("worker/a"), "end")
        assert world.life("worker/a") == "terminated"
        assert kinds(world, "worker/a") == [
            "agent.created",
            "agent.initialized",
            "agent.suspended",
            "agent.resumed",
            "agent.suspended",
            "agent.terminated",
        ]
        (first, *_) = world.entries("worker/a", "agent.suspended")
        assert first["why"] == "a test"
        assert first["actor"]["id"] == "tester"
        world.verify()


async def test_what_is_so_already_changes_nothing() -> None:
    async with World(Worker) as world:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        assert await world.command("worker/a", SUSPEND) == {"life": "suspended", "changed": False}
        assert kinds(world, "worker/a").count("agent.suspended") == 1


async def test_what_can_not_be_is_refused() -> None:
    async with World(Worker) as world:
        await lines(world, "1")
        assert (await world.command("worker/a", RESUME))["changed"] is False
        await world.command("worker/a", TERMINATE)
        for command in (SUSPEND, RESUME):
            with pytest.raises(AosError):
                await world.command("worker/a", command)
        assert world.life("worker/a") == "terminated"


async def test_running_and_sleeping_are_never_stored() -> None:
    async with World(Worker) as world:
        seen = {world.life("worker/a")}
        for command in (SUSPEND, RESUME, SUSPEND, RESUME, TERMINATE):
            await world.command("worker/a", command)
            seen.add(world.life("worker/a"))
        assert seen <= {None, "created", "active", "suspended", "terminated"}


# -------------------------------------------------------------------------------------------------------- suspended


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_events_wait_in_order_and_run_on_resume(backend: Backend, hostile: bool) -> None:
    async with World(Worker, backend=backend, hostile=hostile) as world:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        await lines(world, "2", "3")
        await lines(world, "4")
        assert world.state("worker/a")["lines"] == ["1"]
        assert told(world, "worker/a", line(world, "3").event.key).ended is Ended.BACKLOG
        await world.command("worker/a", RESUME)
        await lines(world, "5")
        assert world.state("worker/a")["lines"] == ["1", "2", "3", "4", "5"]
        assert told(world, "worker/a", line(world, "3").event.key).value == b"3"
        world.verify()


@both
async def test_it_does_so_under_every_fault(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        await lines(world, "2", "3")
        await world.command("worker/a", RESUME)
        await lines(world, "4")
        await world.advance(timedelta(minutes=5))
        assert world.state("worker/a")["lines"] == ["1", "2", "3", "4"]

    points = [point for point in FaultPoint if backend == "memory" or point.call in ("settle", "complete")]
    await sweep(scenario, Worker, each=2, points=points, backend=backend)


async def test_a_long_backlog_drains_32_rows_a_turn_before_anything_new() -> None:
    async with World(Worker) as world:
        await lines(world, "0")
        await world.command("worker/a", SUSPEND)
        texts = [f"{n:03d}" for n in range(100)]
        await lines(world, *texts)
        await world.command("worker/a", RESUME)
        await lines(world, "new")
        assert world.state("worker/a")["lines"] == ["0", *texts, "new"]
        handled = [sum(e["k"] == "event.handled" for e in record["entries"]) for record in world.records("worker/a")]
        assert max(handled) <= 32


async def test_new_events_go_behind_the_backlog_while_it_drains() -> None:
    async with World(Worker) as world:
        await lines(world, "0")
        await world.command("worker/a", SUSPEND)
        texts = [f"{n:03d}" for n in range(70)]
        await lines(world, *texts)
        resume = envelope("worker/a", "line", "new", id="new", at=world)
        await world.post(resume)
        await world.command("worker/a", RESUME)
        assert world.state("worker/a")["lines"] == ["0", *texts, "new"]


async def test_a_second_delivery_waits_once() -> None:
    async with World(Worker) as world:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        await lines(world, "2", "2")
        await lines(world, *(str(n) for n in range(10, 40)), "2")
        await world.command("worker/a", RESUME)
        await lines(world, "2")
        assert world.state("worker/a")["lines"].count("2") == 1


async def test_an_ask_is_refused() -> None:
    async with World(Worker) as world:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        with pytest.raises(AgentSuspended):
            await world.ask("worker/a", "line", "2")
        await world.command("worker/a", RESUME)
        assert world.state("worker/a")["lines"] == ["1"]


async def test_an_agent_that_never_ran_can_be_suspended() -> None:
    async with World(Worker) as world:
        await world.command("worker/a", SUSPEND)
        await lines(world, "1")
        assert world.state("worker/a") is None
        await world.command("worker/a", RESUME)
        assert world.state("worker/a")["lines"] == ["1"]
        assert "agent.initialized" in kinds(world, "worker/a")


async def test_its_outbox_is_still_delivered_and_its_answers_reach_it() -> None:
    async with World(Worker, Counter, fault=Fault(FaultPoint.COMMIT_AFTER, 2)) as world:
        await lines(world, "1")
        await world.send("worker/a", "tell")
        await world.command("worker/a", SUSPEND)
        assert world.state("counter/a")["total"] == 1
        assert outbox(world, "worker/a") == []


async def test_a_dead_letter_is_dealt_with_while_it_is_suspended() -> None:
    async with World(Worker) as world:
        key = await world.send("worker/a", "line", {"not": "a string"})
        await world.command("worker/a", SUSPEND)
        await world.command("worker/a", "aos.dead_letter.discard", {"key": key})
        assert reasons(world, "worker/a") == []


async def test_expiry_is_checked_when_it_drains() -> None:
    async with World(Worker) as world:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        late = replace(new_event("late", "test", "line", "late"), expires=world.clock.now() + 60_000)
        await world.event(late, "worker/a")
        await lines(world, "2")
        await world.advance(HOUR)
        await world.command("worker/a", RESUME)
        assert world.state("worker/a")["lines"] == ["1", "2"]
        assert told(world, "worker/a", late.key).ended is Ended.DISCARDED


@pytest.mark.parametrize("cancelled", [False, True])
async def test_tokens_are_checked_when_it_drains(cancelled: bool) -> None:
    async with World(Worker) as world:
        await world.send("worker/a", "timer", "rang")
        await world.command("worker/a", SUSPEND)
        if cancelled:
            await world.send("worker/a", "cancel")
        await world.advance(2 * HOUR)
        backlogged = [entry["key"] for entry in world.entries("worker/a", "event.backlogged")]
        await world.command("worker/a", RESUME)
        assert world.state("worker/a")["lines"] == ([] if cancelled else ["rang"])
        assert all(told(world, "worker/a", key).final for key in backlogged)
        assert await world.ask("worker/a", "line", "next") == (1 if cancelled else 2), "and the way is free"


async def test_an_answer_and_its_deadline_that_both_wait_free_the_way() -> None:
    async with World(Worker) as world:
        key = await world.send("worker/a", "wait")
        await world.command("worker/a", SUSPEND)
        await world.advance(3 * DAY)
        await world.command("worker/a", RESUME)
        assert told(world, "worker/a", key).value == b"1"
        assert await world.ask("worker/a", "line", "next") == 1


async def test_an_event_with_a_journal_keeps_it_in_the_backlog() -> None:
    outside = Outside()
    worker = Worker(outside)
    worker.fails = 1
    async with World(worker) as world:
        await world.send("worker/a", "pay")
        assert outside.amounts == [5]
        await world.command("worker/a", SUSPEND)
        await world.advance(HOUR)
        await world.command("worker/a", RESUME)
        await world.advance(HOUR)
        assert outside.amounts == [5]
        assert world.state("worker/a")["lines"] == ["paid 10"]


async def test_an_effect_of_a_waiting_event_happens_once_under_every_fault() -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        await world.send("worker/a", "pay")
        await lines(world, "2")
        await world.command("worker/a", RESUME)
        await world.advance(timedelta(minutes=5))
        unknown = reasons(world, "worker/a") == ["outcome_unknown"]
        assert world.state("worker/a")["lines"] == (["1", "2"] if unknown else ["1", "paid 10", "2"])
        assert len(outside.done) <= 1

    await sweep(scenario, agents=lambda: Worker(outside), each=3)


async def test_a_schedule_that_came_due_meanwhile_fires_once_and_goes_on() -> None:
    async with World(Daily) as world:
        await world.advance(DAY)
        await world.command("daily/a", SUSPEND)
        await world.advance(3 * DAY)
        assert world.state("daily/a")["lines"] == ["05"]
        await world.command("daily/a", RESUME)
        await world.advance(2 * DAY)
        assert world.state("daily/a")["lines"] == ["05", "09", "09", "10"]


# ------------------------------------------------------------------------------------------------------- terminated


@both
async def test_a_terminated_agent_takes_nothing_more(backend: Backend) -> None:
    async with World(Worker, backend=backend) as world:
        await lines(world, "1")
        await world.command("worker/a", TERMINATE)
        with pytest.raises(AgentTerminated):
            await world.ask("worker/a", "line", "2")
        await lines(world, "3")
        assert reasons(world, "worker/a") == ["terminated"]
        assert world.state("worker/a")["lines"] == ["1"]
        world.verify()


@pytest.mark.parametrize("by", ["command", "handler"])
async def test_terminating_voids_its_timers(by: str) -> None:
    async with World(Worker) as world:
        await world.send("worker/a", "timer", "rang")
        if by == "command":
            await world.command("worker/a", TERMINATE)
        else:
            await world.send("worker/a", "end")
        await world.advance(DAY)
        assert world.life("worker/a") == "terminated"
        assert world.state("worker/a")["lines"] == []
        assert reasons(world, "worker/a") == [], "a void timer is dropped on arrival, nobody has lost anything"


async def test_terminating_ends_its_schedules() -> None:
    async with World(Daily) as world:
        await world.advance(DAY)
        await world.command("daily/a", TERMINATE)
        await world.advance(3 * DAY)
        assert world.state("daily/a")["lines"] == ["05"]
        assert reasons(world, "daily/a") == []


async def test_whoever_waits_for_a_terminated_agent_is_told() -> None:
    async with World(Worker, Caller) as world:
        await world.send("caller/a", "call")
        asked = await world.send("worker/a", "wait")
        await world.command("worker/a", TERMINATE)
        await world.advance(timedelta(minutes=1))
        assert told(world, "worker/a", asked).final
        assert world.state("caller/a")["lines"] == ["terminated"]


async def test_its_backlog_becomes_dead_letters() -> None:
    async with World(Worker) as world:
        await lines(world, "1")
        await world.command("worker/a", SUSPEND)
        await lines(world, *(str(n) for n in range(2, 52)))
        await world.command("worker/a", TERMINATE)
        assert reasons(world, "worker/a") == ["terminated"] * 50


# ------------------------------------------------------------------------------------------------------------ hooks


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_hooks_are_told_and_may_act_outside(backend: Backend, hostile: bool) -> None:
    outside = Outside()
    async with World(Hooked(outside), backend=backend, hostile=hostile) as world:
        await world.send("hooked/a", "line", "1", id="1")
        await world.command("hooked/a", SUSPEND)
        await world.send("hooked/a", "line", "2", id="2")
        await world.command("hooked/a", RESUME)
        assert await world.ask("hooked/a", "line", "3", id="3") == 6
        await world.command("hooked/a", TERMINATE)
        assert world.state("hooked/a")["lines"] == [
            "initialized", "1", "suspended", "resumed", "2", "3", "terminating",
        ]  # fmt: skip
        assert outside.amounts == [1, 2]
        world.verify()


async def test_an_effect_of_a_hook_happens_once_under_every_fault() -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        await world.send("hooked/a", "line", "1")
        await world.post(internal("hooked/a", SUSPEND, {}, actor=OPERATOR, at=world))
        await world.run()
        await world.advance(timedelta(minutes=5))
        assert len(outside.done) <= 1
        if world.life("hooked/a") == "suspended":
            await world.command("hooked/a", RESUME)
        await world.send("hooked/a", "line", "2")
        assert world.state("hooked/a")["lines"][-1] == "2", "the agent goes on in any case"

    await sweep(scenario, agents=lambda: Hooked(outside), each=3)


async def test_a_hook_that_fails_keeps_its_agent_as_it_is() -> None:
    async with World(Hurt) as world:
        await world.send("hurt/a", "line", "1")
        with pytest.raises(Refused, match="not now"):
            await world.command("hurt/a", SUSPEND)
        assert world.life("hurt/a") == "active"
        await world.send("hurt/a", "line", "2")
        assert world.state("hurt/a")["lines"] == ["1", "2"]


async def test_a_command_that_comes_twice_is_carried_out_once() -> None:
    outside = Outside()
    async with World(Hooked(outside)) as world:
        await world.send("hooked/a", "line", "1")
        suspend = internal("hooked/a", SUSPEND, {}, actor=OPERATOR, at=world)
        await dispatch(another(world), suspend)
        await world.command("hooked/a", RESUME)
        await another(world).dispatch(suspend.to, [delivery(suspend, 2)])
        assert world.life("hooked/a") == "active"
        assert outside.amounts == [1]
