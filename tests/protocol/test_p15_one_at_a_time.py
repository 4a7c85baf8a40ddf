"""P15: in one process the turns of one agent come one after the other, and what waits meanwhile becomes a batch."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.testing import World
from tests.protocol.agents import Add, Counter, envelope, handled
from tests.protocol.rivals import another, delivery, dispatch, store_of


class Seen(BaseModel):
    events: int = 0


class Busy(Agent[Seen]):
    """Counts how many of its handlers are at work at a time. `gate` holds them until the test lets them go."""

    def __init__(self) -> None:
        self.working = self.most = 0
        self.gate = asyncio.Event()
        self.began = asyncio.Event()

    @on("busy.work")
    async def work(self, ctx: Context[Seen]) -> int:
        self.working += 1
        self.most = max(self.most, self.working)
        self.began.set()
        await self.gate.wait()
        await asyncio.sleep(0)
        ctx.state.events += 1
        self.working -= 1
        return ctx.state.events


async def test_turns_of_one_agent_come_one_after_the_other() -> None:
    busy = Busy()
    async with World(busy) as world:
        process = another(world, store=store_of(world))
        busy.gate.set()
        asked = (process.ask(envelope("busy/a", "busy.work", id=str(n), at=world)) for n in range(20))
        replies = await asyncio.gather(*asked)
        assert [reply.value for reply in replies] == [str(n + 1).encode() for n in range(20)]
        assert busy.most == 1
        world.verify()


async def test_asks_that_wait_become_one_batch() -> None:
    busy = Busy()
    async with World(busy) as world:
        process = another(world)
        first = asyncio.create_task(process.ask(envelope("busy/a", "busy.work", id="0", at=world)))
        await busy.began.wait()
        asked = [
            asyncio.create_task(process.ask(envelope("busy/a", "busy.work", id=str(n), at=world))) for n in range(1, 20)
        ]
        await asyncio.sleep(0)
        busy.gate.set()
        await asyncio.gather(first, *asked)
        assert len(world.records("busy/a")) == 2, "the first one, and all that waited for it"


async def test_asks_and_deliveries_wait_in_one_line() -> None:
    busy = Busy()
    async with World(busy) as world:
        process = another(world)
        waiting: list[Any] = [asyncio.create_task(process.ask(envelope("busy/a", "busy.work", id="0", at=world)))]
        await busy.began.wait()
        sent = [delivery(envelope("busy/a", "busy.work", id=str(n), at=world)) for n in (1, 2)]
        waiting.append(asyncio.create_task(process.dispatch(Address.parse("busy/a"), sent)))
        waiting.append(asyncio.create_task(process.ask(envelope("busy/a", "busy.work", id="3", at=world))))
        await asyncio.sleep(0)
        busy.gate.set()
        await asyncio.gather(*waiting)
        assert handled(world, "busy/a") == ["0", "1", "2", "3"]
        assert busy.most == 1


async def test_two_agents_do_not_wait_for_each_other() -> None:
    busy = Busy()
    async with World(busy) as world:
        process = another(world)
        asked = [
            asyncio.create_task(process.ask(envelope(f"busy/{n}", "busy.work", id="1", at=world))) for n in range(3)
        ]
        while busy.working < 3:
            await asyncio.sleep(0)
        busy.gate.set()
        assert [reply.value for reply in await asyncio.gather(*asked)] == [b"1", b"1", b"1"]


async def test_a_turn_goes_on_when_nobody_waits_for_it_any_more() -> None:
    busy = Busy()
    async with World(busy) as world:
        process = another(world)
        asked = asyncio.create_task(process.ask(envelope("busy/a", "busy.work", id="1", at=world)))
        await busy.began.wait()
        asked.cancel()
        await asyncio.wait([asked])
        busy.gate.set()
        await process.close()
        assert handled(world, "busy/a") == ["1"]


async def test_one_that_fails_harms_nobody_in_its_batch() -> None:
    async with World(Counter) as world:
        good = [envelope("counter/a", "counter.add", {"by": 1}, id=str(n), at=world) for n in range(3)]
        bad = envelope("counter/a", "counter.add", {"by": "much"}, id="bad", at=world)
        process = another(world)
        replies = await asyncio.gather(*(process.ask(message) for message in (good[0], bad, good[1], good[2])))
        assert [reply.value for reply in replies] == [b"1", None, b"2", b"3"]


async def test_fifty_events_through_two_processes_that_both_get_all_of_them() -> None:
    """Correctness comes from the version check: a bus that gives everything to everybody does no harm."""
    async with World(Counter) as world:
        sent = [envelope("counter/a", "counter.add", {"by": 1}, id=str(n), at=world) for n in range(50)]
        processes = [another(world, store=store_of(world)) for _ in range(2)]
        work = [
            dispatch(process, *(sent[n : n + 5] if process is processes[0] else reversed(sent[n : n + 5])))
            for n in range(0, 50, 5)
            for process in processes
        ]
        await asyncio.gather(*work)
        await world.run()
        assert world.state("counter/a")["total"] == 50
        assert sorted(map(int, handled(world, "counter/a"))) == list(range(50))
        assert [record["seq"] for record in world.records("counter/a")] == list(range(len(world.records("counter/a"))))
        world.verify()


async def test_an_ask_is_answered_once_though_the_same_event_is_asked_many_times_at_once() -> None:
    async with World(Counter) as world:
        message = envelope("counter/a", "counter.add", Add(by=3).model_dump(), at=world)
        processes = [another(world, store=store_of(world)) for _ in range(3)]
        replies = await asyncio.gather(*(process.ask(message) for process in processes for _ in range(4)))
        assert {reply.value for reply in replies} == {b"3"}
        assert handled(world, "counter/a") == ["e"]
