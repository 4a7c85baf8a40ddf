"""Waiting for a message without asking all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from aos.kernel.ports import Clock


class Waiters:
    """Everybody in this process who waits for a message. `notify` wakes them at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: set[asyncio.Event] = set()

    def notify(self) -> None:
        """There may be something: look again."""
        for event in self._events:
            event.set()

    @contextmanager
    def enrolled(self) -> Generator[asyncio.Event]:
        """An event for one waiter. Clear it, look, then `pause`: what comes in between is not missed."""
        event = asyncio.Event()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Until notified, or until `seconds` have passed on the clock."""
        told = asyncio.ensure_future(event.wait())
        slept = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((told, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            slept.cancel()
