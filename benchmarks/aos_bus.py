"""Events through the bus: 1,000 agents, 64 at a time, in one process and in two on one file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from aos.hosts.worker import Worker
from aos.ingress import external_message
from aos.kernel.address import Address
from aos.kernel.event import new_event
from benchmarks.agents import system
from benchmarks.frame import HERE, Measure, percentile, scratch

AGENTS, CONCURRENCY = 1_000, 64


def run(quick: bool) -> list[Measure]:
    events = 4_000 if quick else 20_000
    with scratch() as folder:
        one, lags = asyncio.run(_drain(folder, events, 1))
    with scratch() as folder:
        deep, _ = asyncio.run(_drain(folder, events, 20))
    with scratch() as folder:
        two = _two_processes(folder, events)
    return [
        Measure(
            "events through the bus, one a turn", one, "/s", ">= 8000", f"{AGENTS} agents, {CONCURRENCY} at a time"
        ),
        Measure("loop lag meanwhile, p99", percentile(lags, 99), "ms", "<= 5", floor=""),
        Measure("events through the bus, a backlog", deep, "/s", note="20 waiting an agent: batches"),
        Measure("two processes on one file", two, "/s", f">= {one * 1.3:.0f}", "1.3 x one process"),
    ]


async def fill(folder: Path, events: int, each: int) -> None:
    """Put `events` on the bus, `each` in a row for one agent."""
    async with system(folder) as aos:
        now = aos.clock.now()
        parcels = [
            external_message(
                aos.registry,
                new_event(str(n), "bench", "counter.add", 1),
                now,
                None,
                Address.of("counter", str(n // each % AGENTS)),
            ).parcel()
            for n in range(events)
        ]
        for first in range(0, events, 500):
            await aos.bus.send(parcels[first : first + 500])


async def drain(folder: Path, lags: list[float], batch: int = 32) -> float:
    """Work until nothing is left; the seconds from the first event to the last."""
    async with system(folder) as aos:
        done = asyncio.Event()
        seen = [time.perf_counter()] * 2
        watch = asyncio.create_task(_lag(lags, done))
        async with Worker(aos, sessions=CONCURRENCY, batch=batch):
            while await aos.bus.depth():  # noqa: ASYNC110  # two processes drain it: no event of ours would tell
                await asyncio.sleep(0.05)
            seen[1] = time.perf_counter()
        done.set()
        await watch
        return seen[1] - seen[0]


async def _drain(folder: Path, events: int, each: int) -> tuple[float, list[float]]:
    lags: list[float] = []
    await fill(folder, events, each)
    return events / await drain(folder, lags, 1 if each == 1 else 32), lags


async def _lag(lags: list[float], done: asyncio.Event) -> None:
    while not done.is_set():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append((time.perf_counter() - start - 0.001) * 1000)


def _two_processes(folder: Path, events: int) -> float:
    asyncio.run(fill(folder, events, 1))
    command = [sys.executable, "-m", "benchmarks.aos_bus", str(folder)]
    children = [
        subprocess.Popen(command, cwd=HERE.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # it has imported everything
    start = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        child.communicate()
    return events / (time.perf_counter() - start)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(drain(Path(sys.argv[1]), [], 1))
