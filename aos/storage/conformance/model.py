"""A store beside a model of it: every step goes to both, and afterwards both hold the same.

The model is dictionaries and `sorted`, so that there is nothing in it to get wrong. What drives it (Hypothesis, or
plain random numbers) is the caller's choice; it picks versions by name, because versions are opaque.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum

from aos.kernel.address import Address
from aos.kernel.ports import (
    Answer,
    Batch,
    Blobs,
    Committed,
    Conflict,
    Duplicate,
    IndexRow,
    Kind,
    Row,
    Snapshot,
    Store,
    Unknown,
    Verb,
    Version,
    Write,
)
from aos.storage.conformance.place import Factory, same


class Pick(StrEnum):
    """Which version a generated batch expects."""

    CURRENT = "current"
    NULL = "null"
    STALE = "stale"
    FOREIGN = "foreign"


class Fate(StrEnum):
    """What becomes of a generated batch's answer."""

    ANSWERED = "answered"
    LOST_AFTER = "lost after it was carried out"
    LOST_BEFORE = "lost before it was carried out"


class Forgetful:
    """A store whose answers get lost: `Unknown`, whether the batch was carried out or not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def commit(self, agent: Address, batch: Batch, fate: Fate) -> Answer:
        if fate is Fate.LOST_BEFORE:
            return Unknown(fate)
        answer = await self._store.commit(agent, batch)
        return answer if fate is Fate.ANSWERED else Unknown(fate)


@dataclass
class Partition:
    """What the model knows of one agent."""

    version: Version | None = None
    head: bytes | None = None
    rows: dict[str, bytes] = field(default_factory=dict[str, bytes])
    past: list[Version] = field(default_factory=list[Version])

    def answer(self, batch: Batch) -> type[Committed] | Conflict | Duplicate:
        """What a store has to answer."""
        if batch.head is not None and batch.expected != self.version:
            return Conflict()
        expected = [write for write in batch.writes if write.verb is Verb.EXPECT]
        if [write for write in expected if self.rows.get(write.key) != write.body]:
            return Conflict()
        inserted = [write.key for write in batch.writes if write.verb is Verb.INSERT]
        taken = [key for key in inserted if key in self.rows]
        return Duplicate(tuple(taken)) if taken else Committed

    def after(self, batch: Batch) -> Partition:
        """What there is once the batch is carried out. The version is the store's to choose."""
        after = deepcopy(self)
        if after.answer(batch) is not Committed:
            return after
        for verb, key, body in batch.writes:
            if verb in (Verb.INSERT, Verb.PUT):
                after.rows[key] = body
            elif verb is Verb.DELETE:
                after.rows.pop(key, None)
        if batch.head is not None:
            after.head = batch.head
        return after


class Comparison:
    """A store and the model, side by side. `AssertionError` where they differ."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self._partitions: dict[Address, Partition] = {}
        self._lists: dict[tuple[str, str], IndexRow] = {}
        self._data: dict[str, bytes] = {}
        self._turns = 0
        self._store: Store
        self._blobs: Blobs

    async def open(self) -> None:
        self._store, self._blobs = await self.factory.open()

    async def crash(self) -> None:
        """Kill and reopen, where the store is one that survives it."""
        if self.factory.durable:
            self._store, self._blobs = await self.factory.reopen()

    async def commit(
        self, agent: Address, pick: Pick, writes: Sequence[Write], *, head: bool = True, fate: Fate = Fate.ANSWERED
    ) -> None:
        """A batch. Its head, if it has one, is no other batch's."""
        self._turns += 1
        body = b"head of turn %d" % self._turns if head else None
        before = self._partitions.setdefault(agent, Partition())
        batch = Batch(str(self._turns), self._picked(before, pick), body, tuple(writes))
        wanted, after = before.answer(batch), before.after(batch)
        answer = await Forgetful(self._store).commit(agent, batch, fate)
        if isinstance(answer, Unknown):
            await self._resolve(agent, before, after)
        elif isinstance(answer, Committed):
            same(wanted, Committed, f"the answer to {batch}")
            self._settle(agent, after, answer.version if head else before.version)
        else:
            same(answer, wanted, f"the answer to {batch}")

    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        await self._store.index_put(rows)
        for row in rows:
            stored = self._lists.get((row.partition, row.key))
            if stored is None or stored.sequence < row.sequence:
                self._lists[row.partition, row.key] = row

    async def blob_put(self, name: str, data: bytes) -> None:
        taken = self._data.setdefault(name, data) != data
        try:
            await self._blobs.put(name, data)
        except ValueError:
            same(taken, True, f"blob {name!r} is free or holds these bytes")
        else:
            same(taken, False, f"blob {name!r} holds other bytes")

    async def blob_delete(self, name: str) -> None:
        await self._blobs.delete(name)
        self._data.pop(name, None)

    async def read(
        self, agent: Address, kind: Kind, first: str, last: str | None, limit: int, *, reverse: bool
    ) -> None:
        """Both answer the same to the same question."""
        rows = self._partitions.get(agent, Partition()).rows
        suffixes = {key.removeprefix(kind): key for key in rows if key.startswith(kind)}
        chosen = sorted((s for s in suffixes if s >= first and (last is None or s < last)), reverse=reverse)
        wanted = tuple(Row(suffixes[s], rows[suffixes[s]]) for s in chosen)[:limit]
        found = await self._store.read(agent, kind, first, last, limit=limit, reverse=reverse)
        same(found, wanted, f"read {agent} {kind.name} [{first!r}, {last!r}) limit {limit} reverse {reverse}")

    async def compare(self) -> None:
        """Everything there is, in both."""
        for agent, partition in self._partitions.items():
            outbox = tuple(row for row in _rows(partition) if row.key.startswith(Kind.OUTBOX))
            wanted = Snapshot(partition.version, partition.head, outbox)
            same(await self._store.load(agent), wanted, f"load {agent}")
            same(await self._rows_of(agent), _rows(partition), f"the rows of {agent}")
        with_head = [agent for agent, partition in self._partitions.items() if partition.version is not None]
        same(await self._store.agents(), tuple(sorted(with_head, key=lambda agent: agent.log)), "agents")
        for name in {partition for partition, _ in self._lists}:
            shown = [row for row in self._lists.values() if row.partition == name and row.body is not None]
            wanted = tuple(sorted(shown, key=lambda row: row.key))
            same(await self._store.index_list(name), wanted, f"list {name!r}")
        same(await self._blobs.list(""), tuple(sorted(self._data)), "blobs")
        for name, data in self._data.items():
            same(await self._blobs.get(name), data, f"blob {name!r}")

    def _picked(self, partition: Partition, pick: Pick) -> Version | None:
        match pick:
            case Pick.CURRENT:
                return partition.version
            case Pick.NULL:
                return None
            case Pick.STALE:
                return partition.past[-1] if partition.past else "never was"
            case Pick.FOREIGN:
                return "another store's"

    def _settle(self, agent: Address, after: Partition, version: Version | None) -> None:
        known = [*after.past, after.version]
        if version != after.version:
            same(version is not None and version not in known, True, f"{agent} gets a version it never had")
            after.past = [past for past in known if past is not None]
        after.version = version
        self._partitions[agent] = after

    async def _resolve(self, agent: Address, before: Partition, after: Partition) -> None:
        """Read back what became of a batch (P14): it is there whole or not at all."""
        snapshot = await self._store.load(agent)
        found = (snapshot.head, await self._rows_of(agent))
        if found == (after.head, _rows(after)):
            self._settle(agent, after, snapshot.version)
        else:
            same(found, (before.head, _rows(before)), "an Unknown batch is written whole or not at all")
            same(snapshot.version, before.version, "the version of a head that did not change")

    async def _rows_of(self, agent: Address) -> tuple[Row, ...]:
        return tuple([row for kind in sorted(Kind) for row in await self._store.read(agent, kind)])


def _rows(partition: Partition) -> tuple[Row, ...]:
    return tuple(Row(key, body) for key, body in sorted(partition.rows.items()))
