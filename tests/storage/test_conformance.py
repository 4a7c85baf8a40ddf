"""Memory and SQLite pass the suite, and the suite notices what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aos.kernel.address import Address
from aos.kernel.ports import Answer, Batch, Committed, Duplicate, IndexRow, Kind, Row, Snapshot, Verb, Write
from aos.storage.conformance import CHECKS, Check, Factory, check_store
from aos.storage.memory import MemoryBlobs, MemoryStore
from tests.storage.places import MemoryFactory, SqliteFactory


@pytest.fixture(params=["memory", "sqlite"])
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    return MemoryFactory() if request.param == "memory" else SqliteFactory(tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_conforms(check: Check, factory: Factory) -> None:
    await check(factory)


async def test_the_whole_suite_is_one_call() -> None:
    await check_store(MemoryFactory())


class WithoutVersions(MemoryStore):
    async def commit(self, agent: Address, batch: Batch) -> Answer:
        return await super().commit(agent, replace(batch, expected=(await self.load(agent)).version))


class WithoutExpect(MemoryStore):
    async def commit(self, agent: Address, batch: Batch) -> Answer:
        writes = tuple(write for write in batch.writes if write.verb is not Verb.EXPECT)
        return await super().commit(agent, replace(batch, writes=writes))


class WithoutInsert(MemoryStore):
    async def commit(self, agent: Address, batch: Batch) -> Answer:
        writes = tuple(Write(Verb.PUT, w.key, w.body) if w.verb is Verb.INSERT else w for w in batch.writes)
        return await super().commit(agent, replace(batch, writes=writes))


class OneDuplicateIsEnough(MemoryStore):
    async def commit(self, agent: Address, batch: Batch) -> Answer:
        answer = await super().commit(agent, batch)
        return Duplicate(answer.keys[:1]) if isinstance(answer, Duplicate) else answer


class HalfWritten(MemoryStore):
    async def commit(self, agent: Address, batch: Batch) -> Answer:
        answer = await super().commit(agent, batch)
        if not isinstance(answer, Committed):
            puts = tuple(write for write in batch.writes if write.verb is Verb.PUT)
            await super().commit(agent, Batch("t", None, None, puts))
        return answer


class WrongVersion(MemoryStore):
    async def commit(self, agent: Address, batch: Batch) -> Answer:
        answer = await super().commit(agent, batch)
        return Committed("1") if isinstance(answer, Committed) and batch.head is not None else answer


class Unordered(MemoryStore):
    async def load(self, agent: Address) -> Snapshot:
        version, head, outbox = await super().load(agent)
        return Snapshot(version, head, outbox[::-1])


class ClosedRange(MemoryStore):
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
        last = None if last is None else last + "\0"
        return await super().read(agent, kind, first, last, limit=limit, reverse=reverse)


class LimitBeforeReverse(MemoryStore):
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
        rows = await super().read(agent, kind, first, last, limit=limit)
        return rows[::-1] if reverse else rows


class LastWriterWins(MemoryStore):
    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        for partition, key, sequence, body in rows:
            self._lists[partition][key] = IndexRow(partition, key, sequence, body)


class SameSequenceWins(MemoryStore):
    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        for row in rows:
            stored = self._lists[row.partition].get(row.key)
            if stored is not None and stored.sequence == row.sequence:
                del self._lists[row.partition][row.key]
            await super().index_put([row])


class HeadlessAgents(MemoryStore):
    async def agents(self, after: str = "", *, limit: int = 1000) -> tuple[Address, ...]:
        return tuple(sorted(agent for agent in self._partitions if agent.log > after))[:limit]


WRONG = [
    WithoutVersions,
    WithoutExpect,
    WithoutInsert,
    OneDuplicateIsEnough,
    HalfWritten,
    WrongVersion,
    Unordered,
    ClosedRange,
    LimitBeforeReverse,
    LastWriterWins,
    SameSequenceWins,
    HeadlessAgents,
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_the_suite_notices(wrong: type[MemoryStore]) -> None:
    class Wrong(MemoryFactory):
        async def open(self) -> tuple[MemoryStore, MemoryBlobs]:
            return wrong(), MemoryBlobs()

    with pytest.raises(AssertionError, match=r": found .*, wanted "):
        await check_store(Wrong())


class Overwriting(MemoryBlobs):
    async def put(self, name: str, data: bytes) -> None:
        self._data[name] = data


class Forgetting(MemoryFactory):
    """Says it is durable and is not."""

    durable = True

    async def reopen(self) -> tuple[MemoryStore, MemoryBlobs]:
        return MemoryStore(), MemoryBlobs()


class OverwritingFactory(MemoryFactory):
    async def open(self) -> tuple[MemoryStore, MemoryBlobs]:
        return MemoryStore(), Overwriting()


@pytest.mark.parametrize("wrong", [Forgetting, OverwritingFactory])
async def test_the_suite_notices_wrong_blobs_and_loss(wrong: type[MemoryFactory]) -> None:
    with pytest.raises(AssertionError, match="found"):
        await check_store(wrong())
