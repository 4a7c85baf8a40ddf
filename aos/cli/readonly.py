"""The embedded store's file as evidence: it can't be written to, and a file that may only be read will do."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.errors import StoreUnavailable
from aos.sqlitefile import SqliteFile

T = TypeVar("T")
_NO_SIDE_FILES = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
"""What SQLite says where it may not make the files that it keeps beside a database in use."""


class ReadOnlyFile(SqliteFile):
    """A `SqliteFile` that only reads. SQLite may put its files for sharing beside it where the folder lets it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, clock=SystemClock(), entropy=SystemEntropy())

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        raise StoreUnavailable(f"{self.path} was opened for reading only")

    def _connect(self) -> None:
        if not os.access(self.path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise StoreUnavailable(f"{self.path} can't be read by this user")
        try:
            self._reader = self._read_only("mode=ro")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NO_SIDE_FILES or self._has_log():
                raise
            self._reader = self._read_only("mode=ro&immutable=1")

    def _has_log(self) -> bool:
        """Whether part of the data lies in the file beside, which takes a folder that can be written to be read."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.exists() and log.stat().st_size > 0

    def _read_only(self, options: str) -> sqlite3.Connection:
        conn = sqlite3.connect(f"{self.path.as_uri()}?{options}", uri=True, timeout=1, isolation_level=None)
        try:
            self._check(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _check(self, conn: sqlite3.Connection) -> None:
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "meta" not in tables:
            raise StoreUnavailable(f"{self.path} is not a store of AOS")
        found = dict(conn.execute("SELECT name, version FROM meta"))
        for name, (version, _) in self._schemas.items():
            if name not in found:
                raise StoreUnavailable(f"{self.path} has no table of the schema {name!r}")
            if found[name] != version:
                raise StoreUnavailable(self._foreign_version(name, found[name], version))
