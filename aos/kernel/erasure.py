"""Erasing payloads: the content goes, the proof stands (LEDGER section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aos.kernel import layout, ledger
from aos.kernel.ledger import Entry, Payload
from aos.kernel.ports import Kind, Verb

if TYPE_CHECKING:
    from aos.kernel.cycle import Cycle

CHUNK = 30
"""Records a command erases; the caller goes on with `next`."""


async def erase(cycle: Cycle, first: int, last: int) -> tuple[list[Entry], Any]:
    """Erase the payloads of records `first` to `last`, at most 30 of them. The reply's `next` says where to go on.

    The history items and rows that those records wrote live in rows of their own: an agent deletes rows itself, history
    items are erased here."""
    end = min(last, first + CHUNK - 1)
    erased = 0
    for row in await cycle.partitions.rows(cycle.agent, Kind.RECORD, layout.number(first), layout.number(end + 1)):
        record, payloads = ledger.unpack(row.body)
        live = sum(payload.data is not None for payload in payloads)
        if live:
            erased += live
            gone = [Payload(bytes(ledger.SALT), None) for _ in payloads]
            cycle.turn.write(Verb.PUT, row.key, ledger.pack(record, gone))
        erased += await _erase_history(cycle, record)
    more = end + 1 if end < last else None
    return [{"k": "erased", "first": first, "last": end, "payloads": erased}], {"erased": erased, "next": more}


async def _erase_history(cycle: Cycle, record: bytes) -> int:
    import json

    erased = 0
    for entry in json.loads(record)["entries"]:
        if entry["k"] == "history.appended":
            for n in range(entry["first"], entry["first"] + len(entry["hashes"])):
                cycle.turn.write(Verb.PUT, layout.history(n), b"\nnull")
                erased += 1
    return erased
