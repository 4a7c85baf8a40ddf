"""Hello counts, and a second start goes on counting."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aos.testing import World
from examples.hello import Add, Counter

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
@pytest.mark.parametrize("hostile", [False, True])
async def test_the_counter_counts(backend, hostile) -> None:
    async with World(Counter, backend=backend, hostile=hostile) as world:
        assert await world.ask("counter/a", "counter.add", Add(by=2)) == 2
        assert await world.ask("counter/a", "counter.add", Add(by=3)) == 5
        assert await world.ask("counter/b", "counter.add", Add(by=1)) == 1
        assert await world.query("counter/a", "total") == 5
        world.verify()


def test_a_second_start_goes_on_counting(tmp_path: Path) -> None:
    def start() -> str:
        return subprocess.run(
            [sys.executable, "-m", "examples.hello"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert start() == "counter/a is at 1\n"
    assert start() == "counter/a is at 2\n"
    assert (tmp_path / ".aos" / "aos.db").exists()


def test_the_readme_shows_the_same_program() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = readme.partition("# file: hello.py\n")[2].partition("```")[0]
    assert (ROOT / "examples" / "hello.py").read_text().endswith(shown)
