"""What other processes do in tests: python -m tests.storage.child COMMAND FILE ARGUMENT"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

from aos.kernel.address import Address
from aos.kernel.errors import StoreUnavailable
from aos.kernel.ports import Batch, Committed, Verb, Write
from aos.storage.sqlite import SqliteStore
from tests.storage.places import sqlite_file

COUNTER = Address.of("counter", "a")


async def increment(path: Path, times: str) -> None:
    """When a line comes in, add one so many times, and say each when it is committed."""
    file = sqlite_file(path)
    store = SqliteStore(file)
    await file.open()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(times)):
        print(await _add_one(store), flush=True)
    await file.close()


async def _add_one(store: SqliteStore) -> int:
    while True:
        version, head, _ = await store.load(COUNTER)
        count = int(head or b"0") + 1
        row = Write(Verb.INSERT, f"e{count:06}", b"%d" % os.getpid())
        answer = await store.commit(COUNTER, Batch("t", version, b"%d" % count, (row,)))
        if isinstance(answer, Committed):
            return count


async def write_in_groups(path: Path, parallel: str) -> None:
    """Many agents at once until killed; say each commit when it is answered."""
    file = sqlite_file(path)
    store = SqliteStore(file)
    await file.open()

    async def turns(agent: Address) -> None:
        while True:
            version, head, _ = await store.load(agent)
            count = int(head or b"0") + 1
            rows = (Write(Verb.INSERT, f"e{count:06}", b"x" * 900), Write(Verb.INSERT, f"i{count:06}", b"y" * 250))
            answer = await store.commit(agent, Batch("t", version, b"%d" % count, rows))
            assert isinstance(answer, Committed)
            print(agent.key, count, flush=True)

    await asyncio.gather(*(turns(Address.of("counter", str(n))) for n in range(int(parallel))))


async def lock(path: Path, _: str) -> None:
    """Hold the write lock until a line comes in."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.readline()
    conn.close()


async def fork(path: Path, _: str) -> None:
    """What a child may do with what its parent had open: nothing, and it does no harm."""
    file = sqlite_file(path)
    store = SqliteStore(file)
    await file.open()
    await store.commit(COUNTER, Batch("t", None, b"parent"))
    child = os.fork()
    if child == 0:
        other = sqlite_file(path)
        SqliteStore(other)
        for attempt in (file.open(), other.open(), store.commit(COUNTER, Batch("t", "1", b"child"))):
            try:
                await attempt
            except StoreUnavailable as error:
                print("refused:", error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("parent:", await store.commit(COUNTER, Batch("t", "1", b"parent again")), flush=True)
    await file.close()


COMMANDS = {"increment": increment, "write_in_groups": write_in_groups, "lock": lock, "fork": fork}

if __name__ == "__main__":
    asyncio.run(COMMANDS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
