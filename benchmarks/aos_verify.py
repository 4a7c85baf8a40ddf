"""Verifying an export: a million records (100,000 when quick), with and without payloads, and the memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from aos.kernel import ledger
from aos.kernel.address import Address
from aos.kernel.exported import payload_line
from benchmarks.frame import HERE, Measure, scratch

BODY = b'{"by":1,"note":"about as much as an event carries in a system like this one"}'


def run(quick: bool) -> list[Measure]:
    count = 100_000 if quick else 1_000_000
    with scratch() as folder:
        records, payloads = folder / "audit.jsonl", folder / "audit.payloads.jsonl"
        write(records, payloads, count)
        size = records.stat().st_size // 1_000_000
        with_payloads, memory = verify(records)
        payloads.unlink()
        without, _ = verify(records)
    scale = count / 1_000_000
    return [
        Measure(f"verify {count:,} records", without, "s", f"<= {12 * scale:g}", f"{size:,} MB", floor=""),
        Measure(f"verify {count:,} records with payloads", with_payloads, "s", f"<= {20 * scale:g}", floor=""),
        Measure("memory of a verifying process", memory, "MiB", "<= 64", "the largest", floor=""),
    ]


def write(records: Path, payloads: Path, count: int) -> None:
    """One chain as a busy agent would have it."""
    agent, salt = Address.of("counter", "a"), os.urandom(32)
    prev = ledger.genesis(agent)
    data = ledger.commit(salt, BODY)
    line = payload_line(agent.log, 0, salt, BODY)
    with records.open("wb") as out, payloads.open("wb") as beside:
        for seq in range(count):
            record = _record(agent, seq, prev, {"h": data, "n": len(BODY)})
            prev = ledger.leaf(record)
            out.write(record + b"\n")
            beside.write(line.replace(b'"seq":0', b'"seq":%d' % seq))


def _record(agent: Address, seq: int, prev: str, data: ledger.Entry) -> bytes:
    digest = "a" * 64
    return ledger.build(
        agent,
        seq=seq,
        prev=prev,
        ts=1_700_000_000_000 + seq,
        turn=digest[:32],
        host={"name": "aos", "version": "0.1.0", "instance": "host:1"},
        state={"h": digest, "n": 100},
        entries=[
            {"effect": "allow", "engine": "permit-all/1", "errors": 0, "k": "decision", "policies": ["permit-all"],
             "req": digest, "set": digest, "what": "handle"},
            {"actor": {"auth": "none", "id": "test", "type": "external"}, "attempt": 1, "event": f"event-{seq}",
             "k": "event.handled", "key": digest, "ms": 0, "source": "test", "type": "counter.add", "data": data},
        ],
    )  # fmt: skip


WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""Runs a command and says how much memory its largest process took, in KiB."""


def verify(records: Path) -> tuple[float, float]:
    """Seconds and MiB of `aos verify FILE`."""
    start = time.perf_counter()
    verifying = [sys.executable, "-c", "from aos.cli import main; main()", "verify", str(records)]
    command = [sys.executable, "-c", WATCH, *verifying]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"the export did not verify: {done.stdout}{done.stderr}")
    return seconds, int(done.stdout) / 1024
