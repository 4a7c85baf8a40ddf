"""What a world stands on: shared state that survives a process, and a way for each process to connect to it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple, Protocol

from aos.embedded import Embedded
from aos.kernel.ports import Blobs, Bus, Clock, Entropy, Settler, Store
from aos.messaging.embedded import EmbeddedBus
from aos.messaging.memory import MemoryBroker, MemoryBus
from aos.storage.memory import MemoryBlobs, MemoryStore


class Connection(NamedTuple):
    """What one process has of the world."""

    store: Store
    blobs: Blobs
    bus: Bus
    settler: Settler | None


class Backend(Protocol):
    """Shared state. `connect` is a process starting, `die` one that is killed."""

    async def connect(self) -> Connection: ...
    async def die(self, connection: Connection) -> None: ...
    async def close(self) -> None: ...


class MemoryBackend:
    """State in memory."""

    def __init__(self, clock: Clock) -> None:
        self._store, self._blobs, self._broker = MemoryStore(), MemoryBlobs(), MemoryBroker(clock)

    async def connect(self) -> Connection:
        return Connection(self._store, self._blobs, MemoryBus(self._broker), None)

    async def die(self, connection: Connection) -> None:
        assert isinstance(connection.bus, MemoryBus)
        connection.bus.die()

    async def close(self) -> None:
        """Nothing is held."""


class SqliteBackend:
    """State in a SQLite file: of its own in a temporary directory, or a given one."""

    def __init__(self, clock: Clock, entropy: Entropy, path: Path | None = None) -> None:
        self._clock, self._entropy = clock, entropy
        self._folder = None if path else tempfile.TemporaryDirectory(prefix="aos-world-")
        self._path = path or Path(self._folder.name if self._folder else "") / "aos.db"
        self._open: list[Embedded] = []

    async def connect(self) -> Connection:
        embedded = Embedded(self._path, clock=self._clock, entropy=self._entropy, renew_every=None)
        await embedded.open()
        self._open.append(embedded)
        return Connection(embedded.store, embedded.blobs, embedded.bus, embedded)

    async def die(self, connection: Connection) -> None:
        assert isinstance(connection.bus, EmbeddedBus)
        connection.bus.die()

    async def close(self) -> None:
        for embedded in self._open:
            await embedded.close()
        if self._folder is not None:
            self._folder.cleanup()
