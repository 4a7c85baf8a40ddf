"""One SQLite file that store and bus share: one connection that writes, one that reads, and group commit.

Where the time goes decides the shape (PERFORMANCE 2 and 3): statements take microseconds and run on the loop, a
COMMIT waits for the disk and goes to a thread while the next group gathers. A lone write commits inline, because the
hop to the thread would cost more than it frees.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from aos.kernel.errors import StoreBusy, StoreUnavailable
from aos.kernel.ports import Clock, Entropy

T = TypeVar("T")
Value: TypeAlias = str | int | float | bytes | None
Found: TypeAlias = list[tuple[Any, ...]]

GROUP: Final = 64
"""Works a transaction: beyond it the disk is no longer what is waited for."""

_PRAGMAS = ("synchronous=FULL", "wal_autocheckpoint=4000", "cache_size=-16000")
_META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_MENDING = {
    sqlite3.SQLITE_BUSY: "is locked: another process holds it; stop that process or wait for it",
    sqlite3.SQLITE_READONLY: "is read-only for this user; make it, its -wal and its directory writable (chmod u+w)",
    sqlite3.SQLITE_CANTOPEN: "can't be opened; its directory must exist and be writable for this user",
    sqlite3.SQLITE_FULL: "is full: the disk or a quota has no room left; free some and come again",
    sqlite3.SQLITE_IOERR: "met an I/O error; check the disk and the system log",
    sqlite3.SQLITE_CORRUPT: "is damaged (malformed or truncated); restore a backup or try `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: "is not a database (or its beginning was overwritten); move it away or restore a backup",
    sqlite3.SQLITE_PROTOCOL: "can't be locked; a network file system does not do for SQLite, use a local disk",
}


class CommitUnknown(StoreUnavailable):
    """The COMMIT failed: the write is in the file whole or not at all, and only reading it back tells."""


class SqliteFile:
    """One file. `require` the tables, `open`, then `read` and `write`, all on one event loop.

    Any number of processes may open the same file; a process must open it after it was forked, not before.
    """

    def __init__(
        self, path: Path | str, *, clock: Clock, entropy: Entropy, queue: int = 4096, lock_wait: float = 10.0
    ) -> None:
        self.path = Path(path).resolve()
        self._clock = clock
        self._jitter = random.Random(entropy.bytes(8))  # how often it is asked depends on other processes
        self._limit = queue
        self._lock_wait = lock_wait
        self._schemas: dict[str, tuple[int, tuple[str, ...]]] = {"file": (1, ())}
        self._queue: deque[_Job] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    def require(self, name: str, statements: Sequence[str], *, version: int = 1) -> None:
        """Declare the tables of one user of the file, before it is opened. They are made where they are missing."""
        if self._reader is not None:
            raise RuntimeError(f"{self.path} is open: its tables are declared before")
        self._schemas[name] = (version, tuple(statements))

    async def open(self) -> None:
        """Open the file, making it (0600) and its directories (0700) where they are missing.

        `StoreUnavailable` names the file and how to mend it. Nothing is left open then."""
        if self._reader is not None:
            return
        if self.path in _inherited:
            raise StoreUnavailable(f"{self.path} was open when this process was forked; open it after the fork only")
        await self._patiently(self._connect)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aos-commit")
        _open.add(self)

    async def close(self) -> None:
        """Finish what was handed to `write`, then close. Closing twice is fine."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        while self._draining is not None:
            await asyncio.wait([self._draining])
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        _open.discard(self)

    def read(self, sql: str, params: Sequence[Value] = ()) -> Found:
        """The rows of one SELECT: committed state of one moment, read on the loop (a thread would cost more)."""
        if self._reader is None:
            raise StoreUnavailable(f"{self.path} is not open")
        try:
            return self._reader.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable(error) from None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `work(connection)` in a transaction that it shares with its neighbours; its result, once durable.

        The work is plain code without awaits, BEGIN, COMMIT or SAVEPOINT. It checks all its conditions before it
        writes anything: what it raises until then is its caller's alone. If it raises after a write, the group is
        rolled back and each neighbour is carried out again by itself, so a work may run more than once and only
        its last result counts. A caller who is cancelled while waiting does not take the work back: it commits.

        Raises what the work raised, `StoreBusy` when the queue is full, `CommitUnknown` when a COMMIT failed and
        `StoreUnavailable` when certainly nothing was written.
        """
        if self._reader is None:
            raise StoreUnavailable(f"{self.path} is not open")
        if len(self._queue) >= self._limit:
            raise StoreBusy(f"{self.path}: {self._limit} writes are waiting already")
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        self._queue.append(job)
        if self._draining is None:  # a task of its own, so that whoever is ready now joins the group
            self._draining = loop.create_task(self._drain())
        return await job.answer

    async def _drain(self) -> None:
        group: list[_Job] = []
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(GROUP, len(self._queue)))]
                await self._carry_out(group, inline=len(group) == 1)
        finally:
            self._draining = None
            for job in (*group, *self._queue):  # unanswered only where the loop is torn down meanwhile
                job.fail(StoreUnavailable(f"{self.path}: the writer was stopped"))
            self._queue.clear()
            if self._writer is not None:
                self._roll_back(self._writer)

    async def _carry_out(self, group: list[_Job], *, inline: bool) -> None:
        try:
            conn = await self._patiently(self._begin)
        except (StoreUnavailable, sqlite3.Error) as error:
            for job in group:
                job.fail(StoreUnavailable(str(error)))
            return
        results: list[tuple[_Job, Any]] = []
        for n, job in enumerate(group):
            written = conn.total_changes
            try:
                results.append((job, job.work(conn)))
            except Exception as error:
                job.fail(self._unavailable(error))
                if conn.total_changes != written or not conn.in_transaction:
                    return await self._apart(conn, [done for done, _ in results] + group[n + 1 :])
        if await self._committed(conn, results, inline):
            for job, result in results:
                job.succeed(result)

    async def _apart(self, conn: sqlite3.Connection, jobs: list[_Job]) -> None:
        """One of the group raised after it had written: nothing was committed, so the others start afresh."""
        self._roll_back(conn)
        for job in jobs:
            await self._carry_out([job], inline=False)

    async def _committed(self, conn: sqlite3.Connection, results: list[tuple[_Job, Any]], inline: bool) -> bool:
        try:
            if inline or self._thread is None:
                self._commit(conn)
            else:
                commit = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, conn)
                await _to_the_end(commit)
        except sqlite3.Error as error:
            self._roll_back(conn)
            # What makes a transaction count is written last, so where the disk was full it was not written.
            failure = StoreUnavailable if _code(error) == sqlite3.SQLITE_FULL else CommitUnknown
            for job, _ in results:
                job.fail(failure(f"the COMMIT failed; {self._unavailable(error)}"))
            return False
        return True

    def _begin(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connection()
        self._writer.execute("BEGIN IMMEDIATE")
        return self._writer

    def _commit(self, conn: sqlite3.Connection) -> None:
        """The only statement that waits for the disk. Called in the thread, or inline for a lone work."""
        conn.execute("COMMIT")

    def _roll_back(self, conn: sqlite3.Connection) -> None:
        try:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
        except sqlite3.Error:  # a connection in an unknown state is not used again
            conn.close()
            self._writer = None

    async def _patiently(self, action: Callable[[], T]) -> T:
        """Try until no other process is in the way. SQLite's own busy_timeout sleeps far too long between tries."""
        deadline: float | None = None
        while True:
            try:
                return action()
            except sqlite3.Error as error:
                now = self._clock.monotonic()
                deadline = now + self._lock_wait if deadline is None else deadline
                if _code(error) not in _BUSY or now >= deadline:
                    raise self._unavailable(error) from None
            await self._clock.sleep(self._jitter.uniform(0.0001, 0.0006))

    def _connect(self) -> None:
        try:
            fault = _make(self.path)
        except OSError as error:
            raise StoreUnavailable(f"{self.path} can't be made: {error.strerror or error}") from error
        if fault:
            raise StoreUnavailable(f"{self.path} {_MENDING[fault]}")
        writer = self._connection()
        try:
            self._prepare(writer)
            self._reader = self._connection("busy_timeout=1000", "query_only=ON")
        except BaseException:
            writer.close()
            raise
        self._writer = writer

    def _connection(self, *pragmas: str) -> sqlite3.Connection:
        conn = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (*_PRAGMAS, *pragmas):
                conn.execute(f"PRAGMA {pragma}")
        except BaseException:
            conn.close()
            raise
        return conn

    def _prepare(self, conn: sqlite3.Connection) -> None:
        """Check the file and make what is missing, in a transaction that writes: who may not, learns it now."""
        mode = conn.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnavailable(f"{self.path}: the file system can't do WAL (it stays {mode!r}); use a local disk")
        conn.execute("BEGIN IMMEDIATE")
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "meta" not in tables:
            raise StoreUnavailable(f"{self.path} is another program's database; choose another path")
        conn.execute(_META)
        versions = dict(conn.execute("SELECT name, version FROM meta").fetchall())
        for name, (version, statements) in self._schemas.items():
            if name not in versions:
                for statement in statements:
                    conn.execute(statement)
                conn.execute("INSERT INTO meta VALUES (?, ?)", (name, version))
            elif versions[name] != version:
                raise StoreUnavailable(self._foreign_version(name, versions[name], version))
        conn.execute("UPDATE meta SET version = version")  # BEGIN IMMEDIATE alone succeeds on a read-only file
        conn.execute("COMMIT")

    def _foreign_version(self, name: str, found: int, known: int) -> str:
        who = "a newer AOS; upgrade this one" if found > known else "an older AOS that this one can't read"
        return f"{self.path} was made by {who} (schema {name!r} is {found}, this one knows {known})"

    def _unavailable(self, error: Exception) -> Exception:
        """A fault of the file as what to do about it; anything else (a work's own, a bug in SQL) as it is."""
        mending = _MENDING.get(_code(error))
        return error if mending is None else StoreUnavailable(f"{self.path} {mending} (SQLite: {error})")

    def _forget(self) -> None:
        """In a forked child: neither use nor close what the parent still uses."""
        _parents.append((self._reader, self._writer, self._thread))
        _inherited.add(self.path)
        self._reader = self._writer = self._thread = self._draining = None


class _Job:
    """One work in the queue."""

    __slots__ = ("answer", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], answer: asyncio.Future[Any]) -> None:
        self.work = work
        self.answer = answer

    def succeed(self, result: object) -> None:
        if not self.answer.done():  # done: its caller was cancelled
            self.answer.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _code(error: Exception) -> int:
    """SQLite's primary result code; what Python raises has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make(path: Path) -> int:
    """An empty file that only its owner can read; SQLite gives its -wal and -shm files the same mode.

    Where there is one, what is wrong with it that SQLite must not be let near, because it would change it."""
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(0o700, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:  # never opened here: closing it again would drop this process's locks on it (POSIX)
        if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            return sqlite3.SQLITE_READONLY
        wal = path.with_name(f"{path.name}-wal")
        if path.stat().st_size == 0 and wal.exists() and wal.stat().st_size > 0:
            return sqlite3.SQLITE_CORRUPT
    return 0


async def _to_the_end(thread: asyncio.Future[None]) -> None:
    """Wait for the thread, whoever cancels meanwhile: it uses the connection, and callers want its outcome."""
    while not thread.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([thread])
    thread.result()


_open: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_inherited: set[Path] = set()
_parents: list[object] = []
"""Connections of the parent process, kept so that they are not closed: that would spoil the parent's file."""


def _after_fork() -> None:
    """A child would believe that it holds the parent's locks: a parent that closes would delete its WAL."""
    for file in tuple(_open):
        file._forget()  # pyright: ignore[reportPrivateUsage]
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
