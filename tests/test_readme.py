"""The README is run: every command and every program in it, in order, in a fresh copy of the work tree.

Run are blocks fenced as ``console`` (commands after ``$ ``; the lines below a command must be what it
prints, ``...`` stands for anything), ``bash`` and ``python`` (a line ``# file: NAME`` writes the block there
instead). Every block starts in the root of the copy. A page of docs/ takes part if it contains MARK.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MARK = "<!-- run by tests/test_readme.py -->"
PAGES = [
    "README.md",
    *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/*.md")) if MARK in p.read_text()),
]
FENCED = re.compile(r"^```(console|bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "--- end of one command ---"


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block (`> ` continues it) with the output that should follow."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = 1 + next((n for n, line in enumerate(lines[1:]) if not line.startswith("> ")), len(lines) - 1)
        yield "\n".join(line.removeprefix("> ") for line in lines[:length]), "\n".join(lines[length:]).strip()


def without_recursion(script: str) -> str:
    # `make test` runs this test, and so do check and cov; a benchmark takes minutes. Make only plans these.
    return re.sub(r"^make (test|check|cov|bench|check-all-pythons)\b", r"make -n \1", script, flags=re.MULTILINE)


class Copy:
    """A fresh copy of the work tree: what git tracks or would track."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        # The environment that runs this test serves the copy too; test_wheel.py covers a clean installation.
        # It must count as up to date, or make would install the copy into it.
        if (Path(sys.prefix) / ".ready").exists():
            (root / ".venv").symlink_to(sys.prefix)
            for name in ("pyproject.toml", "requirements-dev.txt"):
                os.utime(root / name, (0, 0))

    def run(self, *command: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTEST"))}
        done = subprocess.run(
            command,
            check=False,
            cwd=self.root,
            env=environment | {"PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"exit status {done.returncode}:\n{command[-1]}\n{done.stdout}"
        return done.stdout

    def bash(self, script: str) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", without_recursion(script))

    def console(self, block: str) -> None:
        wanted = list(commands(block))
        assert wanted, f"a console block without a `$ `:\n{block}"
        outputs = self.bash("".join(f"{command}\necho '{END}'\n" for command, _ in wanted)).split(f"{END}\n")
        for (command, want), got in zip(wanted, outputs, strict=False):
            same = not want or OutputChecker().check_output(want + "\n", got.strip() + "\n", ELLIPSIS)
            assert same, f"$ {command}\n--- documented:\n{want}\n--- printed:\n{got}"

    def python(self, block: str) -> None:
        if named := re.search(r"^# file: (\S+)$", block, re.MULTILINE):
            (self.root / named[1]).write_text(block)
        else:
            self.run(sys.executable, "-c", block)


@pytest.mark.parametrize("page", PAGES)
def test_page_runs_as_written(page: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    blocks = FENCED.findall((ROOT / page).read_text())
    assert blocks, f"{page} has no block to run"
    for language, block in blocks:
        getattr(copy, language)(block)
