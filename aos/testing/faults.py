"""Fault points: where a process may die, or an answer get lost, around everything that it asks of the world.

Production code has no hooks: the points lie in wrappers around the ports, and only this package can put those on.
A turn that runs between two port calls has no effect outside, so a crash at its ports is a crash anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from aos.kernel.address import Address
from aos.kernel.errors import BusUnavailable
from aos.kernel.ports import (
    Answer,
    Batch,
    Blobs,
    Bus,
    Delivery,
    IndexRow,
    Kind,
    Parcel,
    Row,
    Session,
    Settler,
    Snapshot,
    Store,
    Unknown,
    Verb,
)

T = TypeVar("T")


class Boundary(Enum):
    """Where, in relation to what becomes durable."""

    BEFORE = "before"
    """The process dies before the call."""
    LOST = "lost"
    """The call does not happen, and the answer does not say so."""
    DONE = "done"
    """The call happens, and the answer does not say so."""
    AFTER = "after"
    """The process dies after the call."""


class FaultPoint(Enum):
    """Every point at which a fault can be injected: (call, boundary)."""

    LOAD_BEFORE = ("load", Boundary.BEFORE)
    LOAD_AFTER = ("load", Boundary.AFTER)
    READ_BEFORE = ("read", Boundary.BEFORE)
    READ_AFTER = ("read", Boundary.AFTER)
    COMMIT_BEFORE = ("commit", Boundary.BEFORE)
    COMMIT_LOST = ("commit", Boundary.LOST)
    COMMIT_DONE = ("commit", Boundary.DONE)
    COMMIT_AFTER = ("commit", Boundary.AFTER)
    SETTLE_BEFORE = ("settle", Boundary.BEFORE)
    SETTLE_LOST = ("settle", Boundary.LOST)
    SETTLE_DONE = ("settle", Boundary.DONE)
    SETTLE_AFTER = ("settle", Boundary.AFTER)
    INTENT_BEFORE = ("intent", Boundary.BEFORE)
    INTENT_LOST = ("intent", Boundary.LOST)
    INTENT_DONE = ("intent", Boundary.DONE)
    INTENT_AFTER = ("intent", Boundary.AFTER)
    """After an effect's intent, before the effect: its outcome will be unknown."""
    RESULT_BEFORE = ("result", Boundary.BEFORE)
    """After the effect, before its result: its outcome will be unknown."""
    RESULT_LOST = ("result", Boundary.LOST)
    RESULT_DONE = ("result", Boundary.DONE)
    RESULT_AFTER = ("result", Boundary.AFTER)
    BLOB_BEFORE = ("blob", Boundary.BEFORE)
    BLOB_AFTER = ("blob", Boundary.AFTER)
    SEND_BEFORE = ("send", Boundary.BEFORE)
    SEND_LOST = ("send", Boundary.LOST)
    SEND_DONE = ("send", Boundary.DONE)
    SEND_AFTER = ("send", Boundary.AFTER)
    INDEX_BEFORE = ("index", Boundary.BEFORE)
    INDEX_AFTER = ("index", Boundary.AFTER)
    FORGET_BEFORE = ("forget", Boundary.BEFORE)
    FORGET_AFTER = ("forget", Boundary.AFTER)
    COMPLETE_BEFORE = ("complete", Boundary.BEFORE)
    COMPLETE_AFTER = ("complete", Boundary.AFTER)

    @property
    def call(self) -> str:
        return str(self.value[0])

    @property
    def boundary(self) -> Boundary:
        return Boundary(self.value[1])


LEAVES_UNKNOWN = frozenset((FaultPoint.INTENT_AFTER, FaultPoint.RESULT_BEFORE, FaultPoint.RESULT_LOST))
"""After a fault here an effect that is not idempotent has an unknown outcome and stops visibly: that is right (P10)."""


class Crash(BaseException):
    """The process died here. Nothing after it ran; nothing in memory is left."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Inject at the `nth` (from 1) passage of the point."""

    point: FaultPoint
    nth: int = 1


@dataclass(slots=True)
class Faults:
    """What is to be injected, and what was passed. `die` is what a crash does: raise here, SIGKILL in a child."""

    armed: Fault | None = None
    armed_passage: int = 0
    """Instead of a point: the passage of any point, counted from now, except those that leave an outcome unknown."""
    fired: int = 0
    passed: Counter[FaultPoint] = field(default_factory=Counter["FaultPoint"])
    die: Callable[[FaultPoint], None] | None = None

    def hit(self, call: str, boundary: Boundary) -> bool:
        """Whether the fault is to happen now; fires once."""
        point = _POINTS.get((call, boundary))
        if point is None:
            return False
        self.passed[point] += 1
        if self.armed_passage and point not in LEAVES_UNKNOWN:
            self.armed_passage -= 1
            self.fired += not self.armed_passage
            return not self.armed_passage
        if self.armed is None or self.armed.point is not point or self.passed[point] != self.armed.nth:
            return False
        self.fired += 1
        self.armed = None
        return True

    async def around(self, call: str, action: Callable[[], Awaitable[T]], unknown: Callable[[], T] | None = None) -> T:
        """Do it, with the faults that may happen around it. `unknown`: the answer that does not say."""
        if self.hit(call, Boundary.BEFORE):
            self._crash(call, Boundary.BEFORE)
        if unknown is not None and self.hit(call, Boundary.LOST):
            return unknown()
        value = await action()
        if unknown is not None and self.hit(call, Boundary.DONE):
            return unknown()
        if self.hit(call, Boundary.AFTER):
            self._crash(call, Boundary.AFTER)
        return value

    def _crash(self, call: str, boundary: Boundary) -> None:
        point = _POINTS[call, boundary]
        if self.die is not None:
            self.die(point)
        raise Crash(point.name)


_POINTS: dict[tuple[str, Boundary], FaultPoint] = {(point.call, point.boundary): point for point in FaultPoint}


def _lost_answer() -> Unknown:
    return Unknown("injected: the answer was lost")


def _lost_send() -> Any:
    raise BusUnavailable("injected: the answer was lost")


class Fused:
    """What a dead process can't use any more."""

    dead = False

    def check(self) -> None:
        if self.dead:
            raise Crash("this process is dead")


class FaultyStore:
    """A `Store` with fault points."""

    def __init__(self, inner: Store, faults: Faults, fuse: Fused) -> None:
        self._inner, self._faults, self._fuse = inner, faults, fuse

    async def load(self, agent: Address) -> Snapshot:
        self._fuse.check()
        return await self._faults.around("load", lambda: self._inner.load(agent))

    async def commit(self, agent: Address, batch: Batch) -> Answer:
        self._fuse.check()
        return await self._faults.around("commit", lambda: self._inner.commit(agent, batch), _lost_answer)

    async def journal(self, agent: Address, batch: Batch) -> Answer:
        self._fuse.check()
        return await self._faults.around(_journal_call(batch), lambda: self._inner.journal(agent, batch), _lost_answer)

    async def read(
        self,
        agent: Address,
        kind: Kind,
        first: str = "",
        last: str | None = None,
        *,
        limit: int = 1000,
        reverse: bool = False,
    ) -> tuple[Row, ...]:
        self._fuse.check()
        return await self._faults.around(
            "read", lambda: self._inner.read(agent, kind, first, last, limit=limit, reverse=reverse)
        )

    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        self._fuse.check()
        await self._faults.around("index", lambda: self._inner.index_put(rows))

    async def index_list(self, partition: str, after: str = "", *, limit: int = 100) -> tuple[IndexRow, ...]:
        return await self._inner.index_list(partition, after, limit=limit)

    async def agents(self, after: str = "", *, limit: int = 1000) -> tuple[Address, ...]:
        return await self._inner.agents(after, limit=limit)


class FaultyBlobs:
    """`Blobs` with fault points."""

    def __init__(self, inner: Blobs, faults: Faults, fuse: Fused) -> None:
        self._inner, self._faults, self._fuse = inner, faults, fuse

    async def put(self, name: str, data: bytes) -> None:
        self._fuse.check()
        await self._faults.around("blob", lambda: self._inner.put(name, data))

    async def get(self, name: str) -> bytes | None:
        self._fuse.check()
        return await self._inner.get(name)

    async def delete(self, name: str) -> None:
        self._fuse.check()
        await self._inner.delete(name)

    async def list(self, prefix: str, after: str = "", *, limit: int = 1000) -> tuple[str, ...]:
        return await self._inner.list(prefix, after, limit=limit)


class FaultySession:
    """A `Session` with fault points."""

    def __init__(self, inner: Session, faults: Faults, fuse: Fused) -> None:
        self._inner, self._faults, self._fuse = inner, faults, fuse

    @property
    def name(self) -> str:
        return self._inner.name

    async def receive(self, limit: int) -> Sequence[Delivery]:
        self._fuse.check()
        return await self._inner.receive(limit)

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        self._fuse.check()
        await self._faults.around("complete", lambda: self._inner.complete(deliveries))

    async def abandon(self, deliveries: Sequence[Delivery], due: int | None = None) -> None:
        self._fuse.check()
        await self._inner.abandon(deliveries, due)

    async def renew(self) -> None:
        self._fuse.check()
        await self._inner.renew()

    async def release(self) -> None:
        if not self._fuse.dead:
            await self._inner.release()


class FaultyBus:
    """A `Bus` with fault points. `watch` is told of every parcel, so that a world knows when the next one is due."""

    def __init__(self, inner: Bus, faults: Faults, fuse: Fused, watch: Callable[[Parcel], None]) -> None:
        self._inner, self._faults, self._fuse, self._watch = inner, faults, fuse, watch

    async def send(self, parcels: Sequence[Parcel]) -> None:
        self._fuse.check()
        for parcel in parcels:
            self._watch(parcel)
        await self._faults.around("send", lambda: self._inner.send(parcels), _lost_send)

    async def accept(self, limit: int, *, wait: float = 0.0) -> Sequence[FaultySession]:
        self._fuse.check()
        found = await self._inner.accept(limit, wait=wait)
        return [FaultySession(session, self._faults, self._fuse) for session in found]

    async def depth(self, due: int | None = None) -> int:
        return await self._inner.depth(due)


class FaultySettler:
    """A `Settler` with fault points."""

    def __init__(self, inner: Settler, faults: Faults, fuse: Fused, watch: Callable[[Parcel], None]) -> None:
        self._inner, self._faults, self._fuse, self._watch = inner, faults, fuse, watch

    async def settle(
        self,
        agent: Address,
        batch: Batch,
        parcels: Sequence[Parcel],
        index: Sequence[IndexRow],
        done: Sequence[Delivery],
    ) -> Answer:
        self._fuse.check()
        for parcel in parcels:
            self._watch(parcel)
        return await self._faults.around(
            "settle", lambda: self._inner.settle(agent, batch, parcels, index, done), _lost_answer
        )


def _journal_call(batch: Batch) -> str:
    """Which of its uses a journal write is."""
    if any(write.verb is Verb.DELETE and write.key.startswith(Kind.OUTBOX) for write in batch.writes):
        return "forget"
    return "result" if any(write.key.endswith("r") for write in batch.writes if write.verb is Verb.PUT) else "intent"
