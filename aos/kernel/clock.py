"""The machine's own time and randomness: the only file of the kernel that asks for either."""

from __future__ import annotations

import asyncio
import os
import time
import weakref


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemEntropy:
    """The machine's randomness, fetched a page at a time: a turn wants a handful of salts, a system call each costs."""

    def __init__(self) -> None:
        self._page = b""
        self._at = 0
        _entropies.add(self)

    def bytes(self, n: int) -> bytes:
        end = self._at + n
        if end > len(self._page):
            self._page, self._at, end = os.urandom(max(PAGE, n)), 0, n
        found = self._page[self._at : end]
        self._at = end
        return found

    def forget(self) -> None:
        """Throw away what was fetched."""
        self._page, self._at = b"", 0


PAGE = 4096
_entropies: weakref.WeakSet[SystemEntropy] = weakref.WeakSet()


def _after_fork() -> None:
    """Parent and child must not draw the same bytes."""
    for entropy in _entropies:
        entropy.forget()


os.register_at_fork(after_in_child=_after_fork)
