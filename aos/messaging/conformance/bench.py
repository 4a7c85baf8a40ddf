"""What a check runs on."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aos.kernel.ports import Bus


class Bench(Protocol):
    """One fresh state and the world around it."""

    @property
    def period(self) -> float:
        """Seconds that a lock lasts when nobody renews it. The bench's clients don't renew by themselves."""
        ...

    def now(self) -> int:
        """The clients' clock, ms since the epoch."""
        ...

    async def open(self) -> Bus:
        """A client of the state: what another process would be."""
        ...

    async def kill(self, bus: Bus) -> None:
        """The client stops where it is, as by kill -9. Its locks are free when their period is over, or before."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let time pass for every client."""
        ...

    async def set_back(self, seconds: float) -> None:
        """Somebody corrects the clock: it says an earlier time than before. Durations are not affected."""
        ...


class ManualClock:
    """A clock that moves only when told. Sleeping on it takes no time but what `advance` lets pass."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self._now = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await asyncio.sleep(0)
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, woken))
        await woken

    def advance(self, seconds: float) -> None:
        self._elapsed += seconds
        self._now += round(seconds * 1000)
        # A little early is in time: 0.1 + 0.2 is more than 0.3.
        due = [woken for at, woken in self._sleepers if at <= self._elapsed + 1e-9]
        self._sleepers = [(at, woken) for at, woken in self._sleepers if at > self._elapsed + 1e-9]
        for woken in due:
            if not woken.done():
                woken.set_result(None)

    def set_back(self, seconds: float) -> None:
        self._now -= round(seconds * 1000)
