"""Where stores are opened in tests."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.ports import Clock
from aos.sqlitefile import SqliteFile
from aos.storage.blobs import SqliteBlobs
from aos.storage.memory import MemoryBlobs, MemoryStore
from aos.storage.sqlite import SqliteStore


class JumpingClock:
    """Nobody waits: sleeping is time passing. `on_sleep` happens meanwhile."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.time = 1_000.0
        self.sleeps: list[float] = []
        self._on_sleep = on_sleep

    def now(self) -> int:
        return int(self.time * 1000)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.sleeps.append(seconds)
        self._on_sleep()
        await asyncio.sleep(0)


def sqlite_file(path: Path, *, clock: Clock | None = None, queue: int = 4096) -> SqliteFile:
    return SqliteFile(path, clock=clock or SystemClock(), entropy=SystemEntropy(), queue=queue)


TABLE = ("CREATE TABLE t (x)",)


class Watched(SqliteFile):
    """Counts COMMITs and lets a test stand in their way."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **{"clock": SystemClock(), "entropy": SystemEntropy(), **options})
        self.require("test", TABLE)
        self.commits: list[threading.Thread] = []
        self.before_commit: Callable[[sqlite3.Connection], None] = lambda conn: None
        self.after_commit: Callable[[], None] = lambda: None

    def _commit(self, conn: sqlite3.Connection) -> None:
        self.commits.append(threading.current_thread())
        self.before_commit(conn)
        super()._commit(conn)
        self.after_commit()

    def rows(self) -> list[Any]:
        return [x for (x,) in self.read("SELECT x FROM t ORDER BY rowid")]


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Watched]:
    file = Watched(path, **options)
    await file.open()
    try:
        yield file
    finally:
        await file.close()


def add(x: object) -> Callable[[sqlite3.Connection], object]:
    def work(conn: sqlite3.Connection) -> object:
        conn.execute("INSERT INTO t VALUES (?)", (x,))
        return x

    return work


async def outcomes(*writes: Any) -> list[Any]:
    return await asyncio.gather(*writes, return_exceptions=True)


class MemoryFactory:
    durable = False

    async def open(self) -> tuple[MemoryStore, MemoryBlobs]:
        return MemoryStore(), MemoryBlobs()

    async def reopen(self) -> tuple[MemoryStore, MemoryBlobs]:
        raise AssertionError("memory does not survive")

    async def close(self) -> None:
        return


class SqliteFactory:
    """Each store in a folder of its own. A crash is a copy of the files as they lie there, opened afresh."""

    durable = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = 0
        self._file: SqliteFile | None = None

    async def open(self) -> tuple[SqliteStore, SqliteBlobs]:
        await self.close()
        self._opened += 1
        self._file = sqlite_file(self._folder / str(self._opened) / "aos.db")
        store, blobs = SqliteStore(self._file), SqliteBlobs(self._file)
        await self._file.open()
        return store, blobs

    async def reopen(self) -> tuple[SqliteStore, SqliteBlobs]:
        crashed, copy = (self._folder / str(n) for n in (self._opened, self._opened + 1))
        copy.mkdir()
        for name in ("aos.db", "aos.db-wal"):  # not -shm: it lies in memory that a killed machine loses
            shutil.copy(crashed / name, copy / name)
        return await self.open()

    async def close(self) -> None:
        if self._file is not None:
            await self._file.close()
            self._file = None
