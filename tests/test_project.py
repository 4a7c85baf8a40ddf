"""The files around the code say the same thing as the code."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import aos

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME: list[str] = PYPROJECT["project"]["dependencies"]
DEV: list[str] = PYPROJECT["dependency-groups"]["dev"]


def locked(name: str) -> dict[str, str]:
    """Name -> version of a lock file; every entry must bear a hash."""
    entries = re.findall(r"^([\w.-]+)(?:\[[^]]*])?==([^ ;]+)(.*(?:\n    .*)*)", (ROOT / name).read_text(), re.M)
    assert entries
    assert [package for package, _, rest in entries if "--hash=sha256:" not in rest] == []
    return {canonicalize_name(package): version for package, version, _ in entries}


@pytest.mark.parametrize(("lock", "wanted"), [("requirements.txt", RUNTIME), ("requirements-dev.txt", RUNTIME + DEV)])
def test_lock_covers_every_direct_dependency(lock: str, wanted: list[str]) -> None:
    pins = locked(lock)
    for requirement in map(Requirement, wanted):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {lock}: run `make lock`"
        assert version in requirement.specifier, f"{lock} has {version}, wanted {requirement}: run `make lock`"


def test_what_is_tested_is_what_is_deployed() -> None:
    runtime, dev = locked("requirements.txt"), locked("requirements-dev.txt")
    assert runtime == {name: dev.get(name) for name in runtime}


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_lock_names_no_host(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_version_is_said_once() -> None:
    assert aos.__version__ == PYPROJECT["project"]["version"]


def test_changelog_knows_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert {"Unreleased", PYPROJECT["project"]["version"]} & set(headings)
