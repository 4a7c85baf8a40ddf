"""P16: whoever has delivered an outbox and has nothing else of that agent in hand deletes the row at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import BusUnavailable
from aos.testing import Fault, FaultPoint, World, sweep
from tests.protocol.agents import Add, Backend, Count, Counter, both, envelope
from tests.protocol.rivals import another, bus_of, crash, dies, dispatch, outage, outbox, store_of


class Teller(Agent[Count]):
    """Tells the counter, once an event."""

    @on("teller.tell")
    def tell(self, data: Add, ctx: Context[Count]) -> None:
        ctx.state.runs += 1
        ctx.send("counter/a", "counter.add", data)

    @on("teller.quiet")
    def quiet(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1


def telling(world: World, id: str = "1") -> Any:
    return envelope("teller/a", "teller.tell", {"by": 1}, id=id, at=world)


async def away() -> None:
    raise BusUnavailable("injected: the bus is away")


@both
async def test_a_delivered_row_is_gone_when_nothing_else_is_in_hand(backend: Backend) -> None:
    async with World(Teller, Counter, backend=backend, settle_together=False) as world:
        await world.send("teller/a", "teller.tell", Add(by=1))
        assert world.state("counter/a")["total"] == 1
        assert outbox(world, "teller/a") == []


async def test_it_costs_one_request_only_after_turns_that_send() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        before = world.faults.passed[FaultPoint.FORGET_BEFORE]
        await world.send("teller/a", "teller.quiet")
        assert world.faults.passed[FaultPoint.FORGET_BEFORE] == before
        await world.send("teller/b", "teller.tell", Add(by=1))
        store = store_of(world)
        await dispatch(another(world, store=store), telling(world, "2"))
        assert store.calls == ["load", "commit", "journal"]


async def test_with_more_in_hand_the_removal_rides_on_the_next_commit() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        store = store_of(world)
        await dispatch(another(world, store=store), *(telling(world, str(n)) for n in range(80)))
        assert store.calls.count("commit") == 3
        assert store.calls.count("journal") == 1
        assert outbox(world, "teller/a") == []
        await world.run()
        assert world.state("counter/a")["total"] == 80


async def test_what_a_crash_left_is_delivered_by_the_redelivery_and_the_row_is_gone() -> None:
    async with World(Teller, Counter) as world:
        await dies(another(world, bus=bus_of(world).before("send", crash)), telling(world))
        assert len(outbox(world, "teller/a")) == 1
        await dispatch(another(world), telling(world), count=2)
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert outbox(world, "teller/a") == []


async def test_what_a_crash_left_is_delivered_before_anything_new() -> None:
    async with World(Teller, Counter) as world:
        await dies(another(world, bus=bus_of(world).before("send", crash)), telling(world, "1"))
        await dispatch(another(world), telling(world, "2"))
        await world.run()
        causes = [entry["cause"] for entry in world.entries("counter/a", "event.handled")]
        assert causes == ["1", "2"]
        assert outbox(world, "teller/a") == []


async def test_a_duplicate_that_is_newer_than_what_was_loaded_is_not_the_end_of_it() -> None:
    """Another holder committed it since, and died before it sent: this delivery is the last that knows of it."""
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")

        async def rival_commits_and_dies() -> None:
            await dies(another(world, bus=bus_of(world).before("send", crash)), telling(world), count=5)

        store = store_of(world).before("read", rival_commits_and_dies)
        await dispatch(another(world, store=store), telling(world), count=5)
        await world.run()
        assert world.state("teller/a")["runs"] == 2
        assert outbox(world, "teller/a") == []
        assert world.state("counter/a")["total"] == 1


async def test_a_row_that_was_delivered_but_not_deleted_does_no_harm() -> None:
    async with World(Teller, Counter) as world:
        await dies(another(world, store=store_of(world).after("index_put", crash)), telling(world))
        await world.run()
        await world.advance(timedelta(days=100))
        await dispatch(another(world), telling(world), count=2)
        await dispatch(another(world), telling(world, "2"))
        await world.run()
        assert world.state("counter/a")["total"] == 2
        assert outbox(world, "teller/a") == []


async def test_a_bus_that_is_away_after_the_commit_means_that_the_delivery_comes_again() -> None:
    async with World(Teller, Counter) as world:
        with pytest.raises(BusUnavailable):
            await dispatch(another(world, bus=bus_of(world).before("send", away)), telling(world))
        await dispatch(another(world), telling(world), count=2)
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert world.state("teller/a")["runs"] == 1


async def test_a_store_that_is_away_at_the_removal_loses_nothing() -> None:
    async with World(Teller, Counter) as world:
        process = another(world, store=store_of(world).before("journal", outage))
        with pytest.raises(Exception, match="store is away"):
            await dispatch(process, telling(world))
        await dispatch(process, telling(world), count=2)
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert outbox(world, "teller/a") == []


@both
async def test_sent_once_and_gone_under_every_fault(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        await world.send("teller/a", "teller.tell", Add(by=1))
        await world.send("teller/a", "teller.tell", Add(by=1))
        await world.advance(timedelta(minutes=5))
        assert world.state("counter/a")["total"] == 2
        assert outbox(world, "teller/a") == []

    calls = ("commit", "send", "index", "forget", "complete") if backend == "memory" else ("settle", "forget")
    points = [point for point in FaultPoint if point.call in calls]
    await sweep(scenario, Teller, Counter, points=points, backend=backend)


async def test_an_agent_that_is_suspended_still_delivers() -> None:
    async with World(Teller, Counter, fault=Fault(FaultPoint.SEND_BEFORE, 3)) as world:
        await world.send("teller/a", "teller.tell", Add(by=1))
        await world.command("teller/a", "aos.suspend")
        assert world.state("counter/a")["total"] == 1
