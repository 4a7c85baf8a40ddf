"""Runs a peer's bench.py in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.frame import HERE, Measure, scratch

PEERS = HERE / "peers"
VENVS = HERE / ".venvs"
# Nothing of the caller's accounts reaches a peer, and no peer reports home.
FOREIGN = ("DBOS", "LANGCHAIN", "LANGGRAPH", "LANGSMITH", "OTEL", "PYTHON")
QUIET = {
    "DO_NOT_TRACK": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "OTEL_SDK_DISABLED": "true",
}
TIMEOUT = 600


class PeerFailed(Exception):
    """A peer could not be installed or measured; the message is the end of what it printed."""


def names() -> list[str]:
    return sorted(path.parent.name for path in PEERS.glob("*/bench.py"))


def run(name: str, quick: bool) -> list[Measure]:
    """The measures of bench.py: the last line of its output, a list of objects with Measure's fields."""
    python = _environment(name)
    with scratch() as folder:
        script, size = str(PEERS / name / "bench.py"), "quick" if quick else "full"
        output = _call([str(python), "-I", script, str(folder), size], name, cwd=folder)
    if not output.strip():
        raise PeerFailed(f"{name}: bench.py printed nothing")
    return [Measure(**fields) for fields in json.loads(output.splitlines()[-1])]


def _environment(name: str) -> Path:
    """The peer's interpreter; built anew when its requirements or our Python have changed."""
    requirements = PEERS / name / "requirements.txt"
    wanted = f"{sys.version}\n{requirements.read_text()}"
    home = VENVS / name
    stamp, python = home / "installed", home / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {name} into {home} ...", file=sys.stderr, flush=True)
    venv.create(home, clear=True, with_pip=True)
    install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(requirements)]
    _call([str(python), *install], name)
    stamp.write_text(wanted)
    return python


def _call(command: list[str], name: str, cwd: Path | None = None) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=kept | QUIET, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"{name}: nothing after {TIMEOUT} s") from None
    if done.returncode:
        raise PeerFailed(f"{name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout
