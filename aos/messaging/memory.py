"""A bus in memory: for tests, and for programs whose messages need not outlive them. At exit everything is gone.

`MemoryBroker` is the state, `MemoryBus` one client of it. Clients of one broker are to each other what processes are
to a shared file: each holds its own locks, and one of them can `die`. All of it belongs to one event loop.

A lock that has expired is lost from the moment at which somebody accepts: until then nobody else can hold the
session, and its holder may go on or renew.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aos.kernel.errors import BusUnavailable
from aos.kernel.ports import Clock, Delivery, LockLost, Parcel
from aos.messaging.steady import SteadyTime
from aos.messaging.waiting import Waiters


@dataclass(frozen=True, slots=True)
class _Message:
    """`n` is its place in the order of sending; it keeps it however often it is given back."""

    n: int
    parcel: Parcel
    count: int = 0


@dataclass(slots=True, eq=False)
class _Lock:
    name: str
    owner: MemoryBus
    until: int
    hand: dict[int, _Message] = field(default_factory=dict[int, _Message])


class MemoryBroker:
    """What a bus remembers. `period` is how long a lock lasts, in seconds."""

    def __init__(self, clock: Clock, *, period: float = 10.0) -> None:
        self.clock = clock
        self.waiters = Waiters(clock)
        self._time = SteadyTime(clock)
        self._period = int(period * 1000)
        self._last = 0
        self._ready: dict[str, list[tuple[int, _Message]]] = {}
        self._later: list[tuple[int, int, _Message]] = []
        self._locks: dict[str, _Lock] = {}
        # Sessions with a due message and no holder, the one that has waited longest first.
        self._free: dict[str, None] = {}

    def put(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            self._last += 1
            self._place(_Message(self._last, parcel._replace(due=None)), parcel.due)
        self.waiters.notify()

    def claim(self, owner: MemoryBus, limit: int) -> list[_Lock]:
        """Locks on up to `limit` free sessions for `owner`."""
        self._expire()
        self._promote()
        names = list(self._free)[:limit]
        locks = [_Lock(name, owner, self._time.now() + self._period) for name in names]
        for lock in locks:
            del self._free[lock.name]
            self._locks[lock.name] = lock
        return locks

    def take(self, lock: _Lock, limit: int) -> list[_Message]:
        """Move up to `limit` due messages from the session into the holder's hand."""
        self._check(lock)
        self._promote()
        ready = self._ready.get(lock.name, [])
        taken = [heapq.heappop(ready)[1] for _ in range(min(limit, len(ready)))]
        lock.hand.update((message.n, message) for message in taken)
        return taken

    def remove(self, lock: _Lock, numbers: Sequence[int]) -> None:
        self._check(lock)
        for n in numbers:
            lock.hand.pop(n, None)

    def give_back(self, lock: _Lock, numbers: Sequence[int], due: int | None) -> None:
        self._check(lock)
        for n in numbers:
            message = lock.hand.pop(n, None)
            if message is not None:
                self._place(replace(message, count=message.count + 1), due)
        self.waiters.notify()

    def prolong(self, lock: _Lock) -> None:
        self._check(lock)
        lock.until = self._time.now() + self._period

    def unlock(self, lock: _Lock, *, counted: bool = False) -> None:
        """Free the session. What was in hand is due again, with its count raised if the holder is gone."""
        if self._locks.get(lock.name) is not lock:
            return
        del self._locks[lock.name]
        for message in lock.hand.values():
            self._place(replace(message, count=message.count + counted), None)
        if self._ready.get(lock.name):
            self._free[lock.name] = None
        else:
            self._ready.pop(lock.name, None)
        self.waiters.notify()

    def drop(self, owner: MemoryBus, *, counted: bool) -> None:
        """Free all that `owner` holds."""
        for lock in [lock for lock in self._locks.values() if lock.owner is owner]:
            self.unlock(lock, counted=counted)

    def depth(self, due: int | None) -> int:
        """Messages that are not completed, as far as they are due by then."""
        waiting = sum(map(len, self._ready.values())) + sum(len(lock.hand) for lock in self._locks.values())
        return waiting + sum(1 for later, _, _ in self._later if due is None or later <= due)

    def next_change(self) -> float:
        """Seconds until a message becomes due or a lock expires, whichever is first."""
        due = [self._later[0][0] - self.clock.now()] if self._later else []
        expiries = [lock.until - self._time.now() for lock in self._locks.values()]
        return max(0, min(due + expiries, default=3_600_000)) / 1000

    def _check(self, lock: _Lock) -> None:
        if self._locks.get(lock.name) is not lock:
            raise LockLost(lock.name)

    def _place(self, message: _Message, due: int | None) -> None:
        if due is not None and due > self.clock.now():
            heapq.heappush(self._later, (due, message.n, message))
            return
        name = message.parcel.session
        heapq.heappush(self._ready.setdefault(name, []), (message.n, message))
        if name not in self._locks:
            self._free.setdefault(name)

    def _promote(self) -> None:
        while self._later and self._later[0][0] <= self.clock.now():
            self._place(heapq.heappop(self._later)[2], None)

    def _expire(self) -> None:
        now = self._time.now()
        for lock in [lock for lock in self._locks.values() if lock.until <= now]:
            self.unlock(lock, counted=True)


class MemorySession:
    """Exclusive hold on one session (`aos.kernel.ports.Session`)."""

    def __init__(self, broker: MemoryBroker, lock: _Lock) -> None:
        self._broker = broker
        self._lock = lock

    @property
    def name(self) -> str:
        return self._lock.name

    async def receive(self, limit: int) -> Sequence[Delivery]:
        taken = self._broker.take(self._lock, limit)
        return [Delivery(message.parcel, message.count + 1, message.n) for message in taken]

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        self._broker.remove(self._lock, _numbers(deliveries))

    async def abandon(self, deliveries: Sequence[Delivery], due: int | None = None) -> None:
        self._broker.give_back(self._lock, _numbers(deliveries), due)

    async def renew(self) -> None:
        self._broker.prolong(self._lock)

    async def release(self) -> None:
        self._broker.unlock(self._lock)


class MemoryBus:
    """One client of a broker (`aos.kernel.ports.Bus`)."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._gone = False

    async def send(self, parcels: Sequence[Parcel]) -> None:
        self._check()
        self._broker.put(parcels)

    async def accept(self, limit: int, *, wait: float = 0.0) -> Sequence[MemorySession]:
        broker = self._broker
        deadline = broker.clock.monotonic() + wait
        with broker.waiters.enrolled() as told:
            while True:
                self._check()
                told.clear()
                locks = broker.claim(self, limit)
                left = deadline - broker.clock.monotonic()
                if locks or left <= 0:
                    return [MemorySession(broker, lock) for lock in locks]
                await broker.waiters.pause(told, min(left, broker.next_change()))

    async def depth(self, due: int | None = None) -> int:
        self._check()
        return self._broker.depth(due)

    async def close(self) -> None:
        """Release everything and go."""
        self._gone = True
        self._broker.drop(self, counted=False)
        self._broker.waiters.notify()

    def die(self) -> None:
        """Go as by kill -9: nothing is released, the broker notices at once that the holder is gone."""
        self._gone = True
        self._broker.drop(self, counted=True)
        self._broker.waiters.notify()

    def _check(self) -> None:
        if self._gone:
            raise BusUnavailable("this client of the bus is closed")


def _numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [delivery.handle for delivery in deliveries if isinstance(delivery.handle, int)]
