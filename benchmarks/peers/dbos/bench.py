"""DBOS on SQLite: steps that count. Arguments: a folder, quick or full."""

import json
import sqlite3
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from dbos import DBOS
from sqlalchemy import event
from sqlalchemy.engine import Engine

LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
pragmas: set[tuple[str, str]] = set()  # in force, of every connection


@event.listens_for(Engine, "connect")
def connected(connection: sqlite3.Connection, _: Any) -> None:
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    pragmas.add((journal.upper(), LEVELS[level]))


def force_full(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA synchronous=FULL")


@DBOS.step()
def count(total: int) -> int:
    return total + 1


@DBOS.workflow()
def run(steps: int) -> tuple[int, list[float]]:
    """A run of many steps, with the time of each."""
    total, times = 0, []
    for _ in range(steps):
        start = time.perf_counter()
        total = count(total)
        times.append(time.perf_counter() - start)
    return total, times


@DBOS.workflow()
def turn(total: int) -> int:
    """A turn's equivalent: started durably, one step, ended durably."""
    return count(total)


def events(number: int) -> list[float]:
    total, times = 0, []
    for _ in range(number):
        start = time.perf_counter()
        total = turn(total)
        times.append(time.perf_counter() - start)
    assert total == number, total
    return times


def measure(name: str, times: list[float], note: str) -> dict[str, object]:
    tail = f"; p99 {quantiles(times, n=100)[98] * 1000:.2f} ms"
    return {"name": name, "value": median(times) * 1000, "unit": "ms", "note": note + tail}


def bench(path: Path, steps: int, names: tuple[str, str], prefix: str) -> list[dict[str, object]]:
    pragmas.clear()
    DBOS(config={"name": "benchmark", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR"})
    DBOS.launch()
    try:
        turns = events(steps)
        total, times = run(steps)
        assert total == steps, total
    finally:
        DBOS.destroy()
    settings = " and ".join(f"journal {journal}, {level}" for journal, level in sorted(pragmas))
    return [measure(names[0], turns, prefix + settings), measure(names[1], times, prefix + settings)]


def main(folder: Path, steps: int) -> list[dict[str, object]]:
    names = ("an event: a workflow of one step, p50", "a step inside one workflow, p50")
    measures = bench(folder / "default.db", steps, names, f"{version('dbos')}, its defaults: ")
    # The journal mode is kept in the file, so DBOS need not be told.
    with sqlite3.connect(folder / "wal.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
    event.listen(Engine, "connect", force_full, insert=True)  # before `connected`
    return measures + bench(folder / "wal.db", steps, ("an event, in WAL mode", "a step, in WAL mode"), "")


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), 200 if sys.argv[2] == "quick" else 1_000)))
