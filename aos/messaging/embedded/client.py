"""What the bus and its sessions share: the file, the time, and the leases of this client."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from aos.kernel.errors import BusUnavailable, Unavailable
from aos.kernel.ports import Clock
from aos.messaging.embedded import statements as sql
from aos.messaging.embedded import table
from aos.messaging.embedded.process import new_client
from aos.messaging.embedded.table import Lease
from aos.messaging.steady import SteadyTime
from aos.messaging.waiting import Waiters
from aos.sqlitefile import Found, SqliteFile, Value

T = TypeVar("T")


class Client:
    """One holder of leases. A process may have several, each as strange to the others as another process is."""

    def __init__(self, file: SqliteFile, clock: Clock) -> None:
        self.clock: Final = clock
        self.name: Final = new_client()
        self.time: Final = SteadyTime(clock)
        self.waiters: Final = Waiters(clock)
        self.held: Final[set[Lease]] = set()
        self.unreleased: Final[set[Lease]] = set()
        """Leases that nobody uses and that may still be in the file: their release, or their claim, was cut off.
        The next claim releases them; they would never expire, because this client lives."""
        self.owner = 0
        self.until = 0
        self.gone = False
        self._file = file

    def read(self, statement: str, params: Sequence[Value] = ()) -> Found:
        self._check()
        try:
            return self._file.read(statement, params)
        except Unavailable as error:
            raise BusUnavailable(str(error)) from error

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check()
        try:
            return await self._file.write(work)
        except Unavailable as error:
            raise BusUnavailable(str(error)) from error

    def within_lease(self, lease: Lease) -> bool:
        """Certainly not lost, without a look at the file."""
        return lease.owner == self.owner and self.time.now() < self.until

    async def promote(self) -> None:
        """Make due what its time has come for, or at least much of it."""
        await self.write(lambda conn: table.promote(conn, self.clock.now()))
        self.waiters.notify()

    async def release(self, lease: Lease) -> None:
        if self.gone:
            return
        try:
            requeued = await self.write(lambda conn: table.release(conn, lease))
        except BaseException:
            self.unreleased.add(lease)
            raise
        if requeued:
            self.waiters.notify()

    def renewed(self, conn: sqlite3.Connection) -> None:
        """Prolong the leases, on the renewing thread."""
        until = self.time.now() + table.LEASE
        if conn.execute(sql.RENEW, (until, self.name)).rowcount:
            self.until = until

    def leave(self) -> None:
        """From now on this client does nothing. Who waits learns it."""
        self.gone = True
        self.held.clear()
        self.waiters.notify()

    def _check(self) -> None:
        if self.gone:
            raise BusUnavailable("this client of the bus is closed")
