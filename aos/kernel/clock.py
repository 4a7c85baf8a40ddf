"""The machine's own time and randomness: the only file of the kernel that asks for either."""

from __future__ import annotations

import asyncio
import os
import time


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemEntropy:
    """The machine's randomness."""

    def bytes(self, n: int) -> bytes:
        return os.urandom(n)
