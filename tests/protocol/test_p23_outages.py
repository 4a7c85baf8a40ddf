"""P23: what the host can't do now it waits for, under the lock; nothing is counted, dropped or dead-lettered."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from aos.app import AgentOperatingSystem
from aos.hosts.worker import Worker
from aos.kernel.address import Address
from aos.kernel.errors import BusUnavailable, StoreUnavailable
from aos.kernel.partition import Partitions
from aos.messaging.memory import MemoryBroker, MemoryBus, MemorySession
from aos.storage.memory import MemoryBlobs, MemoryStore
from aos.testing import SeededEntropy
from tests.protocol.agents import Counter, Outside, Till
from tests.protocol.clockwork import Clockwork

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Away:
    """A port that can be away: every call raises then."""

    def __init__(self, inner: Any, error: Exception, clock: Clockwork) -> None:
        self._inner, self._error, self._clock = inner, error, clock
        self.away = False
        self.refused: list[tuple[int, str]] = []
        """When, and what."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.away:
                self.refused.append((self._clock.now(), name))
                raise self._error
            return await found(*args, **kwargs)

        return call


class Host:
    """A worker on memory, with a store and a bus that can be away."""

    def __init__(self, *agents: Any) -> None:
        self.clock = Clockwork()
        self.broker = MemoryBroker(self.clock)
        inner, blobs = MemoryStore(), MemoryBlobs()
        self.store = Away(inner, StoreUnavailable("injected: no storage"), self.clock)
        self.bus = Away(MemoryBus(self.broker), BusUnavailable("injected: no bus"), self.clock)
        self.partitions = Partitions(inner, blobs)
        self.aos = AgentOperatingSystem(
            agents,
            store=self.store,  # pyright: ignore[reportArgumentType]
            blobs=blobs,
            bus=self.bus,  # pyright: ignore[reportArgumentType]
            clock=self.clock,
            entropy=SeededEntropy(),
        )

    async def dead_letters(self) -> list[str]:
        agents = await self.partitions.store.agents()
        return [letter.reason for agent in agents for letter in await self.partitions.dead_letters(agent)]

    async def state(self, agent: str) -> bytes:
        head = (await self.partitions.load(Address.parse(agent))).head
        return b"" if head is None else head.state


@asynccontextmanager
async def working(*agents: Any) -> AsyncIterator[Host]:
    host = Host(*agents)
    async with host.aos:
        worker = Worker(host.aos)
        await worker.__aenter__()
        try:
            yield host
        finally:
            stopping = asyncio.create_task(worker.stop())
            while not stopping.done():
                await host.clock.run(SECOND)
            await stopping


async def test_five_minutes_without_storage_under_load_dead_letter_nothing() -> None:
    async with working(Counter) as host:
        sent = 0
        for minute in range(8):
            host.store.away = 1 <= minute < 6
            for _ in range(12):
                for n in range(10):
                    await host.aos.send(f"counter/{n}", "counter.add", {"by": 1}, id=f"{sent}")
                    sent += 1
                await host.clock.run(5 * SECOND)
        await host.clock.run(3 * MINUTE)
        assert host.store.refused, "there was an outage"
        assert await host.dead_letters() == []
        assert [await host.state(f"counter/{n}") for n in range(10)] == [b'{"total":96,"runs":0}'] * 10


async def test_nor_do_effects_that_were_under_way() -> None:
    """The process that ran them knows what came of them: it keeps trying to say so."""
    outside = Outside()
    async with working(Till(outside)) as host:

        async def outage() -> None:
            host.store.away = True

        outside.then = [outage]
        await host.aos.send("till/a", "till.pay", {"cents": 3})
        await host.clock.run(5 * SECOND)
        assert host.store.refused, "there was an outage"
        await host.clock.run(25 * SECOND)
        host.store.away = False
        await host.clock.run(5 * MINUTE)
        assert await host.dead_letters() == []
        assert outside.amounts == [3]
        assert await host.state("till/a") == b'{"cents":6,"others":0}'


async def test_the_host_waits_a_second_then_twice_as_long_up_to_a_minute() -> None:
    async with working(Counter) as host:
        await host.clock.run(SECOND)
        host.store.away = True
        await host.aos.send("counter/a", "counter.add", {"by": 1})
        await host.clock.run(5 * MINUTE)
        tries = [at for at, _ in host.store.refused]
        gaps = [round((later - sooner) / 1000) for sooner, later in itertools.pairwise(tries)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_it_waits_under_the_lock() -> None:
    """A lock that ran out would be another delivery, for an event that nobody has begun."""
    host = Host(Counter)
    async with host.aos:
        async with Worker(host.aos):
            await host.clock.run(SECOND)
            host.store.away = True
            await host.aos.send("counter/a", "counter.add", {"by": 1})
            await host.clock.run(5 * MINUTE)
        (session,) = await MemoryBus(host.broker).accept(1)
        assert [delivery.count for delivery in await session.receive(9)] == [1]


async def test_a_bus_that_is_away_is_waited_for() -> None:
    async with working(Counter) as host:
        await host.aos.send("counter/a", "counter.add", {"by": 1})
        host.bus.away = True
        await host.clock.run(5 * MINUTE)
        assert len(host.bus.refused) < 40
        host.bus.away = False
        await host.clock.run(2 * MINUTE)
        assert await host.state("counter/a") == b'{"total":1,"runs":0}'


async def test_a_bus_that_is_away_when_the_turn_wants_to_complete() -> None:
    outside = Outside()
    async with working(Till(outside)) as host:

        async def outage() -> None:
            host.bus.away = True

        outside.then = [outage]
        await host.aos.send("till/a", "till.pay", {"cents": 3})
        await host.clock.run(MINUTE)
        host.bus.away = False
        await host.clock.run(3 * MINUTE)
        assert outside.amounts == [3]
        assert await host.state("till/a") == b'{"cents":6,"others":0}'
        assert await host.dead_letters() == []


async def test_storage_that_comes_and_goes() -> None:
    async with working(Counter) as host:
        for n in range(60):
            host.store.away = n % 3 != 0
            await host.aos.send(f"counter/{n % 4}", "counter.add", {"by": 1}, id=str(n))
            await host.clock.run(7 * SECOND)
        host.store.away = False
        await host.clock.run(3 * MINUTE)
        assert await host.dead_letters() == []
        assert [await host.state(f"counter/{n}") for n in range(4)] == [b'{"total":15,"runs":0}'] * 4


@pytest.mark.parametrize("call", ["accept", "receive", "commit"])
async def test_what_nobody_foresaw_stops_neither_the_host_nor_makes_it_spin(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, or of a driver: an exception that no port is allowed to raise, for a minute."""
    async with working(Counter) as host:
        await host.aos.send("counter/good", "counter.add", {"by": 1})
        await host.clock.run(SECOND)
        target: Any = {"accept": MemoryBus, "receive": MemorySession, "commit": MemoryStore}[call]
        inner, calls = getattr(target, call), defaultdict[int, int](int)

        async def broken(*args: Any, **kwargs: Any) -> Any:
            calls[host.clock.now() // 1000] += 1
            raise RuntimeError("what nobody foresaw")

        monkeypatch.setattr(target, call, broken)
        await host.aos.send("counter/a", "counter.add", {"by": 1})
        await host.clock.run(MINUTE)
        assert calls
        assert max(calls.values()) <= 2, "it waits before it tries again"
        monkeypatch.setattr(target, call, inner)
        await host.aos.send("counter/b", "counter.add", {"by": 1})
        await host.clock.run(3 * MINUTE)
        assert await host.state("counter/a") == await host.state("counter/b") == b'{"total":1,"runs":0}'


async def test_a_worker_that_is_stopped_during_an_outage_gives_everything_back() -> None:
    host = Host(Counter)
    async with host.aos:
        async with Worker(host.aos):
            await host.clock.run(SECOND)
            host.store.away = True
            await host.aos.send("counter/a", "counter.add", {"by": 1})
            await host.clock.run(10 * SECOND)
        host.store.away = False
        async with Worker(host.aos):
            await host.clock.run(MINUTE)
        assert await host.state("counter/a") == b'{"total":1,"runs":0}'
