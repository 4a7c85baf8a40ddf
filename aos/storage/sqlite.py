"""The embedded default: a store in one SQLite file. Its statements are in `statements.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

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
    Unknown,
    Verb,
    Write,
)
from aos.sqlitefile import CommitUnknown, SqliteFile
from aos.storage import statements as sql
from aos.storage.ranges import bounds, check

_NO_AGENT = (None, 0)


class SqliteStore:
    """A `Store` in a `SqliteFile`. Make it before the file is opened. Versions are numbers from 1."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        file.require("store", sql.SCHEMA)

    async def load(self, agent: Address) -> Snapshot:
        found = self._file.read(sql.LOAD, (agent.log,))
        if not found:
            return Snapshot(None, None, ())
        version, head, first, _ = found[0]
        outbox = () if first is None else tuple(Row(key, body) for _, _, key, body in found)
        return Snapshot(str(version) if version else None, head, outbox)

    async def commit(self, agent: Address, batch: Batch) -> Answer:
        try:
            return await self._file.write(partial(apply, agent=agent, batch=batch))
        except CommitUnknown as error:
            return Unknown(str(error))

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
        low, high = bounds(kind, first, last)
        found = self._file.read(sql.READ_DOWN if reverse else sql.READ, (agent.log, low, high, limit))
        return tuple(Row(key, body) for key, body in found)

    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        if rows:
            await self._file.write(partial(put_index, rows=rows))

    async def index_list(self, partition: str, after: str = "", *, limit: int = 100) -> tuple[IndexRow, ...]:
        found = self._file.read(sql.INDEX_LIST, (partition, after, limit))
        return tuple(IndexRow(*row) for row in found)

    async def agents(self, after: str = "", *, limit: int = 1000) -> tuple[Address, ...]:
        found = self._file.read(sql.AGENTS, (after, limit))
        return tuple(Address(*log.split("/")) for (log,) in found)


def apply(conn: sqlite3.Connection, agent: Address, batch: Batch) -> Answer:
    """`Store.commit` inside a transaction. Answers other than Committed have written nothing."""
    check(batch.writes)
    row, version = conn.execute(sql.FIND, (agent.log,)).fetchone() or _NO_AGENT
    if batch.head is not None and batch.expected != (str(version) if version else None):
        return Conflict()
    refusal = _refusal(conn, row, batch.writes)
    if refusal is not None:
        return refusal
    row = _head(conn, agent, batch, row, version)
    for verb, key, body in batch.writes:
        if verb is Verb.DELETE:
            conn.execute(sql.DELETE, (row, key))
        elif verb is not Verb.EXPECT:
            conn.execute(sql.INSERT if verb is Verb.INSERT else sql.PUT, (row, key, body))
    return Committed(None if batch.head is None else str(version + 1))


def put_index(conn: sqlite3.Connection, rows: Sequence[IndexRow]) -> None:
    """`Store.index_put` inside a transaction."""
    conn.executemany(sql.INDEX_PUT, rows)


def _refusal(conn: sqlite3.Connection, row: int | None, writes: Sequence[Write]) -> Conflict | Duplicate | None:
    """What keeps the batch from being written. A Conflict takes precedence, so every row is looked at."""
    taken: list[str] = []
    for verb, key, body in writes:
        if verb is Verb.INSERT:
            if conn.execute(sql.EXISTS, (row, key)).fetchone():
                taken.append(key)
        elif verb is Verb.EXPECT and conn.execute(sql.BODY, (row, key)).fetchone() != (body,):
            return Conflict()
    return Duplicate(tuple(taken)) if taken else None


def _head(conn: sqlite3.Connection, agent: Address, batch: Batch, row: int | None, version: int) -> int:
    """Write the head if the batch has one. Returns the agent's row, which is made if need be."""
    if row is None:
        created = conn.execute(sql.CREATE, (agent.log, 0 if batch.head is None else 1, batch.head)).lastrowid
        assert created is not None
        return created
    if batch.head is not None:
        conn.execute(sql.ADVANCE, (version + 1, batch.head, row))
    return row
