"""What grows must not make turns dearer: history, state, the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path

from aos import AgentOperatingSystem
from benchmarks.agents import system
from benchmarks.frame import Measure, percentile, scratch


def run(quick: bool) -> list[Measure]:
    turns, earlier, size = (200, 1_000, 50_000_000) if quick else (1_000, 10_000, 1_000_000_000)
    with scratch() as folder:
        young, old, light, heavy = asyncio.run(_histories(folder, turns, earlier))
    with scratch() as folder:
        small = asyncio.run(_direct(folder, turns))
        _fill(folder / "aos.db", size)
        large = asyncio.run(_direct(folder, turns))
    return [
        Measure("direct turn after 10 turns, p50", young, "ms"),
        Measure(f"direct turn after {earlier:,} turns, p50", old, "ms", note=f"{old / young:.2f} x"),
        Measure("direct turn, state of 50 KB, p50", heavy, "ms", f"<= {2 * light:.3f}", "2 x an empty state"),
        Measure(
            f"direct turn, file of {size // 1_000_000:,} MB, p50",
            large,
            "ms",
            f"<= {1.1 * small:.3f}",
            "1.1 x a new file",
        ),
    ]


async def _histories(folder: Path, turns: int, earlier: int) -> tuple[float, float, float, float]:
    async with system(folder) as aos:
        await _ask(aos, "counter/young", 10)
        await _ask(aos, "counter/old", earlier)
        await aos.ask("counter/heavy", "counter.load", 50_000)
        young, old = await _alternating(aos, "counter/young", "counter/old", turns)
        light, heavy = await _alternating(aos, "counter/light", "counter/heavy", turns)
        return young, old, light, heavy


async def _alternating(aos: AgentOperatingSystem, one: str, other: str, turns: int) -> tuple[float, float]:
    """Medians of both, turn about, so that a disturbance meets both alike."""
    times: dict[str, list[float]] = {one: [], other: []}
    for _ in range(turns):
        for agent in (one, other):
            start = time.perf_counter()
            await aos.ask(agent, "counter.add", 1)
            times[agent].append((time.perf_counter() - start) * 1000)
    return percentile(times[one], 50), percentile(times[other], 50)


async def _direct(folder: Path, turns: int) -> float:
    async with system(folder) as aos:
        await _ask(aos, "counter/a", 50)
        first, second = await _alternating(aos, "counter/a", "counter/b", turns)
        return (first + second) / 2


async def _ask(aos: AgentOperatingSystem, agent: str, turns: int) -> None:
    for _ in range(turns):
        await aos.ask(agent, "counter.add", 1)


def _fill(path: Path, size: int) -> None:
    """Rows of other agents, as a system that has run for long has them."""
    db = sqlite3.connect(path, isolation_level=None)
    body, each = os.urandom(1_000), 1_000
    for n in range(size // len(body) // each):
        db.execute("BEGIN")
        made = db.execute("INSERT INTO agents (log, version, head) VALUES (?, 1, x'')", (f"default/x/{n}",))
        rows = ((made.lastrowid, f"e{i:016d}", body) for i in range(each))
        db.executemany("INSERT INTO rows (agent, key, body) VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")
    db.close()
