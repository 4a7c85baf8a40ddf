"""Every way in which a file can be unusable is an error that names it and says how to mend it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from aos.kernel.errors import StoreUnavailable
from tests.storage.places import JumpingClock, Watched, add, opened, outcomes


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Watched]:
    async with opened(tmp_path / "aos.db") as file:
        yield file


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def test_locked_for_too_long(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with opened(tmp_path / "aos.db", clock=clock, lock_wait=2.0) as file:
        with locked(file.path):
            found = await outcomes(file.write(add(1)), file.write(add(2)))
            assert file.rows() == [], "reading goes on"
        assert [type(error) for error in found] == [StoreUnavailable] * 2
        assert f"{file.path} is locked: another process holds it" in str(found[0])
        assert 2.0 <= sum(clock.sleeps) < 2.1
        assert 0.0001 <= min(clock.sleeps) < max(clock.sleeps) <= 0.0006
        await file.write(add(3))
        assert file.rows() == [3]


async def test_locked_for_a_while(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "aos.db", isolation_level=None)
    clock = JumpingClock(lambda: other.rollback() if len(clock.sleeps) == 5 else None)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        async with opened(tmp_path / "aos.db", clock=clock) as file:
            assert len(clock.sleeps) == 5, "opening waits as well"
            other.execute("BEGIN IMMEDIATE")
            clock.sleeps.clear()
            assert await file.write(add(1)) == 1
            assert len(clock.sleeps) == 5


def test_a_loop_that_is_torn_down_while_it_waits_for_the_lock(tmp_path: Path) -> None:
    """`asyncio.run` cancels every task: nobody hangs, and nothing is written."""
    file = Watched(tmp_path / "aos.db")

    async def main() -> asyncio.Task[object]:
        await file.open()
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.ensure_future(file.write(add(1)))
        for _ in range(3):
            await asyncio.sleep(0)
        return write

    async def afterwards() -> None:
        other.rollback()
        assert file.rows() == []
        assert await file.write(add(2)) == 2
        await file.close()

    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        assert asyncio.run(main()).cancelled()
        asyncio.run(afterwards())


async def test_locked_when_it_is_opened(tmp_path: Path) -> None:
    async with opened(tmp_path / "aos.db") as file, opened(tmp_path / "aos.db"):
        with locked(file.path), pytest.raises(StoreUnavailable, match="another process holds it"):
            await Watched(file.path, clock=JumpingClock(), lock_wait=0.05).open()


async def test_what_is_made_is_the_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a" / "b" / "aos.db") as file:
        await file.write(add(1))
        modes = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    files = {f"a/b/aos.db{tail}": 0o600 for tail in ("", "-wal", "-shm")}
    assert modes == {"a": 0o700, "a/b": 0o700, **files}


async def test_wal_and_full(file: Watched) -> None:
    def pragmas(conn: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout")
        return [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await file.write(pragmas) == ["wal", 2, 4000, 0]


@pytest.fixture
def anyone() -> Iterator[Path]:
    """A folder where permissions count: not root's. Root is nobody for the time being."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() != 0:
            yield folder
            return
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


async def test_a_file_that_may_not_be_written(anyone: Path) -> None:
    async with opened(anyone / "aos.db") as file:
        path = file.path
    path.chmod(0o400)
    with pytest.raises(StoreUnavailable, match=r"aos\.db is read-only for this user; .*chmod u\+w"):
        await Watched(path).open()
    path.chmod(0o600)
    async with opened(path):
        pass


async def test_a_folder_that_may_not_be_written(anyone: Path) -> None:
    (anyone / "shut").mkdir(0o500)
    for path in (anyone / "shut" / "aos.db", anyone / "shut" / "deeper" / "aos.db"):
        with pytest.raises(StoreUnavailable, match=r"aos\.db can't be made: Permission denied"):
            await Watched(path).open()


async def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="can't be opened"):
        await Watched(tmp_path).open()
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="can't be made"):
        await Watched(tmp_path / "file" / "aos.db").open()


async def test_full(file: Watched) -> None:
    def no_room(conn: sqlite3.Connection) -> None:
        conn.execute("PRAGMA max_page_count=20")

    await file.write(no_room)
    found = await outcomes(file.write(add(1)), file.write(add(b"x" * 200_000)), file.write(add(2)))
    assert [found[0], type(found[1]), found[2]] == [1, StoreUnavailable, 2]
    assert f"{file.path} is full" in str(found[1])
    assert file.rows() == [1, 2]
    await file.write(lambda conn: conn.execute("PRAGMA max_page_count=10000"))
    await file.write(add(b"x" * 200_000))
    assert len(file.rows()) == 3


@pytest.fixture
async def closed(tmp_path: Path) -> Path:
    """A file of some size that was closed in good order."""
    async with opened(tmp_path / "aos.db") as file:
        await outcomes(*(file.write(add(b"%04d" % n * 250)) for n in range(100)))
        return file.path


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
async def test_truncated(closed: Path, share: float) -> None:
    os.truncate(closed, int(closed.stat().st_size * share))
    with pytest.raises(StoreUnavailable, match=r"aos\.db is damaged \(malformed or truncated\); restore a backup"):
        await Watched(closed).open()


async def test_emptied_after_a_crash(tmp_path: Path) -> None:
    """SQLite would take it for a new file and delete what the WAL still holds."""
    async with opened(tmp_path / "aos.db") as file:
        await file.write(add(1))
        for tail in ("", "-wal"):
            (tmp_path / f"crashed.db{tail}").write_bytes((tmp_path / f"aos.db{tail}").read_bytes() if tail else b"")
    with pytest.raises(StoreUnavailable, match=r"crashed\.db is damaged"):
        await Watched(tmp_path / "crashed.db").open()
    assert (tmp_path / "crashed.db-wal").stat().st_size > 0, "left as it is"


@pytest.mark.parametrize("content", [b"not a database, but long enough to have a header" * 100, b"short"])
async def test_not_a_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "aos.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"aos\.db is not a database"):
        await Watched(path).open()
    assert path.read_bytes() == content, "left as it is"


async def test_damaged_inside(closed: Path) -> None:
    size = closed.stat().st_size
    with closed.open("r+b") as damaged:
        damaged.seek(size // 4096 // 2 * 4096)
        damaged.write(b"\xff" * 8192)
    async with opened(closed) as file:
        with pytest.raises(StoreUnavailable, match="is damaged"):
            file.rows()
        with pytest.raises(StoreUnavailable, match="is damaged"):
            await file.write(lambda conn: conn.execute("UPDATE t SET x = 1"))


@pytest.mark.parametrize(("version", "who"), [(2, "a newer AOS; upgrade this one"), (0, "an older AOS")])
@pytest.mark.parametrize("schema", ["test", "file"])
async def test_another_version_s_file(closed: Path, schema: str, version: int, who: str) -> None:
    with closing(sqlite3.connect(closed, isolation_level=None)) as other:
        other.execute("UPDATE meta SET version = ? WHERE name = ?", (version, schema))
    with pytest.raises(StoreUnavailable, match=rf"aos\.db was made by {who}"):
        await Watched(closed).open()


async def test_another_program_s_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE bookmarks (url)")
    with pytest.raises(StoreUnavailable, match=r"theirs\.db is another program's database"):
        await Watched(tmp_path / "theirs.db").open()


async def test_a_further_user_of_an_old_file_gets_its_tables(closed: Path) -> None:
    file = Watched(closed)
    file.require("more", ("CREATE TABLE more (y)",), version=7)
    await file.open()
    assert file.read("SELECT * FROM more") == []
    assert ("more", 7) in file.read("SELECT name, version FROM meta")
    await file.close()


async def test_a_file_that_failed_to_open_can_be_opened_later(tmp_path: Path) -> None:
    path = tmp_path / "aos.db"
    path.write_bytes(b"not a database" * 100)
    file = Watched(path)
    with pytest.raises(StoreUnavailable):
        await file.open()
    path.unlink()
    await file.open()
    assert await file.write(add(1)) == 1
    await file.close()
