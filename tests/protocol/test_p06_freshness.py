"""P6: an event is fresh if its receipt can be inserted; whatever comes again gets the recorded reply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.item import Ended
from aos.kernel.ports import Kind
from aos.testing import Boundary, Fault, FaultPoint, World, sweep
from tests.protocol.agents import (
    Add,
    Backend,
    Count,
    Counter,
    Outside,
    Till,
    both,
    envelope,
    handled,
    no_circles,
    reasons,
)

COUNTER = Address.parse("counter/a")
ODD = {"z": [1.5, -0.0, 1e300, 10**40], "a": "\u2028 ä \x7f", "": {"nested": None}}


async def forget(world: World, agent: str, type: str, data: Any = None) -> None:
    """More events than the head remembers keys of."""
    await world.post(*(envelope(agent, type, data, id=f"filler{n}", at=world) for n in range(40)))
    await world.run()


@both
@pytest.mark.parametrize("late", [False, True], ids=["soon", "late"])
async def test_an_event_that_comes_again_is_handled_once(backend: Backend, late: bool) -> None:
    async with World(Counter, backend=backend) as world:
        sent = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        await world.post(sent)
        await world.run()
        if late:
            await forget(world, "counter/a", "counter.add", {"by": 0})
        records = len(world.records("counter/a"))
        for _ in range(3):
            await world.post(sent)
            await world.run()
        assert world.state("counter/a")["total"] == 1
        assert handled(world, "counter/a").count("e") == 1
        assert len(world.records("counter/a")) == records, "a duplicate leaves no record"


class Odd(Agent[Count]):
    @on("odd.reply")
    def reply(self, ctx: Context[Count]) -> Any:
        ctx.state.runs += 1
        return {**ODD, "n": ctx.state.runs}


@both
@pytest.mark.parametrize("late", [False, True], ids=["soon", "late"])
async def test_the_recorded_reply_is_answered_byte_for_byte(backend: Backend, late: bool) -> None:
    async with World(Odd, backend=backend, processes=2) as world:
        answers = [world.ask("odd/a", "odd.reply", id="e")]
        await answers[0]
        if late:
            await forget(world, "odd/a", "odd.reply")
            await world.crash()
        for _ in range(2):
            answers.append(world.ask("odd/a", "odd.reply", id="e"))
            await answers[-1]
        replies = [answer.reply for answer in answers]
        assert len({reply.value for reply in replies if reply}) == 1
        assert [reply.duplicate for reply in replies if reply] == [False, True, True], "the mark is not in the bytes"


@both
async def test_duplicates_within_one_batch_are_dropped(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        one = envelope("counter/a", "counter.add", {"by": 1}, id="1", at=world)
        two = envelope("counter/a", "counter.add", {"by": 2}, id="2", at=world)
        await world.post(one, one, two, one, two)
        await world.run()
        assert world.state("counter/a")["total"] == 3
        assert handled(world, "counter/a") == ["1", "2"]
        assert len(world.records("counter/a")) == 1, "and all of it was one turn"


async def test_one_event_asked_for_many_times_at_once_is_handled_once() -> None:
    async with World(Counter) as world:
        message = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        dispatcher = world._processes[0].dispatcher
        replies = await asyncio.gather(*(dispatcher.ask(message, wait=1) for _ in range(40)))
        assert {reply.value for reply in replies} == {b"1"}
        assert [reply.duplicate for reply in replies].count(False) == 1
        assert world.state("counter/a")["total"] == 1


@both
async def test_a_late_duplicate_beside_fresh_events_harms_none_of_them(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        no_circles(world, 20_000)
        olds = [envelope("counter/a", "counter.add", {"by": 1}, id=f"old{n}", at=world) for n in range(3)]
        await world.post(*olds)
        await forget(world, "counter/a", "counter.add", {"by": 0})
        fresh = [envelope("counter/a", "counter.add", {"by": 10}, id=f"new{n}", at=world) for n in range(3)]
        await world.post(fresh[0], olds[0], fresh[1], olds[1], olds[2], fresh[2])
        await world.run()
        assert world.state("counter/a")["total"] == 33
        assert reasons(world, "counter/a") == []
        world.verify()


@both
async def test_a_late_duplicate_does_not_run_its_effect(backend: Backend) -> None:
    """Its receipt is inserted in the first intent's transaction: before the effect, not after it."""
    outside = Outside()
    async with World(Till(outside), backend=backend) as world:
        no_circles(world, 20_000)
        pay = envelope("till/a", "till.pay", {"cents": 3}, id="pay", at=world)
        await world.post(pay)
        await forget(world, "till/a", "till.other")
        await world.post(pay, pay)
        await world.run()
        assert outside.amounts == [3]
        assert world.state("till/a") == {"cents": 6, "others": 40}
        assert await world.partitions.rows(Address.parse("till/a"), Kind.JOURNAL) == []


async def test_a_duplicate_costs_one_point_read() -> None:
    async with World(Counter) as world:
        sent = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        await world.post(sent)
        await world.run()
        for late in (False, True):
            if late:
                await forget(world, "counter/a", "counter.add", {"by": 0})
            before = world.faults.passed[FaultPoint.READ_BEFORE]
            await world.post(sent)
            await world.run()
            assert world.faults.passed[FaultPoint.READ_BEFORE] - before == 1


@both
@pytest.mark.parametrize("boundary", [Boundary.LOST, Boundary.DONE])
async def test_an_unknown_commit_is_neither_lost_nor_doubled(backend: Backend, boundary: Boundary) -> None:
    call = "settle" if backend == "sqlite" else "commit"
    point = next(p for p in FaultPoint if (p.call, p.boundary) == (call, boundary))
    for nth in (1, 2):
        async with World(Counter, backend=backend, fault=Fault(point, nth)) as world:
            assert await world.ask("counter/a", "counter.add", Add(by=1), id="1") == 1
            assert await world.ask("counter/a", "counter.add", Add(by=1), id="2") == 2
            assert await world.ask("counter/a", "counter.add", Add(by=1), id="2") == 2
            assert handled(world, "counter/a") == ["1", "2"]


@both
async def test_two_processes_that_have_the_same_delivery_handle_it_once(backend: Backend) -> None:
    """A lock that was lost: both work on the same events at the same time."""
    async with World(Counter, backend=backend, processes=2) as world:
        messages = [envelope("counter/a", "counter.add", {"by": 1}, id=f"{n}", at=world) for n in range(50)]
        dispatchers = [process.dispatcher for process in world._processes]
        asked = (dispatcher.ask(message, wait=0) for message in messages for dispatcher in dispatchers)
        replies = await asyncio.gather(*asked)
        assert world.state("counter/a")["total"] == 50
        assert sorted(handled(world, "counter/a"), key=int) == [str(n) for n in range(50)]
        by_key: dict[str, set[bytes | None]] = {}
        for reply in replies:
            by_key.setdefault(reply.key, set()).add(reply.value)
        assert all(len(values) == 1 for values in by_key.values())
        world.verify()


@both
async def test_an_ask_and_a_delivery_of_one_event_are_one_event(backend: Backend) -> None:
    async with World(Counter, backend=backend, processes=2) as world:
        message = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        await world.post(message)
        reply = await world._processes[0].dispatcher.ask(message, wait=0)
        await world.run()
        assert (reply.ended, reply.value) == (Ended.HANDLED, b"1")
        assert world.state("counter/a")["total"] == 1


SETTINGS: dict[str, dict[str, Any]] = {
    "memory": {},
    "memory, two processes": {"processes": 2},
    "sqlite": {"backend": "sqlite", "each": 1},
    "sqlite, sent after the commit": {"backend": "sqlite", "each": 1, "settle_together": False},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_whatever_dies_each_event_is_handled_once(settings: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        sent = [envelope("counter/a", "counter.add", {"by": 10**n}, id=f"{n}", at=world) for n in range(3)]
        await world.post(sent[0], sent[1], sent[0])
        await world.run()
        answer = await world.ask("counter/a", "counter.add", Add(by=100), id="2")
        await world.post(*sent)
        await world.run()
        assert await world.ask("counter/a", "counter.add", Add(by=100), id="2") == answer == 111
        assert world.state("counter/a")["total"] == 111
        assert sorted(world.history("counter/a")) == [1, 10, 100]

    await sweep(scenario, Counter, **settings)


@both
async def test_a_hostile_world_counts_right(backend: Backend) -> None:
    async with World(Counter, backend=backend, hostile=True, processes=2) as world:
        for n in range(30):
            assert await world.ask("counter/a", "counter.add", Add(by=1)) == 2 * n + 1
            await world.send("counter/a", "counter.add", Add(by=1))
        assert world.state("counter/a")["total"] == 60
        assert world.crashes > 10
        world.verify()
