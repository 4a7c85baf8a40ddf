"""Processes that meet: one more process of a world, and something that happens before or after what it asks for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from aos.kernel.address import Address
from aos.kernel.dispatcher import Dispatcher
from aos.kernel.errors import StoreUnavailable
from aos.kernel.item import Reply
from aos.kernel.message import Message
from aos.kernel.ports import Batch, Delivery, Unknown
from aos.testing import Crash, World

Happening = Callable[[], Awaitable[Any]]


class Between:
    """A port, in front of which and behind which things happen, one a call. Every call waits, as a real one does."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._before: defaultdict[str, list[Happening]] = defaultdict(list)
        self._after: defaultdict[str, list[Happening]] = defaultdict(list)
        self.calls: list[str] = []

    def before(self, call: str, *happenings: Happening) -> Between:
        self._before[call] += happenings
        return self

    def after(self, call: str, *happenings: Happening) -> Between:
        """What a happening returns, if anything, is what the caller is told."""
        self._after[call] += happenings
        return self

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self._before[name]:
                await self._before[name].pop(0)()
            await asyncio.sleep(0)
            value = await getattr(self._inner, name)(*args, **kwargs)
            await asyncio.sleep(0)
            told = await self._after[name].pop(0)() if self._after[name] else None
            return value if told is None else told

        return call


def store_of(world: World) -> Between:
    return Between(world.partitions.store)


def bus_of(world: World) -> Between:
    return Between(_kernel(world).bus)


def another(world: World, **parts: Any) -> Dispatcher:
    """One more process of this world, with parts of its own. It sends after its commit, as on Azure."""
    return Dispatcher(replace(_kernel(world), **{"settler": None, "store": world.partitions.store, **parts}))


def delivery(message: Message, count: int = 1) -> Delivery:
    """A delivery that no bus knows of: a lost lock, a duplicate, another holder."""
    return Delivery(message.parcel(), count, None)


async def dispatch(process: Dispatcher, *messages: Message, count: int = 1) -> None:
    """Hand them to a process in one batch."""
    await process.dispatch(messages[0].to, [delivery(message, count) for message in messages])


async def dies(process: Dispatcher, *messages: Message, count: int = 1) -> None:
    """Hand them to a process that does not survive it."""
    try:
        await dispatch(process, *messages, count=count)
    except Crash:
        return
    raise AssertionError("the process did not die")


async def crash() -> None:
    raise Crash("here")


async def outage() -> None:
    raise StoreUnavailable("injected: the store is away")


async def lost_answer() -> Unknown:
    return Unknown("injected: the answer was lost")


def told(world: World, agent: str, key: str) -> Reply:
    """What the receipt of an event says. There is one."""
    reply = world.receipt(agent, key)
    assert reply is not None, f"nothing is known of {key} at {agent}"
    return reply


def outbox(world: World, agent: str) -> list[str]:
    """Row keys of what an agent has committed and nobody is known to have delivered."""
    loaded = world_now(world.partitions.load(Address.parse(agent)))
    return [row.key for row in loaded.outbox]


def world_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a read, which does not wait on these backends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("this store waits")


def batches(world: World) -> list[Batch]:
    """Every batch that is committed from now on, by any process of a world in memory."""
    store: Any = world.partitions.store
    commit, found = store.commit, list[Batch]()

    async def recorded(agent: Address, batch: Batch) -> Any:
        found.append(batch)
        return await commit(agent, batch)

    store.commit = recorded
    return found


def operations(batch: Batch) -> int:
    """Rows of a transaction, the head among them."""
    return len(batch.writes) + 1


def weight(batch: Batch) -> int:
    """Bytes of a transaction, the head among them."""
    return len(batch.head or b"") + sum(len(write.body) for write in batch.writes)


def _kernel(world: World) -> Any:
    return world._processes[0].dispatcher.kernel
