"""What a user installs works: the wheel, in an empty environment, outside the repository."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """Run to a successful end, away from anything that could lend us the repository's own code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_in_an_empty_environment_runs_hello(tmp_path: Path) -> None:
    # No isolation: hatchling is among the locked requirements, so nothing is downloaded to build.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")

    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--require-hashes", "-r", ROOT / "requirements.txt", cwd=tmp_path)
    run(*pip, "--no-deps", "--no-index", wheel, cwd=tmp_path)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(ROOT / "examples" / "hello.py", elsewhere)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert run(python, "hello.py", cwd=elsewhere).strip()
    assert version in run(venv / "bin" / "aos", "version", cwd=elsewhere)
    run(venv / "bin" / "aos", "verify", "--all", cwd=elsewhere)
    imported = run(python, "-c", "import aos; print(aos.__file__)", cwd=elsewhere).strip()
    assert Path(imported).is_relative_to(venv)
