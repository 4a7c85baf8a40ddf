"""`aos verify AGENT` and `aos verify --all`: stores that are whole, changed, in use, not there, or not readable."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aos.kernel import layout
from aos.kernel.address import Address
from aos.testing import World
from tests.ledger.desk import DESK, Desk, replace, work
from tests.ledger.program import PROGRAM, aos


async def make_store(folder: Path, change: Any = None) -> Path:
    """An embedded store with two agents in this folder, changed or not."""
    path = folder / ".aos" / "aos.db"
    async with World(Desk, backend="sqlite", path=path) as world:
        await work(world, 4)
        await work(world, 2, Address.of("desk", "b"))
        if change is not None:
            await change(world)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole store in it, which is not written to."""
    folder = tmp_path_factory.mktemp("store")
    asyncio.run(make_store(folder))
    return folder


def test_a_whole_store(store: Path) -> None:
    said = aos("verify", "--all", cwd=store, code=0)
    assert "ok          default/desk/a: 4 records, 8 payloads\n" in said
    assert "ok          default/desk/b: 2 records, 4 payloads\n" in said
    assert "not cover: receipts" in said


def test_an_agent(store: Path) -> None:
    said = aos("verify", "desk/a", cwd=store, code=0)
    assert "default/desk/a" in said
    assert "default/desk/b" not in said
    assert "nothing is recorded" in aos("verify", "desk/nobody", cwd=store, code=2)


def test_the_store_is_found_from_below_and_by_name(store: Path, tmp_path: Path) -> None:
    below = store / "some" / "where"
    below.mkdir(parents=True, exist_ok=True)
    aos("verify", "--all", cwd=below, code=0)
    aos("verify", "--all", "--home", store / ".aos", cwd=tmp_path, code=0)
    aos("verify", "--all", "--home", store, cwd=tmp_path, code=0)


def test_no_store(tmp_path: Path) -> None:
    said = aos("verify", "--all", "--home", tmp_path / "nowhere", cwd=tmp_path, code=2)
    assert f"no store at {tmp_path / 'nowhere' / 'aos.db'}" in said
    found = json.loads(aos("verify", "order/1", "--json", "--home", "x", cwd=tmp_path, code=2).splitlines()[0])
    assert found["exit"] == 2
    assert not (tmp_path / "x").exists()


async def test_a_tampered_store(tmp_path: Path) -> None:
    await make_store(tmp_path, lambda world: replace(world, layout.record(1), b'"ms":0', b'"ms":9'))
    said = aos("verify", "--all", cwd=tmp_path, code=1)
    assert "first bad sequence 1" in said
    assert "ok          default/desk/b" in said
    aos("verify", "desk/a", cwd=tmp_path, code=1)
    aos("verify", "desk/b", cwd=tmp_path, code=0)


async def test_a_head_deleted_behind_the_kernel(tmp_path: Path) -> None:
    path = await make_store(tmp_path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("UPDATE agents SET head = NULL, version = 0 WHERE log = ?", (DESK.log,))
        conn.commit()
    assert "the head was deleted" in aos("verify", "desk/a", cwd=tmp_path, code=1)


async def test_verifying_changes_nothing(tmp_path: Path) -> None:
    path = await make_store(tmp_path)
    before = path.read_bytes()
    aos("verify", "--all", cwd=tmp_path, code=0)
    assert path.read_bytes() == before


async def test_while_the_store_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / ".aos" / "aos.db"
    async with World(Desk, backend="sqlite", path=path) as world:
        await work(world, 3)
        assert "3 records" in await asyncio.to_thread(aos, "verify", "desk/a", cwd=tmp_path, code=0)
        await work(world, 1)
        assert "4 records" in await asyncio.to_thread(aos, "verify", "desk/a", cwd=tmp_path, code=0)


async def test_stores_that_can_not_be_read(tmp_path: Path) -> None:
    path = await make_store(tmp_path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("UPDATE meta SET version = 99 WHERE name = 'store'")
        conn.commit()
    assert "newer AOS" in aos("verify", "--all", cwd=tmp_path, code=2)
    path.write_bytes(b"not a database at all" * 100)
    assert "is not a database" in aos("verify", "--all", cwd=tmp_path, code=2)
    path.write_bytes(b"")
    assert "is not a store of AOS" in aos("verify", "--all", cwd=tmp_path, code=2)
    path.unlink()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE songs (name TEXT)")
    assert "is not a store of AOS" in aos("verify", "--all", cwd=tmp_path, code=2)


async def test_a_store_without_agents(tmp_path: Path) -> None:
    async with World(Desk, backend="sqlite", path=tmp_path / ".aos" / "aos.db"):
        pass
    assert "there are no agents to verify" in aos("verify", "--all", cwd=tmp_path, code=2)


# ----------------------------------------------------------------------------------- exports written on the way


def test_an_export_is_written(store: Path, tmp_path: Path) -> None:
    aos("verify", "--all", "--export", tmp_path / "audit.jsonl", cwd=store, code=0)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "audit.jsonl": 0o600,
        "audit.payloads.jsonl": 0o600,
    }
    said = aos("verify", tmp_path / "audit.jsonl", cwd=tmp_path, code=0)
    assert "2 logs: 2 ok. 6 records, 12 payloads." in said
    assert "exists already" in aos("verify", "--all", "--export", tmp_path / "audit.jsonl", cwd=store, code=3)
    aos("verify", "desk/b", "--export", tmp_path / "b.jsonl", cwd=store, code=0)
    assert "1 log: 1 ok. 2 records" in aos("verify", "b.jsonl", cwd=tmp_path, code=0)


async def test_a_tampered_store_is_exported_all_the_same(tmp_path: Path) -> None:
    await make_store(tmp_path, lambda world: replace(world, layout.record(1), b'"ms":0', b'"ms":9'))
    aos("verify", "--all", "--export", "audit.jsonl", cwd=tmp_path, code=1)
    assert "first bad sequence 1" in aos("verify", "audit.jsonl", cwd=tmp_path, code=1)


def test_no_export_by_halves(store: Path, tmp_path: Path) -> None:
    said = aos("verify", "desk/nobody", "--export", tmp_path / "audit.jsonl", cwd=store, code=2)
    assert "no export was written" in said
    assert list(tmp_path.iterdir()) == []


def test_nobody_reads_what_is_printed(store: Path) -> None:
    """A pipe that is closed is no tampering either."""
    script = f'{sys.executable} -c "{PROGRAM}" verify --all | true; exit "${{PIPESTATUS[0]}}"'
    for _ in range(3):
        done = subprocess.run(["bash", "-c", script], cwd=store, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2), done.stderr
