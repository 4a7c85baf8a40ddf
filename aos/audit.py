"""Verifying an agent's ledger with all that the store holds beside it (LEDGER section 5).

Everything is read in pages, and nothing is written. Other processes may go on meanwhile: what hangs on the ledger is
read before the end of the chain, which has to explain it, and what seems wrong is looked at again before it counts.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

from aos.exporting import PAGE, Sink, all_agents, export, rows, whole, writer
from aos.kernel import layout, ledger
from aos.kernel.address import Address
from aos.kernel.ports import Blobs, Kind, Row, Snapshot, Store, Version
from aos.kernel.strict import Malformed, Parser, Record
from aos.kernel.verify import Chain, Result, commit

__all__ = ["Sink", "all_agents", "export", "unreadable", "verify_agent", "writer"]

TRIES = 20
"""How often a row that others keep changing is looked at."""
MAX_SUSPECTS = 1000
"""Keyed rows that are looked at again."""


async def verify_agent(store: Store, blobs: Blobs, agent: Address, sink: Sink | None = None) -> Result:
    """Verify an agent's chain, payloads, history, keyed rows, receipts' references, head and live state.

    What is missing in the store was deleted; a store that can't be read raises `StoreUnavailable`."""
    return await _Audit(store, blobs, agent, sink).run()


def unreadable(agent: Address, why: str) -> Result:
    """The result for an agent that could not be looked at to the end."""
    chain = Chain(agent.log)
    chain.incomplete.append(why)
    return chain.result()


class _Book(NamedTuple):
    """What the head's first line says of the ledger."""

    seq: int
    hash: str
    salt: bytes
    blob: str | None


class _Claims(NamedTuple):
    """What refers to the furthest record: a receipt and its key, the last history row, the last record row."""

    seq: int
    receipt: str
    history: str
    record: str


class _Audit:
    """One agent being verified."""

    def __init__(self, store: Store, blobs: Blobs, agent: Address, sink: Sink | None) -> None:
        self._store = store
        self._blobs = blobs
        self._agent = agent
        self._sink = sink
        self._parse = Parser().parse
        self._chain = Chain(agent.log)
        self._after = ""
        """The last record row that was read."""
        self._history = 0
        """How many history items the chain knows of."""
        self._items: list[tuple[int, str, int]] = []
        """Items that the page in hand has written: number, commitment, sequence."""
        self._keyed: dict[str, bytes] = {}
        """Keyed rows that must be there: sequence of the record that wrote them last, and its commitment."""

    async def run(self) -> Result:
        chain = self._chain
        claims = await self._claims()
        snapshot, book = await self._follow()
        self._check_claims(claims, book)
        if chain.broken is None:
            await self._check_keyed()
            snapshot, book = await self._follow()  # with the erasures that happened meanwhile
        await self._check_head(snapshot, book)
        missing = chain.close(None if book is None else book.hash)
        if missing.total:
            what = f"payloads or history items are gone ({missing.total} in all), and no `erased` entry says so"
            chain.fail(missing.first, what)
        return chain.result()

    # ------------------------------------------------------------------------------------------------- the chain

    async def _follow(self) -> tuple[Snapshot, _Book | None]:
        """Read the head as it is now, and the chain from where it was read last to where the head says it ends."""
        snapshot, chain = await self._store.load(self._agent), self._chain
        book = _book(snapshot.head)
        end = None if book is None else layout.number(book.seq)
        async for row in rows(self._store, self._agent, Kind.RECORD, self._after, end):
            self._after = row.key[1:] + "\0"
            await self._take(row)
            if len(self._items) > PAGE:
                await self._check_items()
        await self._check_items()
        if chain.broken is None and book is not None:
            if book.seq > chain.next:  # what was written since is not what the rest commits to
                chain.stop(chain.next, f"it was deleted: the head knows of {book.seq} records")
            elif book.seq == chain.next:
                chain.settle(book.hash)
        return snapshot, book

    async def _take(self, row: Row) -> None:
        chain, key = self._chain, row.key[1:]
        if chain.broken is None and key != layout.number(chain.next):
            chain.stop(chain.next, f"its row was deleted; the next one is {row.key}")
        body = await whole(self._blobs, row)
        try:
            if body is None:
                raise Malformed("the blob that holds it was deleted")
            data, payloads = ledger.unpack(body)
            if self._sink is not None and key.isdecimal():
                self._sink(int(key), data, payloads)
            record = self._parse(data)
        except (ValueError, struct.error) as error:
            if chain.broken is None:
                chain.stop(chain.next, str(error))
            return
        if chain.feed(record):
            chain.pay(record, payloads)
            self._note(record)

    def _note(self, record: Record) -> None:
        """What the record says of rows that lie elsewhere."""
        for entry in record.entries:
            try:
                if entry["k"] == "history.appended":
                    self._note_history(entry, record.seq)
                elif entry["k"] == "rows.written":
                    self._note_keyed(entry, record.seq)
            except (KeyError, TypeError, ValueError):
                self._chain.fail(record.seq, f"its entry {entry['k']} can't be read")

    def _note_history(self, entry: dict[str, Any], seq: int) -> None:
        if entry["first"] != self._history:
            self._chain.fail(seq, f"it appends to the history at {entry['first']}, where {self._history} comes next")
        for n, commitment in enumerate(entry["hashes"], entry["first"]):
            self._items.append((n, commitment, seq))
        self._history = entry["first"] + len(entry["hashes"])

    def _note_keyed(self, entry: dict[str, Any], seq: int) -> None:
        for row in entry["rows"]:
            key = f"{row['name']}|{row['key']}"
            if row["hash"] is None:
                self._keyed.pop(key, None)
            else:
                self._keyed[key] = seq.to_bytes(8, "big") + bytes.fromhex(row["hash"])

    # -------------------------------------------------------------------------------------- what hangs on the chain

    async def _claims(self) -> _Claims:
        """What refers to the chain, read before it: by then the chain is long enough."""
        receipt = (-1, "")
        async for row in rows(self._store, self._agent, Kind.RECEIPT):
            try:
                receipt = max(receipt, (int(json.loads(row.body)["seq"]), row.key[1:]))
            except (ValueError, KeyError, TypeError):
                self._chain.fail(None, f"the receipt {row.key[1:]} can't be read")
        history = await self._store.read(self._agent, Kind.HISTORY, limit=1, reverse=True)
        record = await self._store.read(self._agent, Kind.RECORD, limit=1, reverse=True)
        return _Claims(*receipt, history[0].key if history else "", record[0].key if record else "")

    def _check_claims(self, claims: _Claims, book: _Book | None) -> None:
        chain = self._chain
        if chain.broken is not None:
            return
        if claims.history >= layout.history(self._history):
            chain.fail(None, f"the history item {claims.history[1:]} is in the store, but no record wrote it")
        if book is not None and claims.record >= layout.record(book.seq):
            chain.stop(book.seq, "the head does not know of it")
        elif claims.seq >= chain.next:
            chain.stop(chain.next, f"it was deleted: the receipt {claims.receipt} refers to record {claims.seq}")

    async def _check_items(self) -> None:
        """Hold history items against the commitments of the records that wrote them."""
        items, self._items = self._items, []
        if not items:
            return
        wanted = {layout.history(n): (n, commitment, seq) for n, commitment, seq in items}
        async for row in rows(self._store, self._agent, Kind.HISTORY, layout.number(items[0][0])):
            if row.key not in wanted:
                break
            n, commitment, seq = wanted.pop(row.key)
            body = await whole(self._blobs, row)
            if body == _ERASED_ITEM:
                self._chain.absent(seq)
            elif _commitment_to(body) != commitment:
                self._chain.fail(seq, f"the history item {n}, which it wrote, was changed")
        for n, _, seq in wanted.values():
            self._chain.fail(seq, f"the history item {n}, which it wrote, was deleted")

    async def _check_keyed(self) -> None:
        """Hold keyed rows against the last commitments to them."""
        unseen, suspects = set(self._keyed), list[str]()
        async for row in rows(self._store, self._agent, Kind.KEYED):
            key = row.key[1:]
            unseen.discard(key)
            if not await self._is_as_written(key, row):
                suspects.append(key)
            if len(suspects) >= MAX_SUSPECTS:
                break
        for key in [*suspects, *sorted(unseen)][:MAX_SUSPECTS]:
            await self._look_again(key)

    async def _is_as_written(self, key: str, row: Row | None) -> bool:
        wanted = self._keyed.get(key)
        if wanted is None or row is None:
            return wanted is None and row is None
        return _commitment_to(await whole(self._blobs, row)) == wanted[8:].hex()

    async def _look_again(self, key: str) -> None:
        """A row that seems wrong: somebody may just have written it."""
        version: Version | None = None
        for _ in range(TRIES):
            before, version = version, (await self._follow())[0].version
            found = await self._store.read(self._agent, Kind.KEYED, key, key + "\0", limit=1)
            if await self._is_as_written(key, found[0] if found else None):
                return
            if version == before:
                break
        else:
            self._chain.incomplete.append(f"the row {key} never stood still")
            return
        wanted = self._keyed.get(key)
        if wanted is None:
            self._chain.fail(None, f"the row {key} is in the store, but no record says so")
        else:
            said = "changed" if found else "deleted"
            self._chain.fail(int.from_bytes(wanted[:8], "big"), f"the row {key}, which it wrote, was {said}")

    # -------------------------------------------------------------------------------------------------- the head

    async def _check_head(self, snapshot: Snapshot, book: _Book | None) -> None:
        """There has to be a head that the chain leads to, and the live state is what the last record commits to."""
        chain, state = self._chain, self._chain.state
        if chain.broken is not None:
            return
        if snapshot.head is None and not chain.next:
            chain.incomplete.append("nothing is recorded for it here; a store alone can't show what was deleted whole")
        elif snapshot.head is None or book is None or book.seq != chain.next:
            chain.fail(None, "the head was deleted, can't be read or went back")
        elif state is not None:
            covered = snapshot.head.partition(b"\n")[2] if book.blob is None else await self._blobs.get(book.blob)
            if covered is None:
                chain.fail(chain.next - 1, "the blob that holds the live state was deleted")
            elif (commit(book.salt, covered), len(covered)) != (state["h"], state["n"]):
                chain.fail(chain.next - 1, "the live state is not the one that it commits to")


_ERASED_ITEM = b"\nnull"


def _commitment_to(body: bytes | None) -> str:
    """The commitment to a history or keyed row, whose salt stands before it; empty for what is none."""
    salt, line_feed, data = (body or b"").partition(b"\n")
    try:
        return commit(bytes.fromhex(salt.decode()), data) if line_feed else ""
    except ValueError:
        return ""


def _book(head: bytes | None) -> _Book | None:
    try:
        book = json.loads((head or b"").partition(b"\n")[0])
        return _Book(int(book["seq"]), str(book["hash"]), bytes.fromhex(book["salt"]), book.get("blob"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
