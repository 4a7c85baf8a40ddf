"""The command as it is run: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = "from aos.cli import main; main()"


def aos(*arguments: str | Path, cwd: Path, code: int, program: str = PROGRAM) -> str:
    """What the command prints on both channels; it must exit with this code."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr or program != PROGRAM
    return done.stdout + done.stderr
