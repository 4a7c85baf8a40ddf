"""One agent's partition, read and written: the store's bytes as the kernel's data, unknown outcomes resolved (P14)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aos.kernel import backlog, deadletter, head, journal, layout, ledger
from aos.kernel.address import Address
from aos.kernel.deadletter import DeadLetter
from aos.kernel.errors import StoreUnavailable
from aos.kernel.head import Head
from aos.kernel.journal import Journal
from aos.kernel.message import Message
from aos.kernel.ports import (
    Answer,
    Batch,
    Blobs,
    Committed,
    Conflict,
    Kind,
    Row,
    Snapshot,
    Store,
    Unknown,
    Verb,
    Version,
    Write,
)
from aos.kernel.receipt import Receipt

UNKNOWN_TRIES = 5


class Loaded(NamedTuple):
    """What a turn begins with."""

    version: Version | None
    head: Head | None
    outbox: tuple[Row, ...]


class Partitions:
    """The kernel's only reader and writer of rows."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self.store = store
        self.blobs = blobs

    async def load(self, agent: Address) -> Loaded:
        """Where a turn begins. The blob of a large state may be replaced while it is read: then it is read again."""
        for _ in range(UNKNOWN_TRIES):
            snapshot = await self.store.load(agent)
            if snapshot.head is None:
                return Loaded(None, None, snapshot.outbox)
            name = head.blob_of(snapshot.head) if len(snapshot.head) < _BLOB_HEAD else None
            blob = await self.blobs.get(name) if name else None
            if name is None or blob is not None:
                return Loaded(snapshot.version, head.decode(snapshot.head, blob), snapshot.outbox)
        raise StoreUnavailable(f"{agent}: the blob of its state is missing")

    async def receipt(self, agent: Address, key: str) -> Receipt | None:
        body = await self._one(agent, Kind.RECEIPT, key)
        return None if body is None else Receipt.decode(body)

    async def journal(self, agent: Address, key: str) -> Journal | None:
        rows = await self.store.read(agent, Kind.JOURNAL, f"{key}|", f"{key}}}")
        return journal.load(await self._whole(rows), key)

    async def backlog(self, agent: Address, first: int) -> list[tuple[int, Message, Receipt]]:
        rows = await self.store.read(agent, Kind.BACKLOG, layout.number(first), limit=backlog.ROWS)
        return [(int(row.key[1:]), *backlog.decode(row.body)) for row in await self._whole(rows)]

    async def dead_letter(self, agent: Address, key: str) -> DeadLetter | None:
        body = await self._one(agent, Kind.DEAD_LETTER, key)
        return None if body is None else deadletter.DeadLetter.decode(body)

    async def dead_letters(self, agent: Address, after: str = "", *, limit: int = 100) -> list[DeadLetter]:
        rows = await self.store.read(agent, Kind.DEAD_LETTER, after, limit=limit)
        return [deadletter.DeadLetter.decode(row.body) for row in await self._whole(rows)]

    async def record(self, agent: Address, seq: int) -> tuple[bytes, list[ledger.Payload]] | None:
        body = await self._one(agent, Kind.RECORD, layout.number(seq))
        return None if body is None else ledger.unpack(body)

    async def rows(
        self,
        agent: Address,
        kind: Kind,
        first: str = "",
        last: str | None = None,
        *,
        limit: int = 1000,
        reverse: bool = False,
    ) -> list[Row]:
        return await self._whole(await self.store.read(agent, kind, first, last, limit=limit, reverse=reverse))

    async def reply(self, agent: Address, receipt: Receipt) -> bytes | None:
        """The reply that a receipt refers to; None where it was erased."""
        if receipt.reply is None:
            return None
        found = await self.record(agent, receipt.seq)
        if found is None:
            raise StoreUnavailable(f"{agent}: record {receipt.seq}, which a receipt refers to, is missing")
        return found[1][receipt.reply].data

    async def whole(self, row: Row) -> Row:
        return (await self._whole([row]))[0]

    async def commit(self, agent: Address, batch: Batch, blobs: Iterable[tuple[str, bytes]], seq: int) -> Answer:
        """Commit a turn; never Unknown: its own record at `seq` decides."""
        for name, data in blobs:
            await self.blobs.put(name, data)
        answer = await self.store.commit(agent, batch)
        return await self.resolve(agent, batch, seq, answer)

    async def resolve(self, agent: Address, batch: Batch, seq: int, answer: Answer) -> Answer:
        """What became of a commit whose outcome the store does not know."""
        if not isinstance(answer, Unknown):
            return answer
        now = await self._look(agent)
        if now.head == batch.head:
            return Committed(now.version)
        found = await self.record(agent, seq)
        if found is not None and f'"turn":"{batch.turn}"'.encode() in found[0]:
            return Committed(None)  # committed, and others went on since; the caller reads again
        return Conflict()

    async def journal_write(self, agent: Address, batch: Batch, own: Row) -> Answer:
        """Write journal rows; never Unknown: the row `own` decides, it carries the turn's id."""
        answer = await self.store.journal(agent, batch)
        if not isinstance(answer, Unknown):
            return answer
        now = await self._look(agent)
        rows = await self.store.read(agent, Kind(own.key[0]), own.key[1:], limit=1)
        if not rows or rows[0] != own:
            return Conflict()
        # Written; but if somebody has gone on since, the head is not ours to build on.
        return Committed(now.version if batch.head in (None, now.head) else None)

    async def spill(self, agent: Address, turn: str, writes: Sequence[Write], limit: int) -> list[Write]:
        """Journal writes, with bodies that are too big for a row put into blobs of the turn."""
        kept: list[Write] = []
        for write in writes:
            if len(write.body) > limit:
                name = f"{agent.log}/{turn}/{layout.journal_blob(write.key)}"
                await self.blobs.put(name, write.body)
                kept.append(Write(write.verb, write.key, b"@" + name.encode()))
            else:
                kept.append(write)
        return kept

    async def forget(self, agent: Address, keys: Sequence[str], turn: str) -> None:
        """Delete delivered outbox rows at once (P16). If the outcome is unknown they are delivered again: no harm."""
        await self.store.journal(agent, Batch(turn, None, None, tuple(Write(Verb.DELETE, key) for key in keys)))

    async def _look(self, agent: Address) -> Snapshot:
        """The partition after an unknown outcome. That it can't be read either is not "not committed"."""
        for _ in range(UNKNOWN_TRIES - 1):
            try:
                return await self.store.load(agent)
            except StoreUnavailable:
                continue
        return await self.store.load(agent)

    async def _one(self, agent: Address, kind: Kind, suffix: str) -> bytes | None:
        rows = await self.store.read(agent, kind, suffix, suffix + "\0", limit=1)
        return (await self._whole(rows))[0].body if rows else None

    async def _whole(self, rows: Sequence[Row]) -> list[Row]:
        """Rows with the bodies that were too big for them."""
        return [Row(row.key, await self._blob(row.body[1:].decode())) if row.body[:1] == b"@" else row for row in rows]

    async def _blob(self, name: str) -> bytes:
        data = await self.blobs.get(name)
        if data is None:
            raise StoreUnavailable(f"the blob {name}, which a row refers to, is missing")
        return data


_BLOB_HEAD = 20_000
"""A head whose state lies in a blob is short: longer ones need no look for the blob's name."""
