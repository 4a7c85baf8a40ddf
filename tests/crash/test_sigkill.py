"""Every fault point x every kind of event by real SIGKILL of a child process, with a witness outside.

Recorded effects never run twice, unknown outcomes of effects that are not idempotent stop visibly, everything else
ends by itself when the program is started again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aos.testing import Boundary, FaultPoint
from tests.crash.kinds import KINDS

ROOT = Path(__file__).parents[2]
DEADLY = [point for point in FaultPoint if point.boundary in (Boundary.BEFORE, Boundary.AFTER)]


class Server:
    """The child that forks the children that die."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.crash.server"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False], ids=["settle", "outbox"])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_point_it_comes_out_right(kind: str, together: bool, server: Server, tmp_path: Path) -> None:
    def case(name: str, run: int, **fault: Any) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        paths = {"path": str(folder / "aos.db"), "witness": str(folder / "witness")}
        return {"kind": kind, "together": together, "seed": f"run {run}", **paths, **fault}

    whole = server.run(case("whole", 0))
    assert "passed" in whole, whole
    kills = 0
    for point in DEADLY:
        for nth in range(1, min(2, whole["passed"].get(point.name, 0)) + 1):
            name = f"{point.name}-{nth}"
            killed = server.run(case(name, 1, point=point.name, nth=nth))
            assert killed == {"killed": True}, (name, killed)
            kills += 1
            again = server.run(case(name, 2))
            assert "passed" in again, f"{name}: {again.get('error', again)}"
    assert kills >= 8
