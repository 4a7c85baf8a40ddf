"""What is the SQLite store's own; its rules are in the conformance suite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aos.kernel.address import Address
from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.errors import StoreUnavailable
from aos.kernel.ports import Batch, Blobs, Committed, Conflict, Duplicate, IndexRow, Kind, Store, Unknown, Verb, Write
from aos.sqlitefile import SqliteFile
from aos.storage import statements
from aos.storage.blobs import SqliteBlobs
from aos.storage.ranges import beyond
from aos.storage.sqlite import SqliteStore

A = Address.of("order", "1")


class Failing(SqliteFile):
    """Its COMMIT fails if told so, before or after it was carried out."""

    fails = ""
    commits = 0

    def _commit(self, conn: sqlite3.Connection) -> None:
        self.commits += 1
        if self.fails != "before":
            super()._commit(conn)
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def file(tmp_path: Path) -> Failing:
    return Failing(tmp_path / "aos.db", clock=SystemClock(), entropy=SystemEntropy())


@pytest.fixture
def store(file: Failing) -> SqliteStore:
    return SqliteStore(file)


@pytest.fixture
def blobs(file: Failing) -> SqliteBlobs:
    return SqliteBlobs(file)


@pytest.fixture
async def opened(file: Failing, store: SqliteStore, blobs: SqliteBlobs) -> AsyncIterator[Failing]:
    await file.open()
    yield file
    await file.close()


@pytest.mark.parametrize("fails", ["before", "after"])
async def test_p14_a_failed_commit_is_unknown_and_reading_back_tells(
    opened: Failing, store: Store, blobs: Blobs, fails: str
) -> None:
    opened.fails = fails
    rows = (Write(Verb.INSERT, "e0", b"record"), Write(Verb.INSERT, "j0", b"intent"))
    answer = await store.commit(A, Batch("t", None, b"head", rows))
    assert isinstance(answer, Unknown)
    assert "disk I/O error" in answer.cause
    written = fails == "after"
    assert (await store.load(A)).head == (b"head" if written else None)
    assert len(await store.read(A, Kind.RECORD)) == written
    assert isinstance(await store.journal(A, Batch("t", None, None, (Write(Verb.PUT, "j0r"),))), Unknown)
    with pytest.raises(StoreUnavailable, match="COMMIT failed"):
        await store.index_put([IndexRow("list", "key", 1, b"")])
    with pytest.raises(StoreUnavailable, match="COMMIT failed"):
        await blobs.put("name", b"data")
    opened.fails = ""
    await blobs.put("name", b"data")


async def test_p32_one_turn_s_conflict_does_not_touch_its_neighbours(opened: Failing, store: Store) -> None:
    taken = Write(Verb.INSERT, "i0", b"receipt")
    await store.commit(A, Batch("t", None, b"head", (taken,)))
    opened.commits = 0
    agents = [Address.of("order", f"n{n}") for n in range(4)]
    conflict, *neighbours, duplicate = await asyncio.gather(
        store.commit(A, Batch("t", None, b"late", (Write(Verb.PUT, "e0"),))),
        *(store.commit(agent, Batch("t", None, b"head", (taken,))) for agent in agents),
        store.commit(A, Batch("t", "1", b"again", (taken, Write(Verb.PUT, "e0")))),
    )
    assert (conflict, duplicate) == (Conflict(), Duplicate(("i0",)))
    assert neighbours == [Committed("1")] * 4
    assert opened.commits == 1, "one transaction"
    assert [row.key for row in await store.read(A, Kind.RECEIPT)] == ["i0"]
    assert await store.read(A, Kind.RECORD) == ()


async def test_a_row_twice_in_a_batch_is_a_bug(opened: Failing, store: Store) -> None:
    with pytest.raises(ValueError, match="writes rows twice: e0"):
        await store.commit(A, Batch("t", None, b"head", (Write(Verb.PUT, "e0"), Write(Verb.INSERT, "e0"))))
    assert (await store.load(A)).version is None


async def test_a_closed_store_is_unavailable_and_not_empty(store: Store, blobs: Blobs) -> None:
    attempts = (
        lambda: store.load(A),
        lambda: store.read(A, Kind.RECORD),
        lambda: store.commit(A, Batch("t", None, b"head")),
        lambda: store.index_put([IndexRow("list", "key", 1, b"")]),
        lambda: store.index_list("list"),
        store.agents,
        lambda: blobs.get("name"),
        lambda: blobs.put("name", b""),
        lambda: blobs.delete("name"),
        lambda: blobs.list(""),
    )
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match="not open"):
            await attempt()


@pytest.mark.parametrize(
    ("statement", "params"),
    {
        **{"LOAD": 1, "FIND": 1, "BODY": 2, "EXISTS": 2, "DELETE": 2, "READ": 4, "READ_DOWN": 4},
        **{"INDEX_LIST": 3, "AGENTS": 2, "BLOB_GET": 1, "BLOB_LIST": 3, "BLOB_LIST_TO": 4},
    }.items(),
)
async def test_every_statement_finds_its_rows_by_index(opened: Failing, statement: str, params: int) -> None:
    """Flat cost against history: nothing is scanned and nothing sorted."""
    plan = opened.read(f"EXPLAIN QUERY PLAN {getattr(statements, statement)}", [1] * params)
    steps = [step for *_, step in plan if not step.startswith("SCALAR SUBQUERY")]
    assert [step for step in steps if not step.startswith("SEARCH")] == []


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("a/", "a0"),
        ("\ud7ff", "\ue000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("😀", "😁"),
    ],
)
def test_the_end_of_a_prefix(prefix: str, end: str | None) -> None:
    assert beyond(prefix) == end
