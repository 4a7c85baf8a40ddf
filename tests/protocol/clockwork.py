"""A clock on which sleeping takes time, and which moves on when everybody sleeps: for hosts, which live by waiting."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from datetime import timedelta

from aos.testing import ManualClock

ROUNDS = 60
"""Passes of the loop within which everybody who can go on does."""


class Clockwork(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now() / 1000

    async def sleep(self, seconds: float) -> None:
        until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now() + seconds * 1000, next(self._order), until))
        await until

    async def run(self, by: timedelta) -> None:
        """Let so much time pass."""
        end = self.now() + int(by.total_seconds() * 1000)
        while True:
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)  # whoever slept has gone
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            at, _, until = heapq.heappop(self._sleepers)
            self.move_to(math.ceil(at))
            until.set_result(None)
        self.move_to(end)
