"""The embedded bus."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Sequence
from typing import Final

from aos.kernel.errors import BusUnavailable
from aos.kernel.ports import Clock, Delivery, Entropy, Parcel
from aos.messaging.embedded import statements as sql
from aos.messaging.embedded import table
from aos.messaging.embedded.client import Client
from aos.messaging.embedded.process import declare_dead, is_dead
from aos.messaging.embedded.renewal import Renewal
from aos.messaging.embedded.session import EmbeddedSession, Handle
from aos.messaging.embedded.table import Grant, Lease
from aos.sqlitefile import SqliteFile

POLL_FIRST: Final = 0.02
POLL_LAST: Final = 0.1
"""Seconds between looks for what other processes sent. What this one sends wakes its waiters at once."""

MAX_TIME: Final = 2**62

CENSUS: Final = 0.5
"""Seconds between looks at whether the other holders live, while there is other work."""


class EmbeddedBus:
    """Messages in the store's own SQLite file (`aos.kernel.ports.Bus`).

    Make it before the file is opened, close it before the file is closed. A thread renews the leases every
    `renew_every` seconds of real time while there are any; with None only `Session.renew` does, which is what a clock
    that is moved by hand needs.

    `put`, `finish` and `notify` are for a transaction that is shared with the store (`aos.kernel.ports.Settler`).
    """

    def __init__(self, file: SqliteFile, *, clock: Clock, entropy: Entropy, renew_every: float | None = 3.0) -> None:
        _declare(file)
        self._client = Client(file, clock)
        self._path = file.path
        self._entropy = entropy
        self._renew_every = renew_every
        self._renewal: Renewal | None = None
        self._fences = itertools.count(1)
        self._next_census = 0.0
        self._next_due: int | None = None

    async def send(self, parcels: Sequence[Parcel]) -> None:
        await self._client.write(lambda conn: self.put(conn, parcels))
        self.notify()

    async def accept(self, limit: int, *, wait: float = 0.0) -> Sequence[EmbeddedSession]:
        clock, waiters = self._client.clock, self._client.waiters
        deadline = clock.monotonic() + wait
        pause = POLL_FIRST
        with waiters.enrolled() as told:
            while True:
                told.clear()
                if sessions := await self._claim(limit):
                    return sessions
                left = deadline - clock.monotonic()
                if left <= 0:
                    return []
                await waiters.pause(told, min(left, self._until_due(), pause * (1 + self._entropy.bytes(1)[0] / 255)))
                pause = min(pause * 1.5, POLL_LAST / 2)

    async def depth(self, due: int | None = None) -> int:
        ((count,),) = self._client.read(sql.DEPTH, (MAX_TIME if due is None else due,))
        return count

    async def close(self) -> None:
        """Release everything at once and stop the thread. Closing twice is fine."""
        if self._client.gone:
            return
        client = self._client
        try:
            await client.write(lambda conn: table.leave(conn, client.name))
        except BaseException as error:
            declare_dead(client.name)  # the leases are still in the file: let others of this process take them
            if not isinstance(error, BusUnavailable):
                raise
        finally:
            self._stop()

    def die(self) -> None:
        """Go as by kill -9, for tests: nothing is released. Other clients, of this process too, notice at once."""
        declare_dead(self._client.name)
        self._stop()

    # ----------------------------------------------------------------- in a transaction shared with the store

    def put(self, conn: sqlite3.Connection, parcels: Sequence[Parcel]) -> None:
        """Send within the caller's transaction. Call `notify` when it is committed."""
        table.put(conn, parcels, self._client.clock.now())

    def finish(self, conn: sqlite3.Connection, deliveries: Sequence[Delivery]) -> None:
        """Complete within the caller's transaction. A delivery whose session was lost is left alone."""
        handles = [delivery.handle for delivery in deliveries]
        for session in {handle.session for handle in handles if isinstance(handle, Handle)}:
            if table.holds(conn, session.lease):
                table.delete(conn, session.in_hand(deliveries))

    def notify(self) -> None:
        """Something was sent: whoever waits in `accept` looks again now."""
        self._client.waiters.notify()

    # -------------------------------------------------------------------------------------------- claiming

    async def _claim(self, limit: int) -> list[EmbeddedSession]:
        """Look with a read, and write only if there is something (P32)."""
        dead = self._look()
        if dead is None:
            return []
        client = self._client
        late = set(client.unreleased)
        leases: list[Lease] = []
        wanted = True

        def work(conn: sqlite3.Connection) -> tuple[int, int, list[Grant]]:
            leases.clear()
            if not wanted:
                return 0, 0, []
            table.take_over(conn, dead, client.time.now())
            for lease in late:
                table.release(conn, lease)
            table.promote(conn, client.clock.now())
            names = table.free_sessions(conn, limit)
            if not names:
                return 0, 0, []
            owner, until = table.register(conn, client.name, client.time.now())
            leases.extend(Lease(name, owner, next(self._fences)) for name in names)
            return owner, until, [table.grant(conn, lease) for lease in leases]

        try:
            owner, until, grants = await client.write(work)
        except BaseException:
            # Cancelled, or nobody knows whether it was committed. If it was, nothing else would ever release them.
            wanted = False
            client.unreleased.update(leases)
            raise
        client.unreleased.difference_update(late)
        return self._sessions(owner, until, grants)

    def _sessions(self, owner: int, until: int, grants: list[Grant]) -> list[EmbeddedSession]:
        if not grants:
            return []
        client = self._client
        client.owner, client.until = owner, until
        client.held.update(grant.lease for grant in grants)
        if self._renewal is None and self._renew_every is not None and not client.gone:
            self._renewal = Renewal(
                self._path, every=self._renew_every, needed=lambda: bool(client.held), renew=client.renewed
            )
            self._renewal.start()
        return [EmbeddedSession(client, grant) for grant in grants]

    def _look(self) -> list[int] | None:
        """None if a claim would find nothing; otherwise the owners that are known to be dead."""
        client = self._client
        ((ready, due, first_end, last_end, others),) = client.read(sql.LOOK, (client.owner,))
        if last_end is not None:
            client.time.reach(last_end - table.LEASE)
        dead = self._census(busy=bool(ready)) if others else []
        self._next_due = due
        overdue = due is not None and due <= client.clock.now()
        expired = first_end is not None and first_end <= client.time.now()
        return dead if ready or overdue or expired or dead or client.unreleased else None

    def _until_due(self) -> float:
        """Seconds until the next message is due, as far as the last look told."""
        return math.inf if self._next_due is None else max(0, self._next_due - self._client.clock.now()) / 1000

    def _census(self, *, busy: bool) -> list[int]:
        """The owners that are dead: looked for whenever there is nothing else to do, and now and then if there is."""
        now = self._client.clock.monotonic()
        if busy and now < self._next_census:
            return []
        self._next_census = now + CENSUS
        return [owner for owner, process in self._client.read(sql.OWNERS) if is_dead(process)]

    def _stop(self) -> None:
        self._client.leave()
        if self._renewal is not None:
            self._renewal.stop()
            self._renewal = None


def _declare(file: SqliteFile) -> None:
    """Ask for the tables. A further client of a file that is open finds them there."""
    try:
        file.require("bus", sql.TABLES, version=sql.VERSION)
    except RuntimeError:
        if not file.read("SELECT 1 FROM meta WHERE name = 'bus' AND version = ?", (sql.VERSION,)):
            raise
