"""The journal of one event: what its effects were about to do and what came of them (P8, P9).

Rows lie at `j<key>|<n>`: row 0 holds the event whole with the time and the seed of its run, then an intent and a
result a piece. Everything here is data; `aos.kernel.dispatcher` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from aos.kernel import layout, message
from aos.kernel.message import Message
from aos.kernel.ports import Kind, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One effect of one event. `id` is handed on as idempotency key and never changes."""

    n: int
    name: str
    ordinal: str
    """The key given by the handler, or the count of this name within the event."""
    id: str
    args: str
    """SHA-256 of the arguments: a run again must ask for the same (P9)."""
    attempt: int
    turn: str
    idempotent: bool = False

    def encode(self) -> bytes:
        return to_json({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def decode(cls, body: bytes) -> Operation:
        return cls(**json.loads(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of an operation. `value` is JSON text; `error` says why it certainly did not happen."""

    operation: Operation
    ok: bool
    value: bytes = b"null"
    error: str | None = None
    by: str | None = None
    """The operator who said so, where one did."""

    def encode(self) -> bytes:
        line = {"ok": self.ok, "error": self.error, "by": self.by}
        return to_json(line) + b"\n" + self.operation.encode() + b"\n" + self.value

    @classmethod
    def decode(cls, body: bytes) -> Result:
        line, operation, value = body.split(b"\n", 2)
        return cls(operation=Operation.decode(operation), value=value, **json.loads(line))


@dataclass(slots=True)
class Journal:
    """The journal of an event that is being run. Empty and unwritten until its first effect."""

    message: Message
    now: int
    seed: int
    written: bool = False
    intents: dict[tuple[str, str], Operation] = field(default_factory=dict[tuple[str, str], Operation])
    results: dict[tuple[str, str], Result] = field(default_factory=dict[tuple[str, str], Result])
    next: int = 1

    def opening(self) -> bytes:
        """The body of row 0."""
        return to_json({"now": self.now, "seed": self.seed}) + b"\n" + message.encode(self.message)

    def keep(self, operation: Operation) -> None:
        self.intents[operation.name, operation.ordinal] = operation
        self.next = max(self.next, operation.n + 1)

    def keep_result(self, result: Result) -> None:
        self.keep(result.operation)
        self.results[result.operation.name, result.operation.ordinal] = result

    def row_keys(self) -> list[str]:
        """Every row key that this journal may have."""
        key = self.message.event.key
        found = [layout.journal(key, 0)] if self.written else []
        for operation in self.intents.values():
            found += [layout.journal(key, operation.n), layout.journal(key, operation.n, result=True)]
        return found

    def open(self) -> list[Operation]:
        """Operations without a result: their outcome is unknown."""
        return [operation for name, operation in self.intents.items() if name not in self.results]


def load(rows: Iterable[Row], key: str) -> Journal | None:
    """The journal of the rows of `j<key>|`; None where there is none."""
    found: Journal | None = None
    prefix = f"{Kind.JOURNAL}{key}|"
    for row in rows:
        suffix = row.key.removeprefix(prefix)
        if suffix == layout.journal(key, 0).removeprefix(prefix):
            line, _, body = row.body.partition(b"\n")
            opening: dict[str, Any] = json.loads(line)
            found = Journal(message.decode(body), opening["now"], opening["seed"], written=True)
        elif found is not None and suffix.endswith("r"):
            found.keep_result(Result.decode(row.body))
        elif found is not None:
            found.keep(Operation.decode(row.body))
    return found
