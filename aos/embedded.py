"""The embedded default: store, blobs and bus in one SQLite file, with nothing installed but Python."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from aos.kernel.address import Address
from aos.kernel.ports import Answer, Batch, Clock, Committed, Delivery, Entropy, IndexRow, Parcel, Unknown
from aos.messaging.embedded import EmbeddedBus
from aos.sqlitefile import CommitUnknown, SqliteFile
from aos.storage.blobs import SqliteBlobs
from aos.storage.sqlite import SqliteStore, apply, put_index


class Embedded:
    """`store`, `blobs` and `bus` on one file; a `Settler`, because they share its transactions.

    `renew_every` is the bus's: seconds of real time between renewals of its leases, None where time is moved by hand.
    """

    def __init__(self, path: Path | str, *, clock: Clock, entropy: Entropy, renew_every: float | None = 3.0) -> None:
        self.file = SqliteFile(path, clock=clock, entropy=entropy)
        self.store = SqliteStore(self.file)
        self.blobs = SqliteBlobs(self.file)
        self.bus = EmbeddedBus(self.file, clock=clock, entropy=entropy, renew_every=renew_every)

    async def open(self) -> None:
        """`StoreUnavailable` names the file and how to mend it."""
        await self.file.open()

    async def close(self) -> None:
        """Give up the leases, finish what is being written, close the file. Closing twice is fine."""
        try:
            await self.bus.close()
        finally:
            await self.file.close()

    async def settle(
        self,
        agent: Address,
        batch: Batch,
        parcels: Sequence[Parcel],
        index: Sequence[IndexRow],
        done: Sequence[Delivery],
    ) -> Answer:
        def work(conn: sqlite3.Connection) -> Answer:
            answer = apply(conn, agent, batch)
            if isinstance(answer, Committed):
                put_index(conn, index)
                if parcels:
                    self.bus.put(conn, parcels)
                if done:
                    self.bus.finish(conn, done)
            return answer

        try:
            answer = await self.file.write(work)
        except CommitUnknown as error:
            answer = Unknown(str(error))
        if parcels:
            self.bus.notify()
        return answer
