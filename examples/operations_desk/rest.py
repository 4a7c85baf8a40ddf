"""Rest: when nothing is left to be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from aos import AgentOperatingSystem
from aos.kernel.errors import NoSuchAgent
from examples.operations_desk.board import BOARD
from examples.operations_desk.desk import READERS

POLL = 0.05


async def until_rest(aos: AgentOperatingSystem, horizon: timedelta, say: Callable[[str], None]) -> None:
    """Wait until the bus holds nothing that will be due within the horizon: no event, no timer, no retry. Meanwhile
    say which incidents wait for somebody, and which ones no longer do."""
    waiting: set[str] = set()
    while True:
        left = await aos.bus.depth(aos.clock.now() + int(horizon.total_seconds() * 1000))
        now = await _waiting(aos)
        if now - waiting:
            say(f"Waiting for somebody to acknowledge {', '.join(sorted(now))}")
        for incident in sorted(waiting - now):
            say(f"  {incident} is {(await aos.query(f'incident/{incident}', 'show'))['status']}")
        waiting = now
        if not left:
            return
        await asyncio.sleep(POLL)


async def until_read(aos: AgentOperatingSystem, number: int) -> None:
    """Wait until every reader has the digest of that number."""
    for reader in READERS:
        while True:
            if await _latest(aos, reader) >= number:
                break
            await asyncio.sleep(POLL)


async def _waiting(aos: AgentOperatingSystem) -> set[str]:
    try:
        return set(await aos.query(BOARD, "waiting"))
    except NoSuchAgent:
        return set()


async def _latest(aos: AgentOperatingSystem, reader: str) -> int:
    try:
        digest = await aos.query(reader, "latest")
    except NoSuchAgent:
        return 0
    return digest["number"] if digest else 0
