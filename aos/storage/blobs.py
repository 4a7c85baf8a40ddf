"""Blobs of the embedded default: in the same SQLite file, so that one file is the whole system to copy or back up."""

from __future__ import annotations

import sqlite3

from aos.sqlitefile import SqliteFile
from aos.storage import statements as sql
from aos.storage.ranges import beyond


class SqliteBlobs:
    """`Blobs` in a `SqliteFile`. Make it before the file is opened. One blob is at most SQLite's 1 GB."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        file.require("blobs", sql.BLOBS_SCHEMA)

    async def put(self, name: str, data: bytes) -> None:
        def work(conn: sqlite3.Connection) -> None:
            found = conn.execute(sql.BLOB_GET, (name,)).fetchone()
            if found is None:
                conn.execute(sql.BLOB_PUT, (name, data))
            elif found[0] != data:
                raise ValueError(f"blob {name!r} holds other bytes already")

        await self._file.write(work)

    async def get(self, name: str) -> bytes | None:
        found = self._file.read(sql.BLOB_GET, (name,))
        return found[0][0] if found else None

    async def delete(self, name: str) -> None:
        def work(conn: sqlite3.Connection) -> None:
            conn.execute(sql.BLOB_DELETE, (name,))

        await self._file.write(work)

    async def list(self, prefix: str, after: str = "", *, limit: int = 1000) -> tuple[str, ...]:
        end = beyond(prefix)
        if end is None:
            found = self._file.read(sql.BLOB_LIST, (prefix, after, limit))
        else:
            found = self._file.read(sql.BLOB_LIST_TO, (prefix, after, end, limit))
        return tuple(name for (name,) in found)
