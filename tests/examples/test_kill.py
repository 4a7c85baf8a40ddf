"""The real program, killed by SIGKILL at many moments and started again until it ends: nothing lost, nothing twice.

The witness file of the pager is outside of the system: it holds every request that arrived, with its key.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from examples.operations_desk.pager_server import PagerServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
AOS = Path(sys.executable).with_name("aos")
ESCALATE_AFTER = 20.0
"""Seconds. Longer than all that is killed before the escalations takes, or acknowledgements would come too late."""


class Program:
    """`make run`, started once."""

    def __init__(self, home: Path, *options: str, escalate_after: float = ESCALATE_AFTER) -> None:
        self.home = home
        self.lines: list[str] = []
        self.started = time.monotonic()
        self.known = len(self.witness)
        command = ["-m", "examples.operations_desk", "--home", str(home), "--escalate-after", str(escalate_after)]
        self.process = subprocess.Popen(
            [sys.executable, *command, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reader = Thread(target=self._read)
        self._reader.start()

    @property
    def witness(self) -> list[dict[str, Any]]:
        path = self.home / "pager.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def killed_when(self, moment: Callable[["Program"], bool]) -> bool:
        """Kill it when the moment has come. False: it ended before."""
        while not moment(self):
            if self.process.poll() is not None:
                self.end()
                return False
            time.sleep(0.0005)
        self.process.kill()
        self.end()
        return True

    def end(self) -> "Program":
        self.process.wait(timeout=120)
        self._reader.join()
        return self

    def outcome(self) -> list[str]:
        """What it says in the end, of all that it was ever fed."""
        assert self.process.returncode == 0, "\n".join(self.lines)
        first = next(n for n, line in enumerate(self.lines) if line.startswith("Incidents: "))
        return self.lines[first:]

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as printed:
            for line in printed:
                self.lines.append(line.rstrip("\n"))


def after(seconds: float) -> Callable[[Program], bool]:
    return lambda program: time.monotonic() - program.started > seconds


def said(start: str) -> Callable[[Program], bool]:
    return lambda program: any(line.startswith(start) for line in program.lines)


def reached(path: str, count: int) -> Callable[[Program], bool]:
    """That many new requests since it was started."""
    return lambda program: sum(call["path"] == path for call in program.witness[program.known :]) >= count


MOMENTS = [
    after(0.3),
    said("Feeding"),
    reached("/page", 1),
    reached("/page", 5),
    reached("/page", 8),
    after(0.8),
    said("300 lines"),
    said("Waiting for somebody"),
    after(1.2),
    reached("/phone", 1),
    said("Incidents: "),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[str]:
    program = Program(tmp_path_factory.mktemp("undisturbed"), escalate_after=3.0).end()
    assert "300 lines: 276 taken, 14 duplicates, 10 refused" in program.lines
    return program.outcome()


def effects(home: Path) -> tuple[Counter[str], set[str]]:
    """Of the verified ledger: how often each operation is recorded as done, and which ones are recorded as unknown."""
    export = home / "audit.jsonl"
    subprocess.run([AOS, "verify", "--all", "--home", str(home), "--export", str(export)], check=True)
    entries = [entry for line in export.read_text().splitlines() for entry in json.loads(line)["entries"]]
    done = Counter(e["op"] for e in entries if e["k"] == "effect.result" and e.get("outcome") != "not_done")
    return done, {entry["op"] for entry in entries if entry["k"] == "effect.unknown"}


def without_phones(outcome: list[str]) -> list[str]:
    """What must be the same in every run: all but the calls whose outcome may honestly be unknown."""
    return [
        re.sub(r"\d+ phoned, \d+ phone failed|^Dead letters: \d+", "…", line)
        for line in outcome
        if "outcome_unknown" not in line
    ]


def check(program: Program, undisturbed: list[str], witness: list[dict[str, Any]]) -> int:
    """Everything that must hold after the last start; how many calls have an unknown outcome."""
    outcome = program.outcome()
    assert without_phones(outcome) == without_phones(undisturbed)
    done, unknown = effects(program.home)
    assert set(done.values()) == {1}
    assert not unknown & set(done)

    pages = [call["key"] for call in witness if call["path"] == "/page" and not call["repeated"]]
    assert len(pages) == len(set(pages)) == 31
    assert set(pages) <= set(done)

    phoned = Counter(call["key"] for call in witness if call["path"] == "/phone")
    assert set(phoned.values()) <= {1}, "somebody was phoned twice"
    assert set(phoned) <= set(done) | unknown
    assert set(done) == set(pages) | (set(phoned) - unknown)
    letters = [line for line in outcome if "on-call.phone: outcome_unknown: " in line]
    assert len(letters) == len(unknown)
    assert f"{3 - len(unknown)} phoned, {len(unknown)} phone failed" in "\n".join(outcome)
    return len(unknown)


def test_killed_at_many_moments_it_ends_as_if_undisturbed(tmp_path, undisturbed) -> None:
    killed = [Program(tmp_path).killed_when(moment) for moment in MOMENTS]
    assert killed == [True] * len(MOMENTS), "it ended before one of the moments"
    program = Program(tmp_path).end()
    check(program, undisturbed, program.witness)


class KillingPager(PagerServer):
    """Outlives the program, and kills it while it waits for the answer: before or after doing what it asks."""

    program: Program | None = None
    before: frozenset[tuple[str, int]] = frozenset()
    after: frozenset[tuple[str, int]] = frozenset()

    def __init__(self, witness: Path) -> None:
        super().__init__(witness)
        self._arrived = Counter[str]()

    def take(self, path: str, key: str, body: dict[str, Any]) -> None:
        self._arrived[path] += 1
        arrival = path, self._arrived[path]
        if arrival in self.before:
            self._kill()
        else:
            super().take(path, key, body)
            if arrival in self.after:
                self._kill()

    def _kill(self) -> None:
        assert self.program is not None
        self.program.process.kill()
        self.program.process.wait()


def test_killed_while_it_waits_for_the_pager(tmp_path, undisturbed) -> None:
    with KillingPager(tmp_path / "witness.jsonl") as pager:
        pager.before = frozenset((("/page", 2), ("/page", 20), ("/phone", 2)))
        pager.after = frozenset((("/page", 5), ("/page", 12), ("/phone", 1)))
        kills = 0
        while True:
            pager.program = Program(tmp_path / "home", "--webhook", pager.url)
            if pager.program.end().process.returncode == 0:
                break
            kills += 1
            assert pager.program.process.returncode == -9, "\n".join(pager.program.lines)
        assert kills >= 5, "two may happen at once"
        assert 1 <= check(pager.program, undisturbed, pager.calls()) <= 3
