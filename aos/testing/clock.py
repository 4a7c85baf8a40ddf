"""Time that you move and chance that repeats itself."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
"""A Monday morning."""


class ManualClock:
    """Stands still until it is moved. Sleeping on it takes no time but lets others run."""

    def __init__(self, start: datetime = START) -> None:
        self._now = int(start.timestamp() * 1000)
        self._passed = 0.0

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        self._passed += max(0.0, seconds)
        await asyncio.sleep(0)

    def move(self, by: timedelta) -> None:
        """Forwards, or backwards as a machine's clock may; durations never go back."""
        self._now += by // timedelta(milliseconds=1)
        self._passed += max(0.0, by.total_seconds())

    def move_to(self, ms: int) -> None:
        """To a later time; an earlier one changes nothing."""
        self.move(timedelta(milliseconds=max(0, ms - self._now)))


class SeededEntropy:
    """The same bytes in every run of a test."""

    def __init__(self, seed: str = "aos") -> None:
        self._seed = seed.encode()
        self._count = 0

    def bytes(self, n: int) -> bytes:
        self._count += 1
        digest = hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).digest()
        return digest[:n] if n <= len(digest) else (digest * (n // len(digest) + 1))[:n]
