"""`World`: agents under test, with time that stands still until it is moved.

Nothing runs by itself. `ask`, `send` and `advance` make the world run until nobody has anything to do any more.
In hostile mode every event is delivered twice, every turn begins cold, and processes die around it.
"""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from aos.audit import verify_agent
from aos.ingress import external_message
from aos.kernel import codec, commands, schedules
from aos.kernel.address import Address
from aos.kernel.agent import Agent
from aos.kernel.deadletter import DeadLetter
from aos.kernel.dispatcher import Dispatcher, Kernel, value_of
from aos.kernel.errors import Unavailable
from aos.kernel.event import Event, new_event
from aos.kernel.gatekeeper import PermitAll
from aos.kernel.item import Reply
from aos.kernel.ledger import unsalted
from aos.kernel.limits import Limits
from aos.kernel.message import Actor, Message
from aos.kernel.partition import Partitions
from aos.kernel.ports import Delivery, Gate, Kind, LockLost, Parcel
from aos.kernel.registry import Registry
from aos.kernel.turn import Host
from aos.system.calendar import CronCalendar
from aos.system.scheduler import Scheduler
from aos.system.topic import Topic
from aos.testing.backends import Backend, Connection, MemoryBackend, SqliteBackend
from aos.testing.clock import START, ManualClock, SeededEntropy
from aos.testing.faults import (
    Crash,
    Fault,
    FaultPoint,
    Faults,
    FaultyBlobs,
    FaultyBus,
    FaultySettler,
    FaultyStore,
    Fused,
)

T = TypeVar("T")
OPERATOR = Actor("user", "tester", "test")
MAX_ROUNDS = 10_000
"""Rounds of work without an end after which a world says that its agents go round in a circle."""


class Answer:
    """The answer to an ask, once awaited. `reply` is the raw one."""

    def __init__(self, world: World, message: Message) -> None:
        self._world = world
        self.message = message
        self.reply: Reply | None = None
        self.error: Exception | None = None

    @property
    def key(self) -> str:
        """The key of the event's receipt."""
        return self.message.event.key

    def __await__(self) -> Generator[Any, None, Any]:
        return self._world.answer(self).__await__()


class Process:
    """One process of the world: a dispatcher and its connection. It can die."""

    def __init__(self, world: World, connection: Connection, n: int) -> None:
        self.connection = connection
        self.fuse = Fused()
        faults = world.faults
        settler = connection.settler if world.settle_together else None
        kernel = Kernel(
            registry=world.registry,
            store=FaultyStore(connection.store, faults, self.fuse),
            blobs=FaultyBlobs(connection.blobs, faults, self.fuse),
            bus=FaultyBus(connection.bus, faults, self.fuse, world.note_due),
            gate=world.gate,
            clock=world.clock,
            entropy=world.entropy,
            calendar=world.registry.calendar,
            host=Host("aos-world", "0", str(n)),
            settler=FaultySettler(settler, faults, self.fuse, world.note_due) if settler else None,
            limits=world.limits,
        )
        self.dispatcher = Dispatcher(kernel)
        self.bus = kernel.bus


class World:
    """Use it as `async with World(MyAgent, …) as world`."""

    def __init__(
        self,
        *agents: Agent[Any] | type[Agent[Any]],
        hostile: bool = False,
        backend: Literal["memory", "sqlite"] = "memory",
        processes: int = 1,
        fault: Fault | None = None,
        settle_together: bool | None = None,
        gate: Gate | None = None,
        limits: Limits | None = None,
        start: datetime = START,
        seed: str = "aos",
        path: Path | None = None,
        die: Callable[[FaultPoint], None] | None = None,
    ) -> None:
        """`hostile`: see above. `processes`: the work alternates between so many. `fault`: one fault, to be injected
        once; leaving the world without its having fired is an error. `settle_together`: on SQLite, commit and send in
        one transaction (the default there, unless hostile). `path`: the SQLite file, to go on where another world
        (or another process) stopped; without one it is a temporary file. `die`: what a crash does; by default it
        ends this world's process only in play."""
        self.clock = ManualClock(start)
        self.entropy = SeededEntropy(seed)
        self.registry = Registry(CronCalendar())
        for agent in (Topic, Scheduler, *agents):
            self.registry.add(agent)
        self.gate = gate or PermitAll()
        self.limits = limits or Limits()
        self.hostile = hostile
        self.faults = Faults(armed=fault, die=die)
        self.settle_together = backend == "sqlite" and not hostile if settle_together is None else settle_together
        self.crashes = 0
        self._fault = fault
        self._kind = backend
        self._path = path
        self._count = processes
        self._processes: list[Process] = []
        self._born = 0
        self._turn = 0
        self._due: list[int] = []
        self._asked: list[Answer] = []
        self._dead = Fused()
        self._hostility = _Hostility(self.faults) if hostile else None

    async def __aenter__(self) -> World:
        self._backend: Backend = (
            MemoryBackend(self.clock) if self._kind == "memory" else SqliteBackend(self.clock, self.entropy, self._path)
        )
        for _ in range(self._count):
            self._processes.append(await self._process())
        await self._surviving(self._arm_schedules)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self._processes:
            await process.dispatcher.close()
        await self._backend.close()
        if kind is None and self._fault is not None and not self.faults.fired:
            raise AssertionError(f"the fault {self._fault} was never reached: {dict(self.faults.passed)}")

    # ------------------------------------------------------------------------------------------------ what you do

    def ask(self, agent: Address | str, type: str, data: Any = None, *, id: str | None = None) -> Answer:
        """Ask; the world runs when the answer is awaited, or time is advanced."""
        answer = Answer(self, self._message(agent, type, data, id))
        self._asked.append(answer)
        return answer

    async def send(self, agent: Address | str, type: str, data: Any = None, *, id: str | None = None) -> str:
        """Send an event and let the world run; returns the event's key."""
        message = self._message(agent, type, data, id)
        await self._put([message] * (2 if self.hostile else 1))
        await self.run()
        return message.event.key

    async def event(self, event: Event, to: Address | str | None = None) -> str:
        """Send a whole event, routed by its type if it has no address."""
        address = Address.coerce(to) if to is not None else None
        message = external_message(self.registry, event, self.clock.now(), None, address)
        await self._put([message])
        await self.run()
        return message.event.key

    async def post(self, *messages: Message) -> None:
        """Put envelopes on the bus as they are, without running."""
        await self._put(list(messages))

    async def advance(self, by: timedelta) -> None:
        """Move time on, stopping at whatever becomes due on the way."""
        end = self.clock.now() + by // timedelta(milliseconds=1)
        await self.run()
        while self._due and self._due[0] <= end:
            self.clock.move_to(heapq.heappop(self._due))
            while self._due and self._due[0] <= self.clock.now():
                heapq.heappop(self._due)
            await self.run()
        self.clock.move_to(end)
        await self.run()

    async def run(self) -> None:
        """Until nobody has anything to do now."""
        for _ in range(MAX_ROUNDS):
            asked, self._asked = self._asked, []
            for answer in asked:
                await self._ask(answer)
            if not await self._surviving(self._round) and not self._asked:
                return
        raise AssertionError("the world does not come to rest: agents that send to each other in a circle?")

    async def command(
        self, agent: Address | str, type: str, data: Any = None, *, by: Actor = OPERATOR, id: str | None = None
    ) -> Any:
        """An operator's command: `aos.suspend`, `aos.dead_letter.redrive`, … (`aos.kernel.commands`)."""
        name, now = id or self.entropy.bytes(8).hex(), self.clock.now()
        answer = Answer(self, commands.order(Address.coerce(agent), type, data, by=by, id=name, now=now))
        self._asked.append(answer)
        return await answer

    async def query(self, agent: Address | str, name: str, data: Any = None) -> Any:
        await self.run()
        body = await self._surviving(
            lambda: self._next().dispatcher.query(Address.coerce(agent), name, codec.jsonable(data))
        )
        return json.loads(body)

    async def crash(self) -> None:
        """All processes die and start again."""
        for process in list(self._processes):
            await self._bury(process)

    # ---------------------------------------------------------------------------------------------- what you see

    @property
    def partitions(self) -> Partitions:
        """The store behind all of it, without faults."""
        connection = self._processes[0].connection
        return Partitions(connection.store, connection.blobs)

    def state(self, agent: Address | str) -> Any:
        """The agent's committed state as plain data; None if there is no such agent."""
        head = _now(self.partitions.load(Address.coerce(agent))).head
        return json.loads(head.state) if head is not None and head.state else None

    def life(self, agent: Address | str) -> str | None:
        head = _now(self.partitions.load(Address.coerce(agent))).head
        return None if head is None else head.life.value

    def history(self, agent: Address | str) -> list[Any]:
        rows = _now(self.partitions.rows(Address.coerce(agent), Kind.HISTORY, limit=100_000))
        return [json.loads(unsalted(row.body)) for row in rows]

    def dead_letters(self, agent: Address | str) -> list[DeadLetter]:
        return _now(self.partitions.dead_letters(Address.coerce(agent)))

    def receipt(self, agent: Address | str, key: str) -> Reply | None:
        dispatcher = Dispatcher(self._processes[0].dispatcher.kernel)
        dispatcher.partitions = self.partitions
        return _now(dispatcher.receipt(Address.coerce(agent), key))

    def entries(self, agent: Address | str, *kinds: str) -> list[dict[str, Any]]:
        """The ledger's entries, of the given kinds or all, in order."""
        return [
            entry for record in self.records(agent) for entry in record["entries"] if not kinds or entry["k"] in kinds
        ]

    def records(self, agent: Address | str) -> list[dict[str, Any]]:
        """The ledger's records, parsed."""
        found: list[dict[str, Any]] = []
        while (record := _now(self.partitions.record(Address.coerce(agent), len(found)))) is not None:
            found.append(json.loads(record[0]))
        return found

    def verify(self) -> None:
        """Every agent's chain, payloads and live state prove each other; AssertionError that says what does not."""
        problems = _now(self._problems())
        assert not problems, "\n".join(problems)

    async def _problems(self) -> list[str]:
        store, found = self.partitions.store, list[str]()
        for agent in await store.agents(limit=100_000):
            result = await verify_agent(store, self.partitions.blobs, agent)
            if result.bad is not None:
                found.append(f"{agent}: record {result.bad.seq}: {result.bad.what} (and {result.more} more)")
            found += [f"{agent}: {what}" for what in result.incomplete]
        return found

    # ------------------------------------------------------------------------------------------------ how it runs

    async def answer(self, answer: Answer) -> Any:
        """Run until the answer is there; its value, or the error that says why there is none."""
        await self.run()
        if answer.error is not None:
            raise answer.error
        assert answer.reply is not None
        if not answer.reply.final:
            answer.reply = self.receipt(answer.message.to, answer.key) or answer.reply
        return json.loads(value_of(answer.reply, answer.message.to))

    def note_due(self, parcel: Parcel) -> None:
        """A parcel with a delivery time was sent: the world stops there when time advances."""
        if parcel.due is not None:
            heapq.heappush(self._due, parcel.due)

    def _message(self, agent: Address | str, type: str, data: Any, id: str | None) -> Message:
        event = new_event(id or self.entropy.bytes(8).hex(), "test", type, codec.jsonable(data))
        return external_message(self.registry, event, self.clock.now(), None, Address.coerce(agent))

    async def _arm_schedules(self) -> None:
        for message in schedules.arming(self.registry.types.values(), self.clock.now()):
            await self._next().bus.send([message.parcel()])

    async def _put(self, messages: Sequence[Message]) -> None:
        async def put() -> None:
            await self._next().bus.send([message.parcel() for message in messages])

        await self._surviving(put)

    async def _ask(self, answer: Answer) -> None:
        """A client that asks again when the server dies. In hostile mode it always asks twice, and compares."""
        for n in range(2 if self.hostile else 1):
            try:
                reply = await self._surviving(lambda: self._attempt(answer.message))
            except Exception as error:  # what the client is told
                answer.error = error
                return
            if n and answer.reply is not None and answer.reply.final:
                assert reply.value == answer.reply.value, f"two answers to one event: {answer.reply} and {reply}"
            answer.reply = reply

    async def _attempt(self, message: Message) -> Reply:
        if self._hostility is not None:
            self._hostility.arm(message.parcel_id)
        return await self._next().dispatcher.ask(message, wait=0)

    async def _round(self) -> bool:
        """Every process takes what there is. True if there was anything."""
        worked = False
        for process in list(self._processes):
            for session in await process.bus.accept(64):
                worked = True
                try:
                    while deliveries := await session.receive(self.limits.batch):
                        await self._dispatch(process, session, deliveries)
                except LockLost:
                    continue
                finally:
                    await session.release()
        return worked

    async def _dispatch(self, process: Process, session: Any, deliveries: Sequence[Delivery]) -> None:
        if self._hostility is not None:
            self._hostility.arm(*(delivery.parcel.id for delivery in deliveries))
        agent = Address.parse(session.name)
        try:
            done = await process.dispatcher.dispatch(agent, deliveries)
            if self.hostile:
                await process.dispatcher.dispatch(agent, deliveries)
        except Crash:
            process.fuse.dead = True  # a dead process does not give its sessions back
            raise
        except Unavailable:
            await session.abandon(deliveries)
        else:
            await session.complete(done)

    def _next(self) -> Process:
        """The process whose turn it is."""
        self._turn += 1
        return self._processes[self._turn % len(self._processes)]

    async def _surviving(self, action: Callable[[], Awaitable[T]]) -> T:
        """Do it; processes that die are replaced, and whoever wanted it tries again."""
        last: BaseException | None = None
        for _ in range(20):
            try:
                return await action()
            except Crash as crash:
                last = AssertionError(f"the world's processes die again and again: {crash}")
                await self.crash()
            except Unavailable as error:
                last = error
                await asyncio.sleep(0)
        assert last is not None
        raise last

    async def _bury(self, process: Process) -> None:
        process.fuse.dead = True
        process.dispatcher.kill()
        await asyncio.sleep(0)
        await self._backend.die(process.connection)
        self.crashes += 1
        self._processes[self._processes.index(process)] = await self._process()

    async def _process(self) -> Process:
        self._born += 1
        return Process(self, await self._backend.connect(), self._born)


class _Hostility:
    """One fault for each event: at the first fault point that it passes, for the next event at the second, and so on.
    Points that leave an effect's outcome unknown are left out: they stop the event visibly, which is another test."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._seen: set[str] = set()
        self._passage = 0

    def arm(self, *ids: str) -> None:
        if self._faults.armed_passage:
            self._passage = 0  # the last one was beyond what that event passed
        self._faults.armed_passage = 0
        if not self._seen.issuperset(ids):
            self._seen.update(ids)
            self._passage += 1
            self._faults.armed_passage = self._passage


def _now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits: reads of the memory and SQLite stores don't."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("this store waits; look at it with `await`")
