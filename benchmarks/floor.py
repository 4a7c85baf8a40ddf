"""The floor: what the disk and SQLite alone cost for the rows that a turn writes."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

from benchmarks.frame import GROUPED, LONE, Measure, percentile, samples, scratch

HEAD, RECORD, RECEIPT = os.urandom(600), os.urandom(900), os.urandom(250)
AGENTS, GROUP = 1_000, 64
SCHEMA = """
PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000;
CREATE TABLE rows (pk TEXT NOT NULL, rk TEXT NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX rows_key ON rows (pk, rk);
"""


def run(quick: bool) -> list[Measure]:
    with scratch() as folder:
        flushes = fsync(folder, 300 if quick else 1_000)
        lone, lone_rate = _transactions(folder / "lone.db", turns=1_500 if quick else 4_000, group=1)
        _, grouped_rate = _transactions(folder / "grouped.db", turns=12_800 if quick else 25_600, group=GROUP)
    return [
        Measure("fsync of a small append, p50", percentile(flushes, 50), "ms"),
        Measure("fsync of a small append, p99", percentile(flushes, 99), "ms"),
        Measure(LONE, percentile(lone, 50), "ms"),
        Measure("bare transaction, p99", percentile(lone, 99), "ms"),
        Measure("bare transactions, one by one", lone_rate, "/s"),
        Measure(GROUPED, grouped_rate, "/s"),
    ]


def fsync(folder: Path, count: int = 500) -> list[float]:
    """Milliseconds of each append of one record to a file, flushed to the disk."""
    with (folder / "append").open("ab", buffering=0) as file:

        def append(_: int) -> None:
            file.write(RECORD)
            os.fsync(file.fileno())

        return samples(append, count)


def _transactions(path: Path, turns: int, group: int) -> tuple[list[float], float]:
    """Milliseconds of each transaction, and turns a second, with `group` turns a transaction."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(SCHEMA)
    db.execute("BEGIN")
    db.executemany("INSERT INTO rows VALUES (?, '0', ?)", ((_agent(n), HEAD) for n in range(AGENTS)))
    db.execute("COMMIT")

    def transaction(n: int) -> None:
        db.execute("BEGIN IMMEDIATE")
        for turn in range(n * group, (n + 1) * group):
            _write(db, turn)
        db.execute("COMMIT")

    start = time.perf_counter()
    times = samples(transaction, turns // group)
    rate = turns / (time.perf_counter() - start)
    db.close()
    return times, rate


def _write(db: sqlite3.Connection, turn: int) -> None:
    """One turn: a head updated, a record and a receipt inserted. Only agents differ from turn to turn."""
    agent, receipt = _agent(turn % AGENTS), hashlib.sha256(turn.to_bytes(8)).hexdigest()
    db.execute("UPDATE rows SET body = ? WHERE pk = ? AND rk = '0'", (HEAD, agent))
    db.execute("INSERT INTO rows VALUES (?, ?, ?)", (agent, f"e{turn:019}", RECORD))
    db.execute("INSERT INTO rows VALUES (?, ?, ?)", (agent, "i" + receipt, RECEIPT))


def _agent(n: int) -> str:
    return f"default|counter|{n}"
