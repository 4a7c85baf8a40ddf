"""Checks of lists (P28)."""

from __future__ import annotations

import asyncio

from aos.kernel.ports import IndexRow, Store
from aos.storage.conformance.place import Checks, Factory, same
from aos.storage.conformance.rows import ORDERED

CHECKS = Checks()
OPEN = "default|approvals|open"


def row(key: str, sequence: int = 1, body: bytes | None = b"body", partition: str = OPEN) -> IndexRow:
    return IndexRow(partition, key, sequence, body)


@CHECKS.store
async def a_list_is_in_order(store: Store) -> None:
    rows = tuple(row(key, body=key.encode()) for key in ORDERED if key)
    await store.index_put(rows[::-1])
    same(await store.index_list(OPEN), rows, "ascending by code point")
    for n, (_, key, _, _) in enumerate(rows):
        same(await store.index_list(OPEN, key), rows[n + 1 :], f"those after {key!r}")
    same(await store.index_list(OPEN, "0", limit=3), rows[2:5], "at most limit")


@CHECKS.store
async def only_a_higher_sequence_replaces(store: Store) -> None:
    await store.index_put([row("k", 5, b"five")])
    for sequence, wanted in ((4, b"five"), (5, b"five"), (0, b"five"), (6, b"6"), (5, b"6"), (10, b"10"), (9, b"10")):
        await store.index_put([row("k", sequence, b"%d" % sequence)])
        found = [shown.body for shown in await store.index_list(OPEN)]
        same(found, [wanted], f"after a write with sequence {sequence}")
    await store.index_put([row("k", 10, b"late"), row("other", 1)])
    found = [(shown.key, shown.sequence) for shown in await store.index_list(OPEN)]
    same(found, [("k", 10), ("other", 1)], "a row that is left out does not keep its neighbours out")


@CHECKS.store
async def a_row_stays_off_the_list(store: Store) -> None:
    await store.index_put([row("a"), row("b", 2), row("c")])
    await store.index_put([row("b", 3, None)])
    same([shown.key for shown in await store.index_list(OPEN)], ["a", "c"], "body None is off the list")
    same([shown.key for shown in await store.index_list(OPEN, limit=2)], ["a", "c"], "and takes no place in a page")
    await store.index_put([row("b", 2), row("b", 3)])
    same([shown.key for shown in await store.index_list(OPEN)], ["a", "c"], "an older write can't bring it back")
    await store.index_put([row("b", 4, b"")])
    same(await store.index_list(OPEN, "a", limit=1), (row("b", 4, b""),), "a newer one can; an empty body is a body")
    await store.index_put([row("never", 1, None)])
    await store.index_put([row("never", 1)])
    same(len(await store.index_list(OPEN, "c")), 0, "off the list before it was on it")


@CHECKS.store
async def the_highest_of_one_call_wins(store: Store) -> None:
    await store.index_put([row("k", 1, b"1"), row("k", 3, b"3"), row("k", 2, b"2")])
    same(await store.index_list(OPEN), (row("k", 3, b"3"),), "several writes of one row in one call")
    await store.index_put([])
    same(len(await store.index_list(OPEN)), 1, "no rows are fine")


@CHECKS.store
async def lists_are_apart(store: Store) -> None:
    partitions = ("a", "a|", "a|b", "ab", "A")
    await store.index_put([row("k", 1, name.encode(), name) for name in partitions])
    for name in partitions:
        same(await store.index_list(name), (row("k", 1, name.encode(), name),), f"list {name!r} has its own rows")
    same(await store.index_list("b"), (), "a list that was never written is empty")


@CHECKS.store
async def writers_of_a_row_may_race(store: Store) -> None:
    await asyncio.gather(*(store.index_put([row("k", (n * 37) % 50, b"%d" % n)]) for n in range(50)))
    found = [shown.sequence for shown in await store.index_list(OPEN)]
    same(found, [49], "whatever the order, the highest sequence stays")


@CHECKS.crash
async def lists_survive(factory: Factory) -> None:
    store, _ = await factory.open()
    await store.index_put([row("a", 1), row("b", 7, None)])
    store, _ = await factory.reopen()
    await store.index_put([row("b", 6)])
    same(await store.index_list(OPEN), (row("a", 1),), "rows and sequences survive a kill")
