"""Checks of `Blobs`."""

from __future__ import annotations

import asyncio

from aos.kernel.ports import Blobs
from aos.storage.conformance.place import Checks, Factory, same

CHECKS = Checks()
NAME = "default/order/1/turn/0"
BIG = bytes(range(256)) * 4096 * 5


@CHECKS.blobs
async def a_blob_is_kept(blobs: Blobs) -> None:
    same(await blobs.get(NAME), None, "there is none yet")
    for n, data in enumerate((b"", b"data", BIG)):
        await blobs.put(f"{NAME}{n}", data)
        same(await blobs.get(f"{NAME}{n}"), data, f"a blob of {len(data)} bytes")
    same(await blobs.get(NAME), None, "names are whole names")


@CHECKS.blobs
async def a_blob_never_changes(blobs: Blobs) -> None:
    await blobs.put(NAME, b"data")
    await blobs.put(NAME, b"data")
    for other in (b"", b"Data", b"data "):
        same(await _refuses(blobs, other), True, "other bytes under a taken name raise ValueError")
        same(await blobs.get(NAME), b"data", "and change nothing")
    await blobs.delete(NAME)
    await blobs.put(NAME, b"other")
    same(await blobs.get(NAME), b"other", "a deleted name is free")


@CHECKS.blobs
async def deleting_is_final_and_never_fails(blobs: Blobs) -> None:
    await blobs.delete(NAME)
    await blobs.put(NAME, b"data")
    await blobs.put(f"{NAME}0", b"other")
    await blobs.delete(NAME)
    await blobs.delete(NAME)
    same(await blobs.get(NAME), None, "gone")
    same(await blobs.list(""), (f"{NAME}0",), "gone from the list, and nothing else with it")


@CHECKS.blobs
async def names_are_listed_by_prefix(blobs: Blobs) -> None:
    names = ("a", "a/1", "a/1/0", "a/1/1", "a/10", "a/2", "a0", "a_b", "axb", "a%", "b", "é", "😀", "A", "a\U0010ffffz")
    await asyncio.gather(*(blobs.put(name, name.encode()) for name in names))
    for prefix in ("", "a", "a/", "a/1", "a/1/", "a_", "a%", "A", "x", "😀", "a\U0010ffff"):
        wanted = tuple(sorted(name for name in names if name.startswith(prefix)))
        same(await blobs.list(prefix), wanted, f"names that begin with {prefix!r}, by code point")
        for n in range(len(wanted)):
            same(await blobs.list(prefix, wanted[n]), wanted[n + 1 :], f"those after {wanted[n]!r}")
            same(await blobs.list(prefix, limit=n + 1), wanted[: n + 1], "at most limit")
    same(await blobs.list("a/", "a0"), (), "after lies beyond the prefix")
    same(await blobs.list("a/1", ""), ("a/1", "a/1/0", "a/1/1", "a/10"), "after lies before the prefix")


@CHECKS.blobs
async def the_same_blob_may_be_put_by_many(blobs: Blobs) -> None:
    await asyncio.gather(*(blobs.put(NAME, b"data") for _ in range(20)))
    same(await blobs.list(""), (NAME,), "one blob")


@CHECKS.crash
async def blobs_survive(factory: Factory) -> None:
    _, blobs = await factory.open()
    await blobs.put(NAME, BIG)
    await blobs.put("gone", b"")
    await blobs.delete("gone")
    _, blobs = await factory.reopen()
    same((await blobs.get(NAME), await blobs.list("")), (BIG, (NAME,)), "blobs survive a kill")


async def _refuses(blobs: Blobs, data: bytes) -> bool:
    try:
        await blobs.put(NAME, data)
    except ValueError:
        return True
    return False
