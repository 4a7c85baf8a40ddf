"""P17: only what the handler raised counts as an attempt; everything else defers and never dead-letters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from aos.kernel.agent import Agent, migrate, on
from aos.kernel.context import Context
from aos.kernel.errors import Reject, Retry, StillOpen, StoreUnavailable
from aos.kernel.item import Ended
from aos.testing import World
from tests.protocol.agents import Add, Backend, Count, Counter, both, envelope, handled, reasons
from tests.protocol.rivals import another, dispatch, outage, store_of, told

HOUR = timedelta(hours=1)


class Flaky(Agent[Count], max_attempts=4):
    """Fails as often as it is told, in the ways that it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.at: list[float] = []
        self.run = 0

    @on("flaky.add")
    def add(self, data: int, ctx: Context[Count]) -> int:
        self.run += 1
        self.at.append(ctx.now.timestamp())
        ctx.state.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        ctx.state.total += data
        return ctx.state.total

    @on("flaky.deep")
    def deep(self, data: int, ctx: Context[Count]) -> None:
        ctx.send("counter/a", "counter.add", Add(by=data))
        if self.failures:
            raise self.failures.pop(0)


class Looker(Agent[Count], effects={"look": "read"}):
    """Looks at its rows, its history, or the world outside."""

    @on("looker.look")
    async def look(self, data: str, ctx: Context[Count]) -> None:
        if data == "row":
            await ctx.get("rows", "a")
        elif data == "tail":
            await ctx.tail()
        else:
            await ctx.effect("look", self.look_outside)
        ctx.state.runs += 1

    def look_outside(self) -> int:
        return 1


class Added(Agent[Count], type="counter"):
    """What a new version of the code can do."""

    @on("counter.add")
    def add(self, data: Add, ctx: Context[Count]) -> int:
        ctx.state.total += data.by
        return ctx.state.total

    @on("counter.new")
    def new(self, data: Add, ctx: Context[Count]) -> int:
        ctx.state.total += 100 * data.by
        return ctx.state.total


class Newer(Agent[Count], type="counter", version=2):
    """A newer schema of the state."""

    @on("counter.add")
    def add(self, data: Add, ctx: Context[Count]) -> int:
        ctx.state.total += data.by
        return ctx.state.total

    @staticmethod
    @migrate(1)
    def to_2(value: Any) -> Any:
        return value


def failures(world: World, agent: str) -> list[tuple[int, int]]:
    """(attempt, ms until the next one) of every recorded failure."""
    return [(entry["attempt"], entry["retry_ms"]) for entry in world.entries(agent, "event.failed")]


def deploy(world: World, *types: type[Agent[Any]]) -> None:
    for kind in types:
        world.registry.types.pop(kind.aos_options.type, None)
        world.registry.add(kind)


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_a_failed_event_comes_again_until_it_succeeds(backend: Backend, hostile: bool) -> None:
    flaky = Flaky(ValueError("one"), Retry("two"))
    async with World(flaky, backend=backend, hostile=hostile) as world:
        key = await world.send("flaky/a", "flaky.add", 5)
        await world.advance(HOUR)
        assert world.state("flaky/a") == {"total": 5, "runs": 1}, "what failed changed nothing"
        assert [attempt for attempt, _ in failures(world, "flaky/a")] in ([1, 2], [1])
        assert told(world, "flaky/a", key).ended is Ended.HANDLED
        world.verify()


async def test_the_pauses_grow_with_jitter() -> None:
    flaky = Flaky(*(ValueError() for _ in range(3)))
    async with World(flaky) as world:
        await world.send("flaky/a", "flaky.add", 5)
        await world.advance(HOUR)
        pauses = [pause for _, pause in failures(world, "flaky/a")]
        assert [round((later - sooner) * 1000) for sooner, later in pairwise(flaky.at)] == pauses
        for n, pause in enumerate(pauses):
            assert 800 * 2**n <= pause <= 1200 * 2**n
        assert pauses != [1000, 2000, 4000]


async def test_the_handler_may_say_when() -> None:
    flaky = Flaky(Retry("busy", after=timedelta(minutes=7)))
    async with World(flaky) as world:
        await world.send("flaky/a", "flaky.add", 5)
        await world.advance(HOUR)
        assert flaky.at[1] - flaky.at[0] == 7 * 60


@both
async def test_after_the_last_attempt_it_is_a_dead_letter(backend: Backend) -> None:
    flaky = Flaky(*(ValueError("no") for _ in range(9)))
    async with World(flaky, backend=backend) as world:
        await world.send("flaky/a", "flaky.add", 5)
        await world.advance(HOUR)
        assert flaky.run == 4
        assert reasons(world, "flaky/a") == ["max_attempts"]
        assert "ValueError: no" in world.dead_letters("flaky/a")[0].error


async def test_a_rejected_event_is_one_at_once() -> None:
    flaky = Flaky(Reject("never"))
    async with World(flaky) as world:
        await world.send("flaky/a", "flaky.add", 5)
        assert flaky.run == 1
        assert reasons(world, "flaky/a") == ["rejected"]


async def test_a_retry_keeps_the_time_at_which_it_was_sent_and_its_hops() -> None:
    flaky = Flaky(ValueError())
    async with World(flaky, Counter) as world:
        sent = envelope("flaky/a", "flaky.deep", 1, at=world, hops=64)
        await world.post(sent)
        await world.advance(HOUR)
        assert reasons(world, "counter/a") == ["too_many_hops"]
        (letter,) = world.dead_letters("counter/a")
        assert letter.message.hops == 65


async def test_a_retry_inside_an_ask_is_not_an_answer_yet() -> None:
    async with World(Flaky(ValueError())) as world:
        answer = world.ask("flaky/a", "flaky.add", 5)
        with pytest.raises(StillOpen):
            await answer
        assert told(world, "flaky/a", answer.key).ended is Ended.RETRY
        await world.advance(HOUR)
        assert told(world, "flaky/a", answer.key).value == b"5"


# ------------------------------------------------------------------------------------------------- not attempts


def rivals(world: World, n: int) -> list[Callable[[], Any]]:
    """Others that commit first, `n` times."""

    def rival(number: int) -> Callable[[], Any]:
        sent = envelope("counter/a", "counter.add", {"by": 1}, id=f"rival {number}", at=world)
        return lambda: dispatch(another(world), sent)

    return [rival(number) for number in range(n)]


@pytest.mark.parametrize("conflicts", [1, 5, 6, 20])
async def test_conflicts_defer(conflicts: int) -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add(by=1))
        sent = envelope("counter/a", "counter.add", {"by": 1000}, id="mine", at=world)
        store = store_of(world).before("commit", *rivals(world, conflicts))
        await dispatch(another(world, store=store), sent)
        await world.advance(timedelta(minutes=1))
        assert reasons(world, "counter/a") == []
        assert world.state("counter/a")["total"] > 1000
        assert {e["attempt"] for e in world.entries("counter/a", "event.handled")} == {1}
        assert world.entries("counter/a", "event.failed") == []
        assert handled(world, "counter/a").count("mine") == 1


@pytest.mark.parametrize("kind", ["row", "tail", "effect"])
async def test_an_outage_that_a_handler_meets_is_no_failure_of_it(kind: str) -> None:
    async with World(Looker) as world:
        await world.send("looker/a", "looker.look", "row")
        sent = envelope("looker/a", "looker.look", kind, id="1", at=world)
        store = store_of(world)
        if kind == "effect":
            store.before("journal", nothing, outage)
        else:
            store.before("read", outage)
        with suppress(StoreUnavailable):
            await dispatch(another(world, store=store), sent)
        await dispatch(another(world), sent, count=2)
        assert handled(world, "looker/a")[1:] == ["1"]
        assert world.entries("looker/a", "event.failed") == []


async def nothing() -> None:
    """The first write, of the intent, goes well; the one of the result does not."""


async def test_a_rolling_deploy_defers() -> None:
    async with World(Counter) as world:
        await world.post(envelope("counter/a", "counter.new", {"by": 1}, id="1", at=world))
        await world.advance(timedelta(minutes=10))
        assert reasons(world, "counter/a") == []
        deploy(world, Added)
        await world.advance(timedelta(minutes=10))
        assert world.state("counter/a")["total"] == 100
        assert [entry["attempt"] for entry in world.entries("counter/a", "event.handled")] == [1]


async def test_a_rolling_deploy_takes_a_quarter_of_an_hour_at_most() -> None:
    async with World(Counter) as world:
        await world.post(envelope("counter/a", "counter.new", {"by": 1}, id="1", at=world))
        await world.advance(timedelta(minutes=14))
        assert reasons(world, "counter/a") == []
        await world.advance(timedelta(minutes=3))
        assert reasons(world, "counter/a") == ["unknown_type"]


async def test_an_agent_type_that_is_not_there_yet_defers_too() -> None:
    async with World(Counter) as world:
        await world.post(envelope("flaky/a", "flaky.add", 5, id="1", at=world))
        await world.advance(timedelta(minutes=5))
        world.registry.add(Flaky())
        await world.advance(timedelta(minutes=5))
        assert world.state("flaky/a") == {"total": 5, "runs": 1}


async def test_a_backlog_that_drains_during_a_rolling_deploy_is_not_given_up() -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add(by=1))
        await world.command("counter/a", "aos.suspend")
        await world.post(envelope("counter/a", "counter.new", {"by": 1}, id="new", at=world))
        await world.run()
        await world.command("counter/a", "aos.resume")
        assert reasons(world, "counter/a") == []
        deploy(world, Added)
        await world.advance(timedelta(minutes=10))
        assert world.state("counter/a")["total"] == 101


async def test_state_of_newer_code_defers() -> None:
    async with World(Counter) as world:
        deploy(world, Newer)
        await world.send("counter/a", "counter.add", Add(by=1))
        deploy(world, Counter)
        await world.send("counter/a", "counter.add", Add(by=1))
        await world.advance(timedelta(minutes=5))
        assert world.state("counter/a")["total"] == 1
        assert reasons(world, "counter/a") == []
        deploy(world, Newer)
        await world.advance(timedelta(minutes=5))
        assert world.state("counter/a")["total"] == 2


# ------------------------------------------------------------------------------------------------------- redrive


@both
async def test_a_redrive_is_the_next_attempt_of_the_same_event(backend: Backend) -> None:
    async with World(Flaky(Reject("not now")), backend=backend) as world:
        key = await world.send("flaky/a", "flaky.add", 5, id="1")
        answer = await world.command("flaky/a", "aos.dead_letter.redrive", {"key": key})
        assert answer == {"key": key, "attempt": 2}
        assert world.state("flaky/a")["total"] == 5
        assert told(world, "flaky/a", key).value == b"5"
        assert world.dead_letters("flaky/a") == []
        world.verify()


async def test_an_edited_redrive_is_a_new_event() -> None:
    async with World(Flaky(Reject("not now"))) as world:
        key = await world.send("flaky/a", "flaky.add", 5, id="1")
        answer = await world.command("flaky/a", "aos.dead_letter.redrive", {"key": key, "data": 7})
        assert answer["key"] != key
        assert answer["attempt"] == 1
        assert world.state("flaky/a")["total"] == 7
        assert told(world, "flaky/a", answer["key"]).value == b"7"
        assert told(world, "flaky/a", key).ended is Ended.DISCARDED
        (entry,) = world.entries("flaky/a", "event.redriven")
        assert (entry["key"], entry["as"], entry["edited"]) == (key, answer["key"], True)


async def test_an_earlier_delivery_after_a_redrive_is_a_duplicate() -> None:
    flaky = Flaky(Reject("not now"))
    async with World(flaky) as world:
        sent = envelope("flaky/a", "flaky.add", 5, at=world)
        await world.post(sent)
        await world.run()
        await world.command("flaky/a", "aos.dead_letter.redrive", {"key": sent.event.key})
        await world.post(sent, sent)
        await world.run()
        assert flaky.run == 2
        assert world.state("flaky/a")["total"] == 5


async def test_a_redrive_that_fails_is_a_dead_letter_again() -> None:
    async with World(Flaky(Reject("one"), Reject("two"))) as world:
        key = await world.send("flaky/a", "flaky.add", 5)
        await world.command("flaky/a", "aos.dead_letter.redrive", {"key": key})
        (letter,) = world.dead_letters("flaky/a")
        assert (letter.error, letter.message.attempt) == ("two", 2)
        await world.command("flaky/a", "aos.dead_letter.redrive", {"key": key})
        assert world.state("flaky/a")["total"] == 5
