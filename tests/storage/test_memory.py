"""What is the memory store's own; its rules are in the conformance suite."""

from __future__ import annotations

import asyncio

import pytest

from aos.kernel.address import Address
from aos.kernel.ports import Batch, Blobs, Committed, Kind, Row, Snapshot, Store, Verb, Write
from aos.storage import memory
from aos.storage.memory import MemoryBlobs, MemoryStore

A = Address.of("order", "1")


async def test_it_is_a_store_and_blobs() -> None:
    store: Store = MemoryStore()
    blobs: Blobs = MemoryBlobs()
    assert await store.commit(A, Batch("t", None, b"head")) == Committed("1")
    await blobs.put("name", b"data")
    assert await blobs.get("name") == b"data"


async def test_it_says_that_it_forgets() -> None:
    assert "nothing survives the process" in (memory.__doc__ or "")
    await MemoryStore().commit(A, Batch("t", None, b"head"))
    assert await MemoryStore().load(A) == Snapshot(None, None, ())


async def test_keys_stay_in_order_however_they_come_and_go() -> None:
    store = MemoryStore()
    for n in (5, 1, 9, 3, 7, 0):
        await store.commit(A, Batch("t", None, None, (Write(Verb.PUT, f"e{n}", b"%d" % n),)))
    gone = tuple(Write(Verb.DELETE, f"e{n}") for n in (1, 9, 4))
    await store.commit(A, Batch("t", None, None, (*gone, Write(Verb.PUT, "e5", b"new"))))
    wanted = (Row("e0", b"0"), Row("e3", b"3"), Row("e5", b"new"), Row("e7", b"7"))
    assert await store.read(A, Kind.RECORD) == wanted


async def test_what_was_read_does_not_change_later() -> None:
    store = MemoryStore()
    await store.commit(A, Batch("t", None, b"one", (Write(Verb.PUT, "1o0", b"one"),)))
    snapshot, rows = await store.load(A), await store.read(A, Kind.OUTBOX)
    await store.commit(A, Batch("t", "1", b"two", (Write(Verb.PUT, "1o0", b"two"), Write(Verb.PUT, "1o1"))))
    assert snapshot == Snapshot("1", b"one", (Row("1o0", b"one"),))
    assert rows == (Row("1o0", b"one"),)


async def test_many_agents_at_once() -> None:
    store = MemoryStore()
    agents = [Address.of("order", str(n)) for n in range(500)]
    await asyncio.gather(*(store.commit(agent, Batch("t", None, agent.log.encode())) for agent in agents))
    assert [(await store.load(agent)).head for agent in agents] == [agent.log.encode() for agent in agents]


async def test_a_row_twice_in_a_batch_is_a_bug() -> None:
    with pytest.raises(ValueError, match="writes rows twice: e0"):
        await MemoryStore().commit(
            A, Batch("t", None, b"head", (Write(Verb.PUT, "e0"), Write(Verb.DELETE, "e0"), Write(Verb.PUT, "e1")))
        )
