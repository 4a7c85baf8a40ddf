"""Erasing payloads: the content goes, the proof stands (LEDGER section 3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aos.kernel import layout, ledger
from aos.kernel.ledger import Entry, Payload
from aos.kernel.ports import Kind, Verb

if TYPE_CHECKING:
    from aos.kernel.cycle import Cycle

CHUNK = 30
PAGE = 500
SWEPT = 500
"""Rows looked at together, and blobs that a command deletes; a command again deletes the rest."""
OPERATIONS = 85
"""Records and writes a command takes on; the caller goes on with `next`."""


async def erase(cycle: Cycle, first: int, last: int) -> tuple[list[Entry], Any]:
    """Erase the payloads of records `first` to `last`, at most 30 of them. The reply's `next` says where to go on.

    The history items and rows that those records wrote live in rows of their own: an agent deletes rows itself, history
    items are erased here."""
    end, erased, written = first - 1, 0, 0
    stop = layout.number(last + 1)
    for stored in await cycle.kernel.store.read(cycle.agent, Kind.RECORD, layout.number(first), stop, limit=CHUNK):
        row = await cycle.partitions.whole(stored)
        record, payloads = ledger.unpack(row.body)
        items = list(_history_items(record))
        if written and written + len(items) + 1 > OPERATIONS:
            break
        end = int(row.key[1:])
        written += len(items) + 1
        erased += sum(payload.data is not None for payload in payloads) + len(items)
        if stored.body[:1] == b"@":
            cycle.turn.garbage.append(stored.body[1:].decode())
        gone = [Payload(bytes(ledger.SALT), None) for _ in payloads]
        cycle.turn.write(Verb.PUT, row.key, ledger.pack(record, gone))
        for n in items:
            cycle.turn.write(Verb.PUT, layout.history(n), b"\nnull")
    more = end + 1 if end < last else None
    if more is None:
        cycle.turn.garbage += await _unreferenced(cycle)
    return [{"k": "erased", "first": first, "last": end, "payloads": erased}], {"erased": erased, "next": more}


def _history_items(record: bytes) -> Iterator[int]:
    """Numbers of the history items that a record's turn appended."""
    for entry in json.loads(record)["entries"]:
        if entry["k"] == "history.appended":
            yield from range(entry["first"], entry["first"] + len(entry["hashes"]))


async def _unreferenced(cycle: Cycle) -> list[str]:
    """Blobs of the agent that no row refers to: of rows that are gone (messages delivered, journals ended)."""
    prefix = f"{cycle.agent.log}/"
    blobs, found, used = cycle.kernel.blobs, list[str](), {cycle.turn.head.blob}
    while names := await blobs.list(prefix, found[-1] if found else ""):
        found += names
    if found:
        for kind in Kind:
            used |= await _referred(cycle, kind)
    return [name for name in found if name not in used][:SWEPT]


async def _referred(cycle: Cycle, kind: Kind) -> set[str | None]:
    """The blobs that rows of a kind refer to, a page of rows at a time."""
    used: set[str | None] = set()
    first = ""
    while rows := await cycle.kernel.store.read(cycle.agent, kind, first, limit=PAGE):
        used |= {row.body[1:].decode() for row in rows if row.body[:1] == b"@"}
        first = rows[-1].key.removeprefix(kind) + "\0"
    return used
