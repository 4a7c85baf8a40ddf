"""What the tests of the embedded bus start as processes of their own.

python -m tests.messaging.processes hold FILE           accept one session, say so, do nothing for ever
python -m tests.messaging.processes drain FILE COUNT    take part in draining; a line for every message
"""

from __future__ import annotations

import asyncio
import sys
import time

from aos.kernel.clock import SystemClock, SystemEntropy
from aos.messaging.embedded import EmbeddedBus
from aos.sqlitefile import SqliteFile


def _say(*words: object) -> None:
    print(*words, flush=True)


async def hold(bus: EmbeddedBus) -> None:
    (session,) = await bus.accept(1, wait=10)
    await session.receive(10)
    _say("held", session.name)
    await asyncio.sleep(3600)


async def drain(bus: EmbeddedBus) -> None:
    """Until nothing came for a while: `when session id count` for a message, `when session - since` for a hold."""
    _say("ready")
    while sessions := await bus.accept(3, wait=0.5):
        for session in sessions:
            since = time.monotonic_ns()
            for delivery in await session.receive(7):
                _say(time.monotonic_ns(), session.name, delivery.parcel.id, delivery.count)
                await session.complete([delivery])
            _say(time.monotonic_ns(), session.name, "-", since)
            await session.release()


async def main(what: str, path: str) -> None:
    file = SqliteFile(path, clock=SystemClock(), entropy=SystemEntropy())
    bus = EmbeddedBus(file, clock=SystemClock(), entropy=SystemEntropy())
    await file.open()
    await {"hold": hold, "drain": drain}[what](bus)
    await bus.close()
    await file.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
