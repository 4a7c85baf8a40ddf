"""Checks of `load`, `read` and `agents`: ranges, order, whose rows they are."""

from __future__ import annotations

from aos.kernel.address import Address
from aos.kernel.ports import Batch, Kind, Row, Store
from aos.storage.conformance.place import Checks, same
from aos.storage.conformance.turns import A, put, written

CHECKS = Checks()

ORDERED = ("", "!", "0", "00", "1", "10", "2", "Z", "a", "ab", "a|b", "b", "~", "é", "ÿ", "\uffef", "😀", "\U0010ffff")
"""By code point; UTF-16 would have the last two before `\\uffef`, and a locale would have a before Z."""

STRANGERS = (
    Address.of("order", "12"),
    Address.of("order", "1.2"),
    Address.of("orde", "r1"),
    Address.of("order1", "1"),
    Address.of("order", "1", "other"),
    Address.of("order", "1", "default2"),
)
"""Whose names begin like agent A's, or hold its name."""


@CHECKS.store
async def load_returns_the_outbox_in_order(store: Store) -> None:
    keys = [f"1o{suffix}" for suffix in ORDERED]
    others = [
        f"{kind}{suffix}" for kind in Kind if kind is not Kind.OUTBOX for suffix in ("", "0", "1o0", "\U0010ffff")
    ]
    await written(store, A, *(put(key, key.encode()) for key in reversed(keys)), *(put(key) for key in others))
    wanted = tuple(Row(key, key.encode()) for key in keys)
    same((await store.load(A)).outbox, wanted, "the outbox, all of it and nothing else, in key order")
    same(await store.read(A, Kind.OUTBOX), wanted, "the outbox is a kind like any other")


@CHECKS.store
async def rows_are_in_order_of_code_points(store: Store) -> None:
    await written(store, A, *(put(f"r{suffix}") for suffix in reversed(ORDERED)))
    same(await _suffixes(store), ORDERED, "ascending by code point")
    same(await _suffixes(store, reverse=True), ORDERED[::-1], "descending with reverse")


@CHECKS.store
async def a_range_is_half_open(store: Store) -> None:
    await written(store, A, *(put(f"r{suffix}") for suffix in ORDERED))
    for first in (*ORDERED, "0~", "x"):
        for last in (*ORDERED, "0~", "x", None):
            wanted = tuple(s for s in ORDERED if s >= first and (last is None or s < last))
            same(await _suffixes(store, first, last), wanted, f"{first!r} <= suffix < {last!r}")
            same(await _suffixes(store, first, last, reverse=True), wanted[::-1], "the same range in reverse")


@CHECKS.store
async def a_limit_takes_the_first_ones(store: Store) -> None:
    await written(store, A, *(put(f"r{n}") for n in range(8)))
    for limit in (1, 3, 6, 7, 100):
        same(await _suffixes(store, "1", "7", limit=limit), tuple("123456")[:limit], f"limit {limit}")
        same(await _suffixes(store, "1", "7", limit=limit, reverse=True), tuple("654321")[:limit], "and in reverse")


@CHECKS.store
async def pages_add_up(store: Store) -> None:
    await written(store, A, *(put(f"r{n:02}") for n in range(25)))
    found: list[str] = []
    while page := await _suffixes(store, f"{found[-1]}\0" if found else "", limit=10):
        found += page
        if len(page) < 10:  # the contract: then there are no more
            break
    same(found, [f"{n:02}" for n in range(25)], "every row once, page by page")


@CHECKS.store
async def kinds_are_apart(store: Store) -> None:
    keys = {kind: tuple(f"{kind}{suffix}" for suffix in ORDERED) for kind in Kind}
    for kind in Kind:
        await written(store, A, *(put(key) for key in keys[kind]))
    for kind in Kind:
        found = tuple(row.key for row in await store.read(A, kind))
        same(found, keys[kind], f"read returns rows of kind {kind.name} and no others")


@CHECKS.store
async def agents_are_apart(store: Store) -> None:
    everyone = (A, *STRANGERS)
    for agent in everyone:
        await written(store, agent, put("e0", agent.log.encode()), put("1o0"), head=agent.log.encode())
    await written(store, A, put("e1"), head=b"changed")
    for agent in STRANGERS:
        snapshot, name = await store.load(agent), agent.log.encode()
        same(snapshot.head, name, f"{agent.log} has a head of its own")
        same(await store.read(agent, Kind.RECORD), (Row("e0", name),), f"{agent.log} has rows of its own")


@CHECKS.store
async def agents_are_listed_in_order_of_log(store: Store) -> None:
    everyone = (A, *STRANGERS, Address.of("order-x", "1"), Address.of("a", "É"), Address.of("a", "😀"))
    for agent in everyone:
        await written(store, agent)
    await store.journal(Address.of("order", "no-head"), Batch("t", None, None, (put("j0"),)))
    wanted = tuple(sorted(everyone, key=lambda agent: agent.log))
    same(await store.agents(), wanted, "every agent with a head, by log")
    same(await store.agents(limit=3), wanted[:3], "at most limit")
    for n, agent in enumerate(wanted):
        same(await store.agents(agent.log), wanted[n + 1 :], f"those after {agent.log}")
    same(await store.agents(f"{wanted[0].log}\0", limit=2), wanted[1:3], "after need not be there")


async def _suffixes(
    store: Store, first: str = "", last: str | None = None, *, limit: int = 1000, reverse: bool = False
) -> tuple[str, ...]:
    rows = await store.read(A, Kind.KEYED, first, last, limit=limit, reverse=reverse)
    return tuple(row.key.removeprefix("r") for row in rows)
