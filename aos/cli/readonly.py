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


class ReadOnlyFile(SqliteFile):
    """A `SqliteFile` that only reads. Opening it makes nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, clock=SystemClock(), entropy=SystemEntropy())

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        raise StoreUnavailable(f"{self.path} was opened for reading only")

    def _connect(self) -> None:
        if not os.access(self.path, os.R_OK):
            raise StoreUnavailable(f"{self.path} can't be read by this user")
        conn = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=1, isolation_level=None)
        try:
            self._check(conn)
        except BaseException:
            conn.close()
            raise
        self._reader = conn

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
