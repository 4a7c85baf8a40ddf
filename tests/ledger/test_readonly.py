"""A store as evidence: it may be a file that nobody can write to."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aos.audit import verify_agent
from aos.cli.readonly import ReadOnlyFile
from aos.kernel.errors import StoreUnavailable
from aos.storage.blobs import SqliteBlobs
from aos.storage.sqlite import SqliteStore
from aos.testing import World
from tests.ledger.desk import DESK, Desk, work


@pytest.fixture
async def evidence() -> AsyncIterator[Path]:
    """A store in a folder where permissions count: not root's. Root is nobody for the time being."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "held" / "aos.db"
        async with World(Desk, backend="sqlite", path=path) as world:
            await work(world, 3)
        root = os.geteuid() == 0
        if root:
            for found in (path.parent.parent, path.parent, path):
                os.chown(found, 65534, 65534)
            os.seteuid(65534)
        path.chmod(0o400)
        path.parent.chmod(0o500)
        try:
            yield path
        finally:
            path.parent.chmod(0o700)
            if root:
                os.seteuid(0)


async def records(path: Path) -> int:
    file = ReadOnlyFile(path)
    store, blobs = SqliteStore(file), SqliteBlobs(file)
    await file.open()
    try:
        result = await verify_agent(store, blobs, DESK)
        assert result.exit == 0
        return result.records
    finally:
        await file.close()


async def test_a_file_and_a_folder_that_can_not_be_written(evidence: Path) -> None:
    before = evidence.read_bytes()
    assert await records(evidence) == 3
    assert evidence.read_bytes() == before
    assert [path.name for path in evidence.parent.iterdir()] == ["aos.db"]


async def test_what_still_lies_in_the_log_beside_is_not_left_out(evidence: Path) -> None:
    """A copy of a store that was in use: without its -wal file's last turns it would not be the same evidence."""
    used, held = evidence.parent.parent / "used" / "aos.db", evidence.parent.parent / "copy"
    held.mkdir()
    async with World(Desk, backend="sqlite", path=used) as world:
        await work(world, 3)
        for name in ("aos.db", "aos.db-wal"):
            shutil.copy(used.with_name(name), held / name)
    assert (held / "aos.db-wal").stat().st_size > 0
    held.chmod(0o500)
    with pytest.raises(StoreUnavailable, match=r"aos\.db"):
        await records(held / "aos.db")
    held.chmod(0o700)
    assert await records(held / "aos.db") == 3


async def test_it_can_not_write(evidence: Path) -> None:
    file = ReadOnlyFile(evidence)
    SqliteStore(file)
    await file.open()
    with pytest.raises(StoreUnavailable, match="for reading only"):
        await file.write(lambda conn: conn.execute("DELETE FROM rows"))
    with pytest.raises((StoreUnavailable, sqlite3.Error)):
        file.read("DELETE FROM rows")
    await file.close()


async def test_a_file_that_can_not_be_read(evidence: Path) -> None:
    evidence.chmod(0)
    with pytest.raises(StoreUnavailable, match="can't be read by this user"):
        await records(evidence)
