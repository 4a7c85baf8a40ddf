"""What a context reads: committed rows, under what the turn has drafted so far."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aos.kernel import layout
from aos.kernel.address import Address
from aos.kernel.draft import Draft, merged
from aos.kernel.errors import Unavailable
from aos.kernel.ledger import unsalted
from aos.kernel.partition import Partitions
from aos.kernel.ports import Kind, Row, Verb, Write


class TurnReader:
    """Reads for one event: the store, then the turn's uncommitted writes, then the event's own draft."""

    def __init__(
        self,
        agent: Address,
        partitions: Partitions,
        writes: Mapping[str, Write] | None = None,
        draft: Draft | None = None,
        on_outage: Callable[[Exception], None] | None = None,
    ) -> None:
        """`on_outage` is told when the store can't be read: that is no failure of the handler (P17)."""
        self._agent = agent
        self._partitions = partitions
        self._writes: Mapping[str, Write] = writes if writes is not None else dict[str, Write]()
        self._draft = draft
        self._on_outage = on_outage

    async def tail(self, limit: int) -> list[Any]:
        own = [json.loads(item) for item in self._draft.history] if self._draft else []
        drafted = [json.loads(unsalted(w.body)) for w in self._writes.values() if w.key.startswith(Kind.HISTORY)]
        missing = limit - len(own) - len(drafted)
        stored: list[Any] = []
        if missing > 0:
            rows = await self._read(Kind.HISTORY, limit=missing, reverse=True)
            stored = [json.loads(unsalted(row.body)) for row in reversed(rows)]
        return [*stored, *drafted, *own][-limit:] if limit > 0 else []

    async def row(self, name: str, key: str) -> Any:
        drafted = self._drafted(name)
        if key in drafted:
            body = drafted[key]
            return None if body is None else json.loads(body)
        suffix = layout.keyed(name, key)[1:]
        rows = await self._read(Kind.KEYED, suffix, suffix + "\0", limit=1)
        return json.loads(unsalted(rows[0].body)) if rows else None

    async def range(self, name: str, first: str, last: str | None, limit: int) -> list[tuple[str, Any]]:
        drafted = {k: b for k, b in self._drafted(name).items() if k >= first and (last is None or k < last)}
        prefix = f"{name}|"
        end = f"{name}}}" if last is None else prefix + last
        rows = await self._read(Kind.KEYED, prefix + first, end, limit=limit + len(drafted))
        found: dict[str, bytes | None] = {row.key[1 + len(prefix) :]: unsalted(row.body) for row in rows}
        found.update(drafted)
        kept = ((key, json.loads(body)) for key, body in sorted(found.items()) if body is not None)
        return list(kept)[:limit]

    def _drafted(self, name: str) -> dict[str, bytes | None]:
        prefix = layout.keyed(name, "")
        turn = {
            w.key.removeprefix(prefix): None if w.verb is Verb.DELETE else unsalted(w.body)
            for w in self._writes.values()
            if w.key.startswith(prefix)
        }
        return {**turn, **(merged(self._draft.rows, name) if self._draft else {})}

    async def _read(self, kind: Kind, first: str = "", last: str | None = None, **options: Any) -> list[Row]:
        try:
            return await self._partitions.rows(self._agent, kind, first, last, **options)
        except Unavailable as error:
            if self._on_outage is not None:
                self._on_outage(error)
            raise
