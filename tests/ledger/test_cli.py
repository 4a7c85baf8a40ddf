"""`aos verify` as it is run: what it takes, what it prints, and its four exit codes."""

from __future__ import annotations

import asyncio
import hashlib
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
from tests.ledger.chains import ORDER, OTHER, chain, lines, payload_lines, write
from tests.ledger.desk import DESK, Desk, replace, work

PROGRAM = "from aos.cli import main; main()"


def aos(*arguments: str | Path, cwd: Path, code: int, program: str = PROGRAM) -> str:
    """What the command prints on both channels; it must exit with this code."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr or program != PROGRAM
    return done.stdout + done.stderr


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


# -------------------------------------------------------------------------------------------------------- exports


def test_version(tmp_path: Path) -> None:
    from aos import __version__

    assert aos("version", cwd=tmp_path, code=0).strip() == __version__


def test_a_whole_export(tmp_path: Path) -> None:
    turns = chain()
    path = write(tmp_path, [*lines(turns), *lines(chain(OTHER, 2))], payload_lines(ORDER, turns))
    said = aos("verify", path, cwd=tmp_path, code=2)
    assert "INCOMPLETE  default/order/4712: 2 records" in said, "its payloads are not in the second file"
    path = write(tmp_path, lines(turns), payload_lines(ORDER, turns))
    said = aos("verify", "audit.jsonl", cwd=tmp_path, code=0)
    assert "ok          default/order/4711: 6 records, 12 payloads\n" in said
    assert "1 log: 1 ok. 6 records, 12 payloads." in said
    assert f"head {hashlib.sha256(bytes(1) + turns[-1].record).hexdigest()}" in said
    assert "Not proved: that nothing is missing after the last record" in said


def test_an_export_without_payloads_says_so(tmp_path: Path) -> None:
    said = aos("verify", write(tmp_path, lines(chain())), cwd=tmp_path, code=0)
    assert "Not proved: the payloads: none were given." in said


def test_payloads_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, lines(chain()))
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_bytes(b"".join(payload_lines(ORDER, chain())))
    assert "12 payloads" in aos("verify", path, "--payloads", elsewhere, cwd=tmp_path, code=0)
    assert "No such file" in aos("verify", path, "--payloads", "nowhere", cwd=tmp_path, code=2)


def test_a_tampered_export(tmp_path: Path) -> None:
    data = lines(chain())
    data[2] = data[2].replace(b'"ms":2', b'"ms":3')
    said = aos("verify", write(tmp_path, [*data, *lines(chain(OTHER))]), cwd=tmp_path, code=1)
    assert "TAMPERED    default/order/4711: 2 records" in said
    assert "first bad sequence 2: its bytes are not those that record 3 links to" in said
    assert "ok          default/order/4712" in said
    assert "2 logs: 1 ok, 1 tampered." in said


def test_an_export_that_was_cut(tmp_path: Path) -> None:
    data = lines(chain())
    said = aos("verify", write(tmp_path, [*data[:3], data[3][:50]]), cwd=tmp_path, code=2)
    assert "the file ends in the middle of record 3" in said


def test_an_empty_export(tmp_path: Path) -> None:
    assert "no records" in aos("verify", write(tmp_path, []), cwd=tmp_path, code=2)


def test_tampered_is_worse_than_incomplete(tmp_path: Path) -> None:
    first, second = lines(chain()), lines(chain(OTHER))
    del first[1]
    aos("verify", write(tmp_path, [*first, *second[:2], second[2][:9]]), cwd=tmp_path, code=1)


def test_json(tmp_path: Path) -> None:
    data = lines(chain(extra={1: [{"k": "moon.landed"}]}))
    data[3] = data[3].replace(b'"ms":3', b'"ms":4')
    found = [
        json.loads(line) for line in aos("verify", write(tmp_path, data), "--json", cwd=tmp_path, code=1).splitlines()
    ]
    assert found[0]["first_bad"] == {"seq": 3, "what": "its bytes are not those that record 4 links to"}
    assert (found[0]["log"], found[0]["status"], found[0]["records"]) == (ORDER.log, "tampered", 3)
    assert found[0]["unknown_kinds"] == {"moon.landed": 1}
    assert (found[1]["exit"], found[1]["tampered"], len(found[1]["not_proved"])) == (1, 1, 3)


def test_nothing_is_printed_raw(tmp_path: Path) -> None:
    """What comes from a file that may be anybody's does not command the terminal."""
    evil = b'{"log":"\\u001b[31m"}\n'
    extra = lines(chain(length=1, extra={0: [{"k": "\x1b[31m"}]}))
    assert "\x1b" not in aos("verify", write(tmp_path, [*extra, evil]), cwd=tmp_path, code=1)


def test_a_file_needs_nothing_heavy(tmp_path: Path) -> None:
    """Quick to start and small: no pydantic, no SQLite, no event loop."""
    path = write(tmp_path, lines(chain()), payload_lines(ORDER, chain()))
    program = """
import sys
from aos.cli import main
try:
    main()
finally:
    print("LOADED", sorted({"pydantic_core", "sqlite3", "asyncio", "azure", "typer", "rich"} & set(sys.modules)))
"""
    assert "LOADED []" in aos("verify", path, cwd=tmp_path, code=0, program=program)


# --------------------------------------------------------------------------------------------------------- stores


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


# ---------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing command"),
        (("verify",), "say what to verify"),
        (("verify", "order/1", "--all"), "say what to verify"),
        (("verify", "--what"), "unrecognized arguments"),
        (("verify", "a", "b"), "unrecognized arguments"),
        (("what",), "No such command"),
        (("verify", "nowhere.jsonl"), "there is no file 'nowhere.jsonl', and it is not an agent either"),
        (("verify", "Order/1"), "is not an agent either"),
        (("verify", "order/" + "x" * 300), "over 128 characters"),
        (("verify", "."), "is a folder"),
        (("verify", "order/1", "--payloads", "x"), "--payloads does not go with a store"),
        (("verify", "there.jsonl", "--export", "x"), "--export does not go with a file"),
        (("verify", "there.jsonl", "--home", "x"), "--home does not go with a file"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "there.jsonl").touch()
    assert said in aos(*arguments, cwd=tmp_path, code=3)


def test_help(tmp_path: Path) -> None:
    assert "0 ok, 1 tampered, 2 incomplete" in aos("verify", "--help", cwd=tmp_path, code=0)
    assert "Prove the ledger" in aos("--help", cwd=tmp_path, code=0)


def test_a_crash_does_not_say_tampered(tmp_path: Path) -> None:
    program = "import aos.cli.verify as v; v.main = lambda _: 1 / 0; from aos.cli import main; main()"
    assert "ZeroDivisionError" in aos("verify", "--all", cwd=tmp_path, code=2, program=program)


def test_nobody_reads_what_is_printed(store: Path) -> None:
    """A pipe that is closed is no tampering either."""
    script = f'{sys.executable} -c "{PROGRAM}" verify --all | true; exit "${{PIPESTATUS[0]}}"'
    for _ in range(3):
        done = subprocess.run(["bash", "-c", script], cwd=store, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2), done.stderr
