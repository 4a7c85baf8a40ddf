"""Several processes on one file, and what is left when one of them is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aos.kernel.address import Address
from aos.kernel.errors import StoreUnavailable
from aos.kernel.ports import Batch, Committed, Kind
from aos.storage.sqlite import SqliteStore
from tests.storage.child import COUNTER
from tests.storage.places import JumpingClock, sqlite_file

ROOT = Path(__file__).parents[2]


@contextmanager
def child(command: str, path: Path, argument: str = "") -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "tests.storage.child", command, str(path), argument]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> list[str]:
    """What it says until it ends, which must be well."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


async def test_two_processes_lose_no_update(tmp_path: Path) -> None:
    path = tmp_path / "aos.db"
    with child("increment", path, "200") as one, child("increment", path, "200") as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = sorted(int(line) for process in (one, two) for line in lines(process))
    assert said == list(range(1, 401)), "each version was won by one of them"
    file = sqlite_file(path)
    store = SqliteStore(file)
    await file.open()
    assert (await store.load(COUNTER)).head == b"400"
    rows = await store.read(COUNTER, Kind.RECORD)
    assert [row.key for row in rows] == [f"e{n:06}" for n in range(1, 401)]
    assert len({row.body for row in rows}) == 2
    await file.close()


async def killed(path: Path, after: int) -> dict[str, int]:
    """Kill a process that writes after so many commits that it reported. The last one reported of each agent."""
    reported: dict[str, int] = {}
    with child("write_in_groups", path, "16") as process:
        assert process.stdout is not None
        for _ in range(after):
            agent, count = process.stdout.readline().split()
            reported[agent] = int(count)
        process.kill()
        for line in process.stdout:  # what it had said already
            if line.endswith("\n"):
                agent, count = line.split()
                reported[agent] = int(count)
    return reported


async def check_nothing_is_lost(path: Path, rounds: int) -> None:
    for n in range(rounds):
        reported = await killed(path, 40 + 37 * n % 200)
        file = sqlite_file(path)
        store = SqliteStore(file)
        await file.open()
        for key, count in reported.items():
            agent = Address.of("counter", key)
            head = int((await store.load(agent)).head or b"0")
            assert head in (count, count + 1), "all that was reported, and at most the turn that was being committed"
            for kind in (Kind.RECORD, Kind.RECEIPT):
                rows = await store.read(agent, kind, limit=100_000)
                assert [int(row.key[1:]) for row in rows] == list(range(1, head + 1)), "turns are whole"
        assert file.read("PRAGMA integrity_check") == [("ok",)]
        await file.close()


async def test_kill_9(tmp_path: Path) -> None:
    await check_nothing_is_lost(tmp_path / "aos.db", 3)


@pytest.mark.slow
async def test_kill_9_again_and_again(tmp_path: Path) -> None:
    await check_nothing_is_lost(tmp_path / "aos.db", 15)


async def test_a_lock_that_another_process_holds(tmp_path: Path) -> None:
    file = sqlite_file(tmp_path / "aos.db", clock=JumpingClock())
    store = SqliteStore(file)
    await file.open()
    with child("lock", file.path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(StoreUnavailable, match="another process holds it"):
            await store.commit(COUNTER, Batch("t", None, b"head"))
        assert (await store.load(COUNTER)).version is None, "nothing was written, and reading goes on"
        process.kill()
        process.wait()
        assert await store.commit(COUNTER, Batch("t", None, b"head")) == Committed("1"), "a dead process holds nothing"
    await file.close()


async def test_a_fork_may_not_use_what_its_parent_has_open(tmp_path: Path) -> None:
    """SQLite would believe that the child holds its parent's locks: a commit of the child was lost that way."""
    with child("fork", tmp_path / "aos.db") as process:
        said = lines(process)
    assert [line.partition(":")[0] for line in said] == ["refused", "refused", "refused", "parent"]
    assert all("was open when this process was forked" in line for line in said[:2])
    assert said[3] == "parent: Committed(version='2')"
