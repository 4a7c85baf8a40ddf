"""The file that store and bus share: group commit and its faults."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aos.kernel.errors import StoreBusy, StoreUnavailable
from aos.sqlitefile import GROUP, CommitUnknown
from tests.storage.places import Watched, add, opened, outcomes


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Watched]:
    async with opened(tmp_path / "aos.db") as file:
        yield file


def refuse(conn: sqlite3.Connection) -> None:
    """Checks first: it has written nothing when it raises."""
    raise KeyError("refused")


def spoil(conn: sqlite3.Connection) -> None:
    add("spoilt")(conn)
    raise KeyError("spoilt")


def wait_for(event: threading.Event) -> None:
    assert event.wait(10)


async def test_concurrent_writes_share_a_commit_and_each_gets_its_own_result(file: Watched) -> None:
    count = GROUP + 36
    assert await outcomes(*(file.write(add(n)) for n in range(count))) == list(range(count))
    assert file.rows() == list(range(count)), "in the order in which they came"
    assert len(file.commits) == 2


async def test_a_lone_write_commits_inline_and_a_group_in_a_thread(file: Watched) -> None:
    await file.write(add(1))
    await outcomes(file.write(add(2)), file.write(add(3)))
    main = threading.current_thread()
    assert [thread is main for thread in file.commits] == [True, False]
    assert file.commits[1].name.startswith("aos-commit")


async def test_the_loop_runs_and_work_gathers_while_a_group_commits(file: Watched) -> None:
    go_on = threading.Event()
    file.before_commit = lambda conn: wait_for(go_on)
    first = [asyncio.ensure_future(file.write(add(n))) for n in range(2)]
    while not file.commits:
        await asyncio.sleep(0)
    assert file.rows() == [], "nobody reads what is not committed"
    second = [asyncio.ensure_future(file.write(add(n))) for n in range(2, 5)]
    await asyncio.sleep(0)
    assert not any(write.done() for write in first + second)
    go_on.set()
    assert await outcomes(*first, *second) == [0, 1, 2, 3, 4]
    assert len(file.commits) == 2


async def test_a_write_reads_what_its_neighbours_wrote(file: Watched) -> None:
    def last(conn: sqlite3.Connection) -> object:
        return conn.execute("SELECT x FROM t ORDER BY rowid DESC").fetchone()

    assert await outcomes(file.write(add(1)), file.write(last)) == [1, (1,)]


async def test_p32_what_refuses_before_it_writes_does_not_touch_its_neighbours(file: Watched) -> None:
    first, refused, last = await outcomes(file.write(add(1)), file.write(refuse), file.write(add(2)))
    assert (first, repr(refused), last) == (1, "KeyError('refused')", 2)
    assert file.rows() == [1, 2]
    assert len(file.commits) == 1


async def test_what_raises_after_it_wrote_is_rolled_back_and_its_neighbours_start_afresh(file: Watched) -> None:
    found = await outcomes(
        file.write(add(1)), file.write(refuse), file.write(spoil), file.write(spoil), file.write(add(2))
    )
    assert [found[0], found[4]] == [1, 2]
    assert [repr(error) for error in found[1:4]] == ["KeyError('refused')", "KeyError('spoilt')", "KeyError('spoilt')"]
    assert file.rows() == [1, 2]
    await file.write(add(3))
    assert file.rows() == [1, 2, 3]


async def test_a_bug_in_sql_is_shown_as_it_is(file: Watched) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await file.write(lambda conn: conn.execute("INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        file.read("SELECT * FROM nowhere")
    with pytest.raises(sqlite3.ProgrammingError):
        file.read("SELECT ?", ())
    await file.write(add(1))
    assert file.rows() == [1]


async def test_who_reads_can_not_write(file: Watched) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        file.read("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
async def test_p32_a_failed_commit_is_unknown_for_each(file: Watched, committed: bool) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    if committed:
        file.after_commit = fail
    else:
        file.before_commit = fail
    for count in (1, 3):
        found = await outcomes(*(file.write(add(n)) for n in range(count)), file.write(refuse))
        assert [type(error) for error in found] == [CommitUnknown] * count + [KeyError]
        assert "disk I/O error" in str(found[0])
        assert len({id(error) for error in found}) == count + 1, "an error each: they gather tracebacks"
    assert file.rows() == ([0, 0, 1, 2] if committed else [])
    file.after_commit = file.before_commit = lambda *_: None
    await file.write(add("later"))
    assert file.rows()[-1] == "later"


async def test_a_commit_for_which_the_disk_was_full_certainly_did_not_happen(file: Watched) -> None:
    def fail(_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    file.before_commit = fail
    found = await outcomes(file.write(add(1)), file.write(add(2)))
    assert [type(error) for error in found] == [StoreUnavailable] * 2
    assert "aos.db is full" in str(found[0])
    assert file.rows() == []


async def test_a_connection_that_can_not_roll_back_is_replaced(file: Watched) -> None:
    def broken(conn: sqlite3.Connection) -> None:
        conn.close()

    file.before_commit = broken
    assert [type(error) for error in await outcomes(file.write(add(1)), file.write(add(2)))] == [CommitUnknown] * 2
    file.before_commit = lambda conn: None
    assert await file.write(add(3)) == 3
    assert file.rows() == [3]


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path / "aos.db", queue=4) as file:
        found = await outcomes(*(file.write(add(n)) for n in range(6)))
        assert found[:4] == [0, 1, 2, 3]
        assert [type(error) for error in found[4:]] == [StoreBusy] * 2
        assert "4 writes are waiting" in str(found[4])
        assert await file.write(add("room again")) == "room again"
        assert file.rows() == [0, 1, 2, 3, "room again"]


async def test_a_cancelled_caller_does_not_take_its_write_back(file: Watched) -> None:
    waiting = [asyncio.ensure_future(file.write(add(n))) for n in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    assert [type(found) for found in await outcomes(*waiting)] == [int, asyncio.CancelledError, int]
    assert file.rows() == [0, 1, 2]


async def test_a_cancelled_caller_s_write_survives_a_spoilt_group(file: Watched) -> None:
    waiting = [asyncio.ensure_future(file.write(work)) for work in (add(0), spoil, add(2))]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[2].cancel()
    await outcomes(*waiting)
    await file.write(add(3))
    assert file.rows() == [0, 2, 3]


async def test_cancelled_during_the_commit(file: Watched) -> None:
    go_on = threading.Event()
    file.before_commit = lambda conn: wait_for(go_on)
    waiting = [asyncio.ensure_future(file.write(add(n))) for n in range(2)]
    while not file.commits:
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert [type(found) for found in await outcomes(*waiting)] == [asyncio.CancelledError, int]
    assert file.rows() == [0, 1]


def test_a_loop_that_is_torn_down_finishes_its_group(tmp_path: Path) -> None:
    """`asyncio.run` cancels every task, the writer's too, while the thread commits."""

    async def main() -> Watched:
        file = Watched(tmp_path / "aos.db")
        await file.open()
        tasks = {asyncio.ensure_future(file.write(add(n))) for n in range(GROUP + 2)}
        while not file.commits:
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        return file

    file = asyncio.run(main())
    assert file.rows() == list(range(GROUP + 2))
    asyncio.run(file.close())


async def test_close_finishes_what_was_handed_over(tmp_path: Path) -> None:
    async with opened(tmp_path / "aos.db") as file:
        writes = [asyncio.ensure_future(file.write(add(n))) for n in range(3 * GROUP)]
        await asyncio.sleep(0)
        await file.close()
        assert await outcomes(*writes) == list(range(3 * GROUP))
        await file.close()
        with pytest.raises(StoreUnavailable, match="not open"):
            await file.write(add(1))
        with pytest.raises(StoreUnavailable, match="not open"):
            file.rows()
        await file.open()
        await file.open()
        assert len(file.rows()) == 3 * GROUP


async def test_tables_are_declared_before_the_file_is_open(file: Watched) -> None:
    with pytest.raises(RuntimeError, match="declared before"):
        file.require("late", ("CREATE TABLE late (x)",))
