"""P22: a direct turn that leaves work for later puts its own event on the bus first, to come back afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import AgentSuspended, BusUnavailable, StoreUnavailable
from aos.kernel.item import Ended, Reply
from aos.kernel.ports import Parcel
from aos.testing import Crash, FaultPoint, World, sweep
from tests.protocol.agents import Add, Backend, Count, Counter, Outside, Pay, Till, both, envelope, handled
from tests.protocol.rivals import another, bus_of, crash, dispatch, outage, outbox, store_of, told


class Teller(Agent[Count]):
    """Tells the counter and answers."""

    @on("teller.tell")
    def tell(self, data: Add, ctx: Context[Count]) -> int:
        ctx.state.runs += 1
        ctx.send("counter/a", "counter.add", data)
        return ctx.state.runs

    @on("teller.quiet")
    def quiet(self, ctx: Context[Count]) -> int:
        ctx.state.runs += 1
        return ctx.state.runs


def telling(world: World, id: str = "1") -> Any:
    return envelope("teller/a", "teller.tell", {"by": 1}, id=id, at=world)


def watching(world: World) -> tuple[Any, list[Parcel]]:
    """A bus, and what is sent over it."""
    bus, sent = bus_of(world), list[Parcel]()
    inner = bus._inner

    class Watched:
        async def send(self, parcels: Any) -> None:
            sent.extend(parcels)
            await inner.send(parcels)

    return Watched(), sent


async def test_the_copy_is_on_the_bus_before_the_commit_and_comes_after_the_deadline() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        bus, sent = watching(world)
        seen: list[Parcel] = []

        async def look() -> None:
            seen.extend(sent)

        process = another(world, bus=bus, store=store_of(world).before("commit", look))
        reply = await process.ask(telling(world))
        assert reply.value == b"2"
        (copy,) = seen
        assert copy.id == telling(world).parcel_id
        assert copy.due is not None
        assert copy.due >= world.clock.now() + 60_000, "beyond what a handler may take"


async def test_the_copy_is_on_the_bus_before_the_first_effect() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:
        bus, sent = watching(world)
        seen: list[int] = []

        async def look() -> None:
            seen.append(len(sent))

        outside.then = [look]
        await another(world, bus=bus).ask(envelope("till/a", "till.pay", {"cents": 1}, at=world))
        assert seen == [1]


async def test_an_ask_that_leaves_nothing_to_do_sends_nothing() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        bus, sent = watching(world)
        process = another(world, bus=bus)
        await process.ask(envelope("teller/a", "teller.quiet", id="q", at=world))
        assert sent == []


async def test_a_delivery_needs_no_copy() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        bus, sent = watching(world)
        await dispatch(another(world, bus=bus), telling(world))
        assert [parcel.session for parcel in sent] == ["default/counter/a"]


async def test_where_commit_and_send_are_one_transaction_there_is_none_either() -> None:
    async with World(Teller, Counter, backend="sqlite") as world:
        assert await world.ask("teller/a", "teller.tell", Add(by=1)) == 1
        assert world.faults.passed == {p: n for p, n in world.faults.passed.items() if p.call != "send"}


# ----------------------------------------------------------------------------------------- what the copy is good for


@pytest.mark.parametrize("call", ["commit", "send"])
async def test_a_process_that_dies_leaves_the_rest_to_the_copy(call: str) -> None:
    """Before the commit: the copy is handled. After it: the receipt is found and the outbox delivered."""
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        store, bus = store_of(world), bus_of(world)
        if call == "commit":
            store.before("commit", crash)
        else:
            store.after("commit", _then(lambda: bus.before("send", crash)))
        with pytest.raises(Crash):
            await another(world, store=store, bus=bus).ask(telling(world))
        await world.advance(timedelta(minutes=3))
        assert world.state("teller/a")["runs"] == 2
        assert world.state("counter/a")["total"] == 1
        assert outbox(world, "teller/a") == []
        assert told(world, "teller/a", telling(world).event.key).value == b"2"


async def test_a_commit_that_comes_too_late_conflicts_with_the_copy() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        slow = store_of(world).before("commit", lambda: world.advance(timedelta(minutes=3)))
        reply = await another(world, store=slow).ask(telling(world))
        assert reply.value == b"2"
        assert handled(world, "teller/a").count("1") == 1
        assert world.state("counter/a")["total"] == 1


async def test_an_unfinished_effect_is_found_by_the_copy() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:
        sent = envelope("till/a", "till.pay", {"cents": 2}, at=world)
        with pytest.raises(Crash):
            await another(world, store=store_of(world).before("commit", crash)).ask(sent)
        assert world.state("till/a") is None
        await world.advance(timedelta(minutes=3))
        assert (outside.amounts, world.state("till/a")["cents"]) == ([2], 4)


@both
async def test_every_ask_is_answered_and_everything_is_sent_under_every_fault(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        asked = [world.ask("teller/a", "teller.tell", Add(by=1)) for _ in range(3)]
        assert [await answer for answer in asked] == [1, 2, 3]
        await world.advance(timedelta(minutes=5))
        assert world.state("counter/a")["total"] == 3

    points = [point for point in FaultPoint if backend == "memory" or point.call in ("settle", "complete")]
    await sweep(scenario, Teller, Counter, each=2, points=points, backend=backend)


# ------------------------------------------------------------------------------------------------------ never a 503


@pytest.mark.parametrize("call", ["commit", "journal"])
async def test_an_outage_after_the_copy_is_not_an_error_but_not_yet(call: str) -> None:
    outside = Outside()
    async with World(Till(outside), Teller, Counter) as world:
        sent = envelope("till/a", "till.pay", {"cents": 2}, at=world) if call == "journal" else telling(world)
        process = another(world, store=store_of(world).before(call, outage))
        reply = await process.ask(sent, wait=0)
        assert not reply.final
        await world.advance(timedelta(minutes=3))
        assert told(world, str(sent.to), sent.event.key).ended is Ended.HANDLED


async def test_an_outage_before_the_copy_leaves_no_trace() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")

        async def away() -> None:
            raise BusUnavailable("injected")

        with pytest.raises(BusUnavailable):
            await another(world, bus=bus_of(world).before("send", away)).ask(telling(world))
        with pytest.raises(StoreUnavailable):
            await another(world, store=store_of(world).before("load", outage)).ask(telling(world, "2"))
        await world.advance(timedelta(minutes=3))
        assert world.state("teller/a")["runs"] == 1


async def test_nor_is_contention_after_it() -> None:
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")

        def rival(n: int) -> Callable[[], Any]:
            return lambda: dispatch(another(world), envelope("teller/a", "teller.quiet", id=f"rival {n}", at=world))

        busy = store_of(world).before("commit", *(rival(n) for n in range(12)))
        reply = await another(world, store=busy).ask(telling(world), wait=0)
        assert not reply.final
        await world.advance(timedelta(minutes=3))
        assert handled(world, "teller/a").count("1") == 1
        assert world.state("counter/a")["total"] == 1


async def test_an_ask_that_was_handled_is_answered_whatever_befalls_the_others_of_its_batch() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:
        await world.send("till/a", "till.other")
        process = another(world, store=store_of(world).before("journal", outage))
        sent = (
            envelope("till/a", "till.other", id="1", at=world),
            envelope("till/a", "till.pay", {"cents": 2}, id="2", at=world),
        )
        asked = [process.ask(message, wait=0) for message in sent]
        first, _ = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(first, Reply)
        assert world.state("till/a") == {"cents": 0, "others": 2}
        assert first.value == b"2"


async def test_an_ask_that_was_refused_never_happens_later() -> None:
    """Refused after its copy was sent, because the agent was suspended meanwhile: 409 must mean that it is not done."""
    async with World(Teller, Counter) as world:
        await world.send("teller/a", "teller.quiet")
        store = store_of(world).before("commit", lambda: world.command("teller/a", "aos.suspend"))
        refused = False
        try:
            await another(world, store=store).ask(telling(world), wait=0)
        except AgentSuspended:
            refused = True
        await world.command("teller/a", "aos.resume")
        await world.advance(timedelta(minutes=5))
        assert ("1" in handled(world, "teller/a")) is not refused


async def test_recovery_never_looks_through_the_agents() -> None:
    outside = Outside()

    async def scan() -> None:
        raise AssertionError("a scan over the agents")

    async with World(Till(outside), Teller, Counter) as world:
        store = store_of(world).before("agents", *[scan] * 99).before("commit", crash, crash)
        for sent in (telling(world), envelope("till/a", "till.pay", Pay().model_dump(), at=world)):
            with pytest.raises(Crash):
                await another(world, store=store).ask(sent)
        await world.advance(timedelta(minutes=3))
        assert world.state("counter/a")["total"] == 1
        assert "agents" not in store.calls


def _then(action: Callable[[], Any]) -> Callable[[], Any]:
    async def happening() -> None:
        action()

    return happening
