"""A direct turn: one ask, one commit, one fsync."""

from __future__ import annotations

import asyncio
import time

from benchmarks.agents import system
from benchmarks.floor import fsync
from benchmarks.frame import Measure, percentile, scratch


def run(quick: bool) -> list[Measure]:
    with scratch() as folder:
        flush = percentile(fsync(folder, 300), 50)
        times, cpu = asyncio.run(_asks(folder, 500 if quick else 3_000))
    p50 = percentile(times, 50)
    return [
        Measure("direct turn, p50", p50, "ms", f"<= {flush + 0.2:.3f}", f"fsync p50 {flush:.3f} ms in the same run"),
        Measure("direct turn, p99", percentile(times, 99), "ms"),
        Measure("CPU of a direct turn", cpu, "ms", "<= 0.12", "process time, all threads", floor=""),
    ]


async def _asks(folder, count: int) -> tuple[list[float], float]:
    async with system(folder) as aos:
        for n in range(100):
            await aos.ask("counter/a", "counter.add", 1, id=f"warm {n}")
        times: list[float] = []
        cpu = time.process_time()
        for n in range(count):
            start = time.perf_counter()
            await aos.ask("counter/a", "counter.add", 1, id=f"{n}")
            times.append((time.perf_counter() - start) * 1000)
        return times, (time.process_time() - cpu) / count * 1000
