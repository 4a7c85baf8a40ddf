"""A store in this process's memory, for tests and for trying things out.

It keeps every rule of the ports but one: **nothing survives the process.** What it answered `Committed` is lost at
exit, at a crash, at the end of the object. It is quick for thousands of rows, not for millions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence

from aos.kernel.address import Address
from aos.kernel.ports import (
    Answer,
    Batch,
    Committed,
    Conflict,
    Duplicate,
    IndexRow,
    Kind,
    Row,
    Snapshot,
    Verb,
    Version,
    Write,
)
from aos.storage.ranges import bounds, check


class MemoryStore:
    """A `Store` that forgets everything at exit. For one event loop."""

    def __init__(self) -> None:
        self._partitions: dict[Address, _Partition] = {}
        self._lists: defaultdict[str, dict[str, IndexRow]] = defaultdict(dict)

    async def load(self, agent: Address) -> Snapshot:
        partition = self._partitions.get(agent)
        if partition is None:
            return Snapshot(None, None, ())
        return Snapshot(partition.version, partition.head, partition.between(*bounds(Kind.OUTBOX, "", None)))

    async def commit(self, agent: Address, batch: Batch) -> Answer:
        check(batch.writes)
        partition = self._partitions.get(agent) or _Partition()
        refusal = partition.refusal(batch)
        if refusal is not None:
            return refusal
        self._partitions[agent] = partition
        return partition.apply(batch)

    async def journal(self, agent: Address, batch: Batch) -> Answer:
        return await self.commit(agent, batch)

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
        partition = self._partitions.get(agent)
        if partition is None:
            return ()
        rows = partition.between(*bounds(kind, first, last))
        return (rows[::-1] if reverse else rows)[:limit]

    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        for row in rows:
            stored = self._lists[row.partition].get(row.key)
            if stored is None or row.sequence > stored.sequence:
                self._lists[row.partition][row.key] = row

    async def index_list(self, partition: str, after: str = "", *, limit: int = 100) -> tuple[IndexRow, ...]:
        rows = self._lists.get(partition, {})
        shown = (rows[key] for key in sorted(rows) if key > after)
        return tuple(row for row in shown if row.body is not None)[:limit]

    async def agents(self, after: str = "", *, limit: int = 1000) -> tuple[Address, ...]:
        found = (agent for agent, partition in self._partitions.items() if partition.version is not None)
        return tuple(sorted((agent for agent in found if agent.log > after), key=_log)[:limit])


class MemoryBlobs:
    """`Blobs` that forget everything at exit."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    async def put(self, name: str, data: bytes) -> None:
        if self._data.setdefault(name, data) != data:
            raise ValueError(f"blob {name!r} holds other bytes already")

    async def get(self, name: str) -> bytes | None:
        return self._data.get(name)

    async def delete(self, name: str) -> None:
        self._data.pop(name, None)

    async def list(self, prefix: str, after: str = "", *, limit: int = 1000) -> tuple[str, ...]:
        names = sorted(self._data)
        found = (name for name in names[bisect_right(names, after) :] if name.startswith(prefix))
        return tuple(found)[:limit]


class _Partition:
    """The rows of one agent, their keys in order beside them."""

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.version: Version | None = None
        self._bodies: dict[str, bytes] = {}
        self._keys: list[str] = []

    def between(self, low: str, high: str) -> tuple[Row, ...]:
        keys = self._keys[bisect_left(self._keys, low) : bisect_left(self._keys, high)]
        return tuple(Row(key, self._bodies[key]) for key in keys)

    def refusal(self, batch: Batch) -> Conflict | Duplicate | None:
        """What keeps the batch from being written: a Conflict before a Duplicate."""
        if batch.head is not None and batch.expected != self.version:
            return Conflict()
        expected = (write for write in batch.writes if write.verb is Verb.EXPECT)
        if any(self._bodies.get(key) != body for _, key, body in expected):
            return Conflict()
        inserted = (write.key for write in batch.writes if write.verb is Verb.INSERT)
        taken = tuple(key for key in inserted if key in self._bodies)
        return Duplicate(taken) if taken else None

    def apply(self, batch: Batch) -> Committed:
        """Write the batch, which nothing keeps from being written."""
        for write in batch.writes:
            self._write(write)
        if batch.head is None:
            return Committed(None)
        self.head = batch.head
        self.version = str(int(self.version or 0) + 1)
        return Committed(self.version)

    def _write(self, write: Write) -> None:
        verb, key, body = write
        if verb is Verb.DELETE:
            if self._bodies.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        elif verb is not Verb.EXPECT:
            if key not in self._bodies:
                insort(self._keys, key)
            self._bodies[key] = body


def _log(agent: Address) -> str:
    return agent.log
