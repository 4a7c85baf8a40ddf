"""The dispatcher: deliveries and asks in, committed turns out (ARCHITECTURE section 5).

Stateless but for the mailboxes: whatever it knows of an agent it reads from the store at the start of a turn.
`Cycle` (aos.kernel.cycle) is one pass from the read to the commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aos.kernel import message as envelope
from aos.kernel.address import Address
from aos.kernel.codec import encode
from aos.kernel.context import Query
from aos.kernel.cycle import UNREADABLE, Cycle
from aos.kernel.errors import (
    AskFailed,
    Contended,
    Denied,
    InvalidEvent,
    NoSuchAgent,
    StillOpen,
    Unavailable,
    UnknownQuery,
)
from aos.kernel.event import Event, encode_data
from aos.kernel.execution import TurnAborted, call_arguments, load_state, validate
from aos.kernel.gatekeeper import Gatekeeper
from aos.kernel.item import Ended, Item, Reply, ended_of
from aos.kernel.limits import Limits
from aos.kernel.mailbox import Mailbox, Mailboxes
from aos.kernel.message import Message, NewerEnvelope
from aos.kernel.partition import Partitions
from aos.kernel.ports import Blobs, Bus, Calendar, Clock, Delivery, Entropy, Gate, Parcel, Settler, Store
from aos.kernel.reading import TurnReader
from aos.kernel.receipt import Receipt
from aos.kernel.registry import Registry
from aos.kernel.turn import Host

log = logging.getLogger("aos")

MAX_UNREADABLE = 150_000
"""Bytes of what can't be read that its dead letter keeps; every one may become six in JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """All that a turn needs of the world. Wiring is `aos.app`'s."""

    registry: Registry
    store: Store
    blobs: Blobs
    bus: Bus
    gate: Gate
    clock: Clock
    entropy: Entropy
    calendar: Calendar | None
    host: Host
    settler: Settler | None = None
    """Where store and bus share a file: commit, send and completion in one transaction (P32)."""
    limits: Limits = field(default_factory=Limits)


class Dispatcher:
    """One a process. Any number of processes may work on one store."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.partitions = Partitions(kernel.store, kernel.blobs)
        self.keeper = Gatekeeper(kernel.gate)
        self._boxes = Mailboxes(self._work, kernel.limits.batch)
        self._watchers: defaultdict[str, list[asyncio.Future[Reply]]] = defaultdict(list)
        self.on_dead_letter: Callable[[Message, str, str], None] | None = None
        """Called with message, reason and traceback when an event is given up (hosts print it)."""

    # --------------------------------------------------------------------------------------------- from the bus

    async def dispatch(self, agent: Address, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Take deliveries of one agent to their end. Returns those that the host has to complete (the others were
        completed with the commit). Raises `Unavailable`: wait under the lock, then abandon (P23)."""
        items: list[Item] = []
        newer: list[Delivery] = []
        for delivery in deliveries:
            try:
                items.append(Item(message=_addressed(agent, delivery), delivery=delivery))
            except NewerEnvelope:
                await self._put_off(delivery)
                newer.append(delivery)
            except InvalidEvent as error:
                items.append(self._unreadable(agent, delivery, error))
        if items:
            await self._boxes.work(agent, items)
        for item in items:
            if item.fault is not None:
                raise item.fault
        return newer + [item.delivery for item in items if item.delivery is not None and not item.settled]

    async def send(self, message: Message) -> None:
        """Put an event on the bus. When it returns the event is durable; the agent runs later."""
        await self.kernel.bus.send([message.parcel()])

    # ------------------------------------------------------------------------------------------------- directly

    async def ask(self, message: Message, *, wait: float = 30.0) -> Reply:
        """Run the event now, in this process, and answer. A reply that is not final means: not yet, see the receipt.

        Raises what is wrong with the event (nothing was written then), or `Unavailable`."""
        self.kernel.registry.type(message.to.type)
        item = Item(message=message, direct=True)
        watcher = self._watch(message.event.key)
        try:
            await self._run_direct(item)
            if item.error is not None:
                raise item.error
            assert item.reply is not None
            return item.reply if item.reply.final else await self._await_reply(message, item.reply, watcher, wait)
        finally:
            self._unwatch(message.event.key, watcher)

    async def _run_direct(self, item: Item) -> None:
        """Once its copy is on the bus, or it is committed, an outage is no longer the asker's concern (P22)."""
        try:
            await self._boxes.put(item.message.to, [item])
        except Unavailable as error:
            if not item.ended and not item.guarded:
                raise
            log.warning("%s: %s; the event goes on when the bus delivers it", item.message.to, error)
            if not item.ended:
                item.end(Ended.PENDING, reason="deferred")

    async def receipt(self, agent: Address, key: str) -> Reply | None:
        """What became of an event; None if nothing is known of it."""
        receipt = await self.partitions.receipt(agent, key)
        return None if receipt is None else await self.reply_of(agent, key, receipt)

    async def reply_of(self, agent: Address, key: str, receipt: Receipt) -> Reply:
        """The recorded reply, byte for byte (P6)."""
        value = await self.partitions.reply(agent, receipt)
        return Reply(ended_of(receipt), key, value, receipt.reason, True)

    async def query(self, agent: Address, name: str, data: Any = None) -> bytes:
        """Answer a question from committed state; JSON text. `NoSuchAgent` where nothing was ever sent to."""
        kind = self.kernel.registry.type(agent.type)
        method = kind.queries.get(name)
        if method is None:
            known = ", ".join(sorted(kind.queries)) or "none"
            raise UnknownQuery(f"agent type {kind.name!r} has no query {name!r}; it has: {known}")
        loaded = await self.partitions.load(agent)
        if loaded.head is None:
            raise NoSuchAgent(f"there is no agent {agent}")
        state, _ = load_state(kind, loaded.head)
        event = Event(id="query", source="aos:query", type=name, body=encode_data(data))
        context: Query[Any] = Query(agent, state, self.kernel.clock.now(), TurnReader(agent, self.partitions))
        value = method.call(**call_arguments(method, validate(method, event), context))
        return encode(await value if method.is_async else value)

    async def close(self) -> None:
        """Wait for the turns under way."""
        await self._boxes.close()

    def kill(self) -> None:
        """Drop all turns at once, as a crash would; for tests of recovery."""
        self._boxes.kill()

    # ----------------------------------------------------------------------------------------------------- work

    async def _work(self, agent: Address, items: list[Item], box: Mailbox) -> None:
        """Turns until every item has ended; conflicts are tried again from the read, a bounded number of times."""
        conflicts = 0
        while waiting := [item for item in items if not item.ended]:
            cycle = Cycle(self.kernel, self.partitions, self.keeper, agent, box)
            try:
                await cycle.run(waiting)
                done = cycle.progress or any(item.ended for item in waiting)
                conflicts = 0 if done else conflicts + 1
            except TurnAborted as aborted:
                _stop_if_cancelled()
                conflicts += aborted.counts
            finally:
                self._tell(cycle)
            if conflicts > self.kernel.limits.conflicts:
                await self._defer(agent, waiting)
            elif conflicts:
                await self.kernel.clock.sleep(self._jitter() * conflicts)
        await self._tidy(agent, box)

    async def _tidy(self, agent: Address, box: Mailbox) -> None:
        """Delivered outbox rows whose removal no commit will carry (P16)."""
        if not box.delivered or box.waiting:
            return
        try:
            await self.partitions.forget(agent, box.delivered, self.kernel.entropy.bytes(16).hex())
            box.delivered.clear()
        except Unavailable as error:
            log.warning("%s: delivered messages stay in the outbox and are sent again: %s", agent, error)

    async def _defer(self, agent: Address, items: list[Item]) -> None:
        """Others keep winning: what came from the bus comes again later, an ask is told so (P17)."""
        due = self.kernel.clock.now() + self.kernel.limits.defer
        for item in items:
            if item.ended:
                continue
            if item.direct and item.guarded:
                item.end(Ended.PENDING, reason="contended")
                continue
            if item.direct:
                item.error = Contended(f"{agent} is contended; nothing was changed, ask again")
                continue
            if item.delivery is not None:
                await self.kernel.bus.send([item.message.put_off(due).parcel()])
            item.end(Ended.DEFERRED, reason="contended")

    def _tell(self, cycle: Cycle) -> None:
        for reply in cycle.told:
            for watcher in self._watchers.get(reply.key, ()):
                if not watcher.done():
                    watcher.set_result(reply)
        for message, reason, trace in cycle.buried:
            log.warning("dead letter: %s %s: %s", message.to, message.event.type, reason)
            if self.on_dead_letter is not None:
                self.on_dead_letter(message, reason, trace)

    def _jitter(self) -> float:
        """0.5 to 5 ms."""
        return (50 + int.from_bytes(self.kernel.entropy.bytes(2), "big") % 450) / 100_000

    def _unreadable(self, agent: Address, delivery: Delivery, error: InvalidEvent) -> Item:
        """What is no envelope becomes a dead letter of the session's agent: nothing is lost."""
        text = delivery.parcel.body[:MAX_UNREADABLE].decode("utf-8", "replace")
        body = encode_data({"body": text, "bytes": len(delivery.parcel.body), "error": str(error)})
        digest = hashlib.sha256(delivery.parcel.body).hexdigest()
        event = Event(id=f"{delivery.parcel.id}:{digest}", source="aos:unreadable", type=UNREADABLE, body=body)
        return Item(message=Message(to=agent, event=event, sent_at=self.kernel.clock.now()), delivery=delivery)

    async def _put_off(self, delivery: Delivery) -> None:
        """An envelope of newer code: it comes again until an instance of that code gets it (a rolling deploy)."""
        parcel = delivery.parcel
        due = self.kernel.clock.now() + self.kernel.limits.pause(4)
        await self.kernel.bus.send([Parcel(f"{parcel.id[:100]}.{due}", parcel.session, parcel.body, due)])

    # -------------------------------------------------------------------------------------------- waiting for it

    def _watch(self, key: str) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._watchers[key].append(future)
        return future

    def _unwatch(self, key: str, future: asyncio.Future[Reply]) -> None:
        found = self._watchers[key]
        found.remove(future)
        if not found:
            del self._watchers[key]

    async def _await_reply(self, message: Message, first: Reply, watcher: asyncio.Future[Reply], wait: float) -> Reply:
        """Until the receipt is closed by this process (it tells) or another one (looked up), or the wait is over."""
        clock, pause, last = self.kernel.clock, self.kernel.limits.sleep_poll / 1000, first
        end = clock.monotonic() + wait
        while (left := end - clock.monotonic()) > 0:
            sleeper: asyncio.Future[None] = asyncio.ensure_future(clock.sleep(min(pause, left)))
            await asyncio.wait({watcher, sleeper}, return_when=asyncio.FIRST_COMPLETED)
            sleeper.cancel()
            if watcher.done():
                return watcher.result()
            try:
                found = await self.receipt(message.to, message.event.key)
            except Unavailable as error:
                log.warning("waiting for the answer of %s: %s", message.to, error)
                continue
            if found is not None and found.final:
                return found
            last, pause = found or last, min(pause * 2, 1.0)
        return last


def _addressed(agent: Address, delivery: Delivery) -> Message:
    """The message of a delivery, which must be for the agent in whose session it came."""
    message = envelope.decode(delivery.parcel.body)
    if message.to != agent:
        raise InvalidEvent(f"an event for {message.to.log} came in the session of {agent.log}")
    return message


def _stop_if_cancelled() -> None:
    """A cancellation that arrived while a handler was in the journal must not be taken for a conflict."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def value_of(reply: Reply, agent: Address) -> bytes:
    """The reply's value, or the error that says why there is none."""
    if reply.ended is Ended.HANDLED:
        if reply.value is None:
            raise AskFailed(str(agent), reply.key, "the reply was erased")
        return reply.value
    if reply.ended is Ended.DISCARDED and reply.reason == "denied":
        raise Denied(f"the event {reply.key} to {agent}", ())
    if reply.final:
        raise AskFailed(str(agent), reply.key, reply.reason or "discarded")
    raise StillOpen(str(agent), reply.key)
