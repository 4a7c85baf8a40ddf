"""Where the conformance checks run: one bench a backend, on a clock that is moved by hand."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.ports import Bus
from aos.messaging.conformance import ManualClock
from aos.messaging.embedded import EmbeddedBus
from aos.messaging.memory import MemoryBroker, MemoryBus
from aos.sqlitefile import SqliteFile


class HandMoved:
    """Time for all clients."""

    period = 10.0

    def __init__(self) -> None:
        self.clock = ManualClock()

    def now(self) -> int:
        return self.clock.now()

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def set_back(self, seconds: float) -> None:
        self.clock.set_back(seconds)

    async def __aexit__(self, *_: object) -> None:
        pass


class MemoryBench(HandMoved):
    def __init__(self) -> None:
        super().__init__()
        self._broker = MemoryBroker(self.clock, period=self.period)

    async def __aenter__(self) -> MemoryBench:
        return self

    async def open(self) -> MemoryBus:
        return MemoryBus(self._broker)

    async def kill(self, bus: Bus) -> None:
        assert isinstance(bus, MemoryBus)
        bus.die()


class EmbeddedBench(HandMoved):
    """Every client has a connection of its own to the file, as processes have. Waiting for the file is real time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> EmbeddedBench:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def open(self) -> EmbeddedBus:
        file = SqliteFile(self._path, clock=SystemClock(), entropy=SystemEntropy())
        bus = EmbeddedBus(file, clock=self.clock, entropy=SystemEntropy(), renew_every=None)
        await file.open()
        self._stack.push_async_callback(file.close)
        self._stack.push_async_callback(bus.close)
        return bus

    async def kill(self, bus: Bus) -> None:
        assert isinstance(bus, EmbeddedBus)
        bus.die()


class SharedFileBench(EmbeddedBench):
    """All clients on one open file, as in one process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file: SqliteFile | None = None

    async def open(self) -> EmbeddedBus:
        if self._file is None:
            self._file = SqliteFile(self._path, clock=SystemClock(), entropy=SystemEntropy())
            bus = self._bus(self._file)
            await self._file.open()
            self._stack.push_async_callback(self._file.close)
        else:
            bus = self._bus(self._file)
        self._stack.push_async_callback(bus.close)
        return bus

    def _bus(self, file: SqliteFile) -> EmbeddedBus:
        return EmbeddedBus(file, clock=self.clock, entropy=SystemEntropy(), renew_every=None)
