"""Checks of `commit` and `journal`: versions, conditions, all or nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from aos.kernel.address import Address
from aos.kernel.ports import (
    Answer,
    Batch,
    Committed,
    Conflict,
    Duplicate,
    Kind,
    Row,
    Snapshot,
    Store,
    Verb,
    Version,
    Write,
)
from aos.storage.conformance.place import Checks, Factory, same

CHECKS = Checks()
A, B = Address.of("order", "1"), Address.of("order", "12")
MEGABYTE = bytes(range(256)) * 4096


def put(key: str, body: bytes = b"body") -> Write:
    return Write(Verb.PUT, key, body)


def insert(key: str, body: bytes = b"body") -> Write:
    return Write(Verb.INSERT, key, body)


def expect(key: str, body: bytes) -> Write:
    return Write(Verb.EXPECT, key, body)


def delete(key: str) -> Write:
    return Write(Verb.DELETE, key)


async def written(store: Store, agent: Address, *writes: Write, head: bytes | None = b"head") -> Version | None:
    """Commit on top of whatever is there, which must succeed. The version afterwards."""
    before = (await store.load(agent)).version
    answer = await store.commit(agent, Batch("t", before, head, writes))
    same(type(answer), Committed, "a commit at the current version is Committed")
    return (await store.load(agent)).version


async def everything(store: Store, agent: Address) -> tuple[Snapshot, tuple[Row, ...]]:
    """All there is of an agent."""
    rows = [row for kind in Kind for row in await store.read(agent, kind)]
    return await store.load(agent), tuple(rows)


async def refused(store: Store, batch: Batch, wanted: Answer, rule: str) -> None:
    """The batch gets that answer, and nothing of agent A is different afterwards."""
    before = await everything(store, A)
    for verb in (store.commit, store.journal):
        same(await verb(A, batch), wanted, rule)
        same(await everything(store, A), before, f"{type(wanted).__name__} has written nothing")


@CHECKS.store
async def an_agent_that_was_never_written_is_empty(store: Store) -> None:
    same(await store.load(A), Snapshot(None, None, ()), "version and head of an unknown agent are None")
    same(await store.read(A, Kind.RECORD), (), "an unknown agent has no rows")


@CHECKS.store
async def the_first_commit_expects_no_version(store: Store) -> None:
    await refused(store, Batch("t", "1", b"head"), Conflict(), "there is no version to expect yet")
    answer = await store.commit(A, Batch("t", None, b"one", (insert("e0"), put("1o0", b"out"))))
    same(isinstance(answer, Committed), True, "the first commit expects None")
    snapshot = await store.load(A)
    same(answer, Committed(snapshot.version), "Committed bears the version that load returns")
    same(snapshot.version is None, False, "a head has a version")
    same(snapshot[1:], (b"one", (Row("1o0", b"out"),)), "load returns what was committed")
    same(await store.read(A, Kind.RECORD), (Row("e0", b"body"),), "read returns what was committed")
    same(await store.load(B), Snapshot(None, None, ()), "a commit is one agent's alone")


@CHECKS.store
async def only_the_current_version_is_replaced(store: Store) -> None:
    first = await written(store, A, head=b"same")
    second = await written(store, A, head=b"same")
    third = await written(store, A, head=b"same")
    same(len({first, second, third}), 3, "a version never returns, even with the same bytes")
    for wrong in (None, first, second, "", "no such version", f" {third}", f"{third}0"):
        batch = Batch("t", wrong, b"new", (insert("e0"), put("b0"), delete("1o0")))
        await refused(store, batch, Conflict(), f"version {wrong!r} is not the head's")
    await written(store, A, insert("e0"), head=b"new")


@CHECKS.store
async def one_of_many_creates(store: Store) -> None:
    answers = await _race(store, [Batch("t", None, b"%d" % n, (insert("e0", b"%d" % n),)) for n in range(20)])
    winner = next(n for n, answer in enumerate(answers) if isinstance(answer, Committed))
    same((await store.load(A)).head, b"%d" % winner, "the head is the winner's")
    same(await store.read(A, Kind.RECORD), (Row("e0", b"%d" % winner),), "the rows are the winner's")


@CHECKS.store
async def one_of_many_wins_a_version(store: Store) -> None:
    for turn in range(3):
        version = await written(store, A)
        key = f"e{turn}"
        batches = [Batch("t", version, b"%d" % n, (insert(key, b"%d" % n),)) for n in range(50)]
        answers = await _race(store, batches)
        winner = next(n for n, answer in enumerate(answers) if isinstance(answer, Committed))
        same(await store.read(A, Kind.RECORD, str(turn)), (Row(key, b"%d" % winner),), "the rows are the winner's")


@CHECKS.store
async def no_update_is_lost(store: Store) -> None:
    async def add_one() -> None:
        while True:
            snapshot = await store.load(A)
            count = int(snapshot.head or b"0") + 1
            batch = Batch("t", snapshot.version, b"%d" % count, (insert(f"e{count:03}"),))
            if isinstance(await store.commit(A, batch), Committed):
                return

    await asyncio.gather(*(add_one() for _ in range(50)))
    same((await store.load(A)).head, b"50", "50 increments by compare-and-set")
    same(len(await store.read(A, Kind.RECORD)), 50, "one row an increment")


@CHECKS.store
async def agents_do_not_conflict(store: Store) -> None:
    agents = [Address.of("order", str(n)) for n in range(150)]
    answers = await asyncio.gather(*(store.commit(a, Batch("t", None, b"h", (insert("e0"),))) for a in agents))
    same({type(answer) for answer in answers}, {Committed}, "commits to different agents don't meet")
    same([a for a in agents if not (await store.load(a)).head], [], "each of them is there")


@CHECKS.store
async def a_row_is_inserted_once(store: Store) -> None:
    await written(store, A, insert("ix"), insert("iy"), put("e0"))
    version = (await store.load(A)).version
    writes = (insert("iz"), insert("iy"), put("e0", b"new"), insert("ix"), delete("e0x"), put("e1"))
    await refused(store, Batch("t", version, b"new", writes), Duplicate(("iy", "ix")), "Duplicate names every key")
    await refused(store, Batch("t", None, None, writes), Duplicate(("iy", "ix")), "with and without a head")
    await written(store, A, delete("ix"))
    await written(store, A, insert("ix", b"again"))
    same(await store.read(A, Kind.RECEIPT, "x", "y"), (Row("ix", b"again"),), "a deleted row may be inserted")


@CHECKS.store
async def a_conflict_comes_before_a_duplicate(store: Store) -> None:
    await written(store, A, insert("ix"), put("j0", b"intent"))
    version = (await store.load(A)).version
    rule = "a Conflict takes precedence over a Duplicate"
    await refused(store, Batch("t", None, b"new", (insert("ix"),)), Conflict(), rule)
    for writes in ((insert("ix"), expect("j0", b"other")), (expect("j0", b"other"), insert("ix"))):
        await refused(store, Batch("t", version, b"new", writes), Conflict(), rule)
        await refused(store, Batch("t", version, None, writes), Conflict(), rule)


@CHECKS.store
async def an_expected_row_holds_exactly_these_bytes(store: Store) -> None:
    await written(store, A, put("j0", b"intent"), put("j1", b""))
    version = (await store.load(A)).version
    for wrong in (expect("j0", b"intent "), expect("j0", b""), expect("j1", b"x"), expect("j2", b"")):
        await refused(store, Batch("t", version, b"new", (put("j3"), wrong)), Conflict(), f"{wrong} does not hold")
        await refused(store, Batch("t", version, None, (put("j3"), wrong)), Conflict(), f"{wrong} does not hold")
    await written(store, A, expect("j0", b"intent"), expect("j1", b""), put("j3"))
    rows = (Row("j0", b"intent"), Row("j1", b""), Row("j3", b"body"))
    same(await store.read(A, Kind.JOURNAL), rows, "an EXPECT writes nothing")


@CHECKS.store
async def an_expected_row_may_be_replaced_or_deleted(store: Store) -> None:
    await written(store, A, put("j0", b"old"), put("j1", b"old"))
    await written(store, A, expect("j0", b"old"), put("j0", b"new"), delete("j1"), expect("j1", b"old"))
    same(await store.read(A, Kind.JOURNAL), (Row("j0", b"new"),), "conditions look at what was there before")


@CHECKS.store
async def rows_are_put_and_deleted(store: Store) -> None:
    await written(store, A, put("ra|1", b"1"), put("ra|2", b"2"), delete("ra|3"))
    await written(store, A, put("ra|1", b"one"), delete("ra|2"), delete("ra|3"), put("ra|4", b""))
    same(await store.read(A, Kind.KEYED), (Row("ra|1", b"one"), Row("ra|4", b"")), "the last write holds")


@CHECKS.store
async def a_batch_without_a_head_leaves_it_alone(store: Store) -> None:
    before = await written(store, A, put("j0", b"intent"))
    for expected in (before, None, "some other version"):
        answer = await store.journal(A, Batch("t", expected, None, (expect("j0", b"intent"), put("j0r", b"result"))))
        same(answer, Committed(None), "Committed bears no version where the head was left alone")
    snapshot = Snapshot(before, b"head", ())
    same(await store.load(A), snapshot, "head and version are as before")
    same(await store.journal(A, Batch("t", None, None)), Committed(None), "an empty batch is one too")
    same(await store.load(A), snapshot, "an empty batch changes nothing")


@CHECKS.store
async def rows_may_come_before_the_head(store: Store) -> None:
    same(await store.journal(A, Batch("t", None, None, (insert("j0"),))), Committed(None), "rows without a head")
    same(await store.load(A), Snapshot(None, None, ()), "there is still no head")
    same(await store.agents(), (), "agents have a head")
    await refused(store, Batch("t", None, b"head", (insert("j0"),)), Duplicate(("j0",)), "the row is there")
    await written(store, A, insert("j1"))
    same(len(await store.read(A, Kind.JOURNAL)), 2, "the rows stay when the head comes")


@CHECKS.store
async def a_journal_may_move_the_head(store: Store) -> None:
    first = await store.journal(A, Batch("t", None, b"one", (insert("j0"),)))
    snapshot = await store.load(A)
    same((first, snapshot.head), (Committed(snapshot.version), b"one"), "journal creates like commit")
    second = await store.journal(A, Batch("t", snapshot.version, b"two"))
    after = await store.load(A)
    same((second, after.head), (Committed(after.version), b"two"), "journal replaces like commit")
    await refused(store, Batch("t", snapshot.version, b"three"), Conflict(), "journal compares like commit")


@CHECKS.store
async def size_and_number_are_no_matter(store: Store) -> None:
    await written(store, A, *(insert(f"r{n:02}", b"%d" % n) for n in range(80)), put("e0", MEGABYTE), head=MEGABYTE)
    await written(store, A, expect("e0", MEGABYTE), put("e1", b""), head=b"")
    same((await store.load(A)).head, b"", "an empty head is a head")
    await written(store, A, put("1o0", MEGABYTE), head=MEGABYTE)
    snapshot = await store.load(A)
    same((snapshot.head, snapshot.outbox), (MEGABYTE, (Row("1o0", MEGABYTE),)), "a megabyte is as good as a byte")
    same(len(await store.read(A, Kind.KEYED)), 80, "80 rows in one batch")


@CHECKS.crash
async def what_was_committed_survives(factory: Factory) -> None:
    store, _ = await factory.open()
    agents = [Address.of("order", str(n)) for n in range(100)]
    await asyncio.gather(*(store.commit(a, Batch("t", None, b"h", (insert("e0"), put("1o0")))) for a in agents))
    await written(store, agents[0], delete("e0"), put("j0"), head=b"second")
    await store.journal(agents[0], Batch("t", None, None, (put("j0r"),)))
    before = [await everything(store, agent) for agent in agents]
    store, _ = await factory.reopen()
    same([await everything(store, agent) for agent in agents], before, "Committed survives a kill")
    await refused(store, Batch("t", None, b"h"), Conflict(), "versions survive a kill")


async def _race(store: Store, batches: Sequence[Batch]) -> list[Answer]:
    """Commit all at once to agent A: one is Committed, all others conflict."""
    answers = await asyncio.gather(*(store.commit(A, batch) for batch in batches))
    counts = Counter(type(answer) for answer in answers)
    same(counts, Counter({Committed: 1, Conflict: len(batches) - 1}), "exactly one wins")
    return answers
