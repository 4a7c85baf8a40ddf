"""One held session of the embedded bus."""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from aos.kernel.ports import Delivery, LockLost, Parcel
from aos.messaging.embedded import statements as sql
from aos.messaging.embedded import table
from aos.messaging.embedded.client import Client
from aos.messaging.embedded.table import Message

T = TypeVar("T")


class Handle(NamedTuple):
    """What a delivery is known by."""

    session: EmbeddedSession
    n: int


class EmbeddedSession:
    """Exclusive hold on one session (`aos.kernel.ports.Session`).

    A lease that has expired is lost when somebody takes it over; until then its holder may go on."""

    def __init__(self, client: Client, grant: table.Grant) -> None:
        self.lease = grant.lease
        self._client = client
        self._lost = False
        self._ahead = deque(grant.messages)
        # What was read and is not known to be gone. What a settlement completed leaves it on the next look at the
        # file, because only that tells whether its transaction was committed.
        self._hand = {message.n for message in grant.messages}

    @property
    def name(self) -> str:
        return self.lease.name

    async def receive(self, limit: int) -> Sequence[Delivery]:
        self._check()
        if self._ahead:
            if not self._client.within_lease(self.lease):
                self._look(0)
            return [self._delivery(self._ahead.popleft()) for _ in range(min(limit, len(self._ahead)))]
        while True:
            there, later = self._look(limit + len(self._hand))
            fresh = [n for n in there if n not in self._hand][:limit]
            if fresh and (found := self._read(fresh)):
                return [self._delivery(message) for message in found]
            if later is None or later > self._client.clock.now():
                return []
            await self._client.promote()

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        numbers = self.in_hand(deliveries)
        await self._fenced(lambda conn: table.remove(conn, self.lease, numbers))
        self._hand.difference_update(numbers)

    async def abandon(self, deliveries: Sequence[Delivery], due: int | None = None) -> None:
        numbers = self.in_hand(deliveries)
        later = due if due is not None and due > self._client.clock.now() else None
        await self._fenced(lambda conn: table.give_back(conn, self.lease, numbers, later))
        self._hand.difference_update(numbers)
        self._client.waiters.notify()

    async def renew(self) -> None:
        client = self._client
        client.until = await self._fenced(lambda conn: table.renew(conn, client.name, self.lease, client.time.now()))

    async def release(self) -> None:
        if not self._lost:
            self._lose()
            await self._client.release(self.lease)

    def in_hand(self, deliveries: Sequence[Delivery]) -> list[int]:
        """The numbers of those that this session handed out and has not settled yet."""
        handles = [delivery.handle for delivery in deliveries]
        return [
            handle.n
            for handle in handles
            if isinstance(handle, Handle) and handle.session is self and handle.n in self._hand
        ]

    def _look(self, limit: int) -> tuple[list[int], int | None]:
        """The first due messages by number, in hand or not, and when the next of the file becomes due.

        `LockLost` when the lease is."""
        rows = self._client.read(sql.STATE, (*self.lease, self.name, limit))
        if not rows[0][0]:
            self._lose()
        self._check()
        there = [n for _, _, n in rows if n is not None]
        if limit:
            last = there[-1] if len(there) == limit else math.inf
            self._hand &= {*there, *(n for n in self._hand if n > last)}
        return there, rows[0][1]

    def _read(self, numbers: list[int]) -> list[Message]:
        rows = self._client.read(sql.MESSAGES, (self.name, numbers[0], numbers[-1]))
        found = [Message._make(row) for row in rows if row[0] not in self._hand]
        self._hand.update(message.n for message in found)
        return found

    async def _fenced(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check()
        try:
            return await self._client.write(work)
        except LockLost:
            self._lose()
            raise

    def _check(self) -> None:
        if self._lost:
            raise LockLost(self.name)

    def _lose(self) -> None:
        self._lost = True
        self._ahead.clear()
        self._client.held.discard(self.lease)

    def _delivery(self, message: Message) -> Delivery:
        parcel = Parcel(message.id, self.name, message.body)
        return Delivery(parcel, message.delivered + 1, Handle(self, message.n))
