"""The thread that renews leases, so that a blocked event loop does not lose them (P24)."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)


class Renewal:
    """Calls `renew` with a connection of its own every `every` seconds while `needed` says so."""

    def __init__(
        self, path: Path, *, every: float, needed: Callable[[], bool], renew: Callable[[sqlite3.Connection], None]
    ) -> None:
        self._path = path
        self._every = every
        self._needed = needed
        self._renew = renew
        self._stopped = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="aos-lease-renewal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It does nothing more once this returns. It never waits long: the thread does one small write at a time."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._every):
                if self._needed():
                    self._try_until_free()
        finally:
            self._disconnect()

    def _try_until_free(self) -> None:
        """Other writers of the file hold it for a fraction of a millisecond each."""
        while not self._stopped.is_set():
            try:
                return self._renew(self._connect())
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    return self._report(error)
            except sqlite3.Error as error:
                return self._report(error)
            self._stopped.wait(0.001)

    def _report(self, error: sqlite3.Error) -> None:
        _log.warning("leases could not be renewed, next try in %s s: %s", self._every, error)
        self._disconnect()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            # mode=rw: a file that is gone must not come back empty.
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None
            )
            # A renewal that is lost when the power goes is lost with its process; checkpoints are the writer's work.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA wal_autocheckpoint=0")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
