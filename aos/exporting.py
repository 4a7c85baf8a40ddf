"""Reading the ledger out of a store, page by page, and writing an export of it (LEDGER section 5)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import BinaryIO

from aos.kernel import ledger
from aos.kernel.address import Address
from aos.kernel.errors import StoreUnavailable
from aos.kernel.exported import payload_line
from aos.kernel.ledger import Payload
from aos.kernel.ports import Blobs, Kind, Row, Store

PAGE = 200

Sink = Callable[[int, bytes, Sequence[Payload]], None]
"""Gets every record as it lies in the store, with its sequence and payloads."""


async def export(
    store: Store, blobs: Blobs, agents: Iterable[Address] | None, records_out: BinaryIO, payloads_out: BinaryIO
) -> int:
    """Write the records and payloads of these agents, or of all, in the form of `aos.kernel.exported`.

    Returns how many records. `StoreUnavailable` where one can't be read: then the export is not whole."""
    count = 0
    async for agent in all_agents(store) if agents is None else _in_order(agents):
        sink = writer(agent, records_out, payloads_out)
        async for row in rows(store, agent, Kind.RECORD):
            body = await whole(blobs, row)
            try:
                if body is None:
                    raise ValueError("the blob that holds it is missing")
                sink(int(row.key[1:]), *ledger.unpack(body))
            except (ValueError, struct.error) as error:
                raise StoreUnavailable(f"{agent}: record {row.key[1:]} can't be read: {error}") from None
            count += 1
    return count


def writer(agent: Address, records_out: BinaryIO, payloads_out: BinaryIO) -> Sink:
    """A sink that writes an export."""

    def write(seq: int, record: bytes, payloads: Sequence[Payload]) -> None:
        records_out.write(record + b"\n")
        for salt, data in payloads:
            if data is not None:
                payloads_out.write(payload_line(agent.log, seq, salt, data))

    return write


async def all_agents(store: Store) -> AsyncIterator[Address]:
    """Every agent of the store, in order of their logs."""
    after = ""
    while page := await store.agents(after):
        for agent in page:
            yield agent
        after = page[-1].log


async def rows(
    store: Store, agent: Address, kind: Kind, first: str = "", last: str | None = None
) -> AsyncIterator[Row]:
    """All rows of a kind with `first <= suffix < last`."""
    while True:
        page = await store.read(agent, kind, first, last, limit=PAGE)
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        first = page[-1].key[len(kind) :] + "\0"


async def whole(blobs: Blobs, row: Row) -> bytes | None:
    """The body of a row; None if it lies in a blob that is not there."""
    return await blobs.get(row.body[1:].decode(errors="replace")) if row.body[:1] == b"@" else row.body


async def _in_order(agents: Iterable[Address]) -> AsyncIterator[Address]:
    for agent in sorted(agents, key=lambda agent: agent.log):
        yield agent
