"""Dead letters: events that were given up on, kept whole with the reason, redrivable (one word for it everywhere)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from aos.kernel import message as envelope
from aos.kernel.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """`seq` is the record that tells of it; the traceback is payload `trace` of that record, where there is one."""

    message: Message
    reason: str
    error: str
    at: int
    seq: int
    trace: int | None = None
    journal: bool = False
    operations: tuple[dict[str, Any], ...] = ()
    """Effects whose outcome is unknown: `{"op", "name"}` each; an operator answers for them (P10)."""

    def encode(self) -> bytes:
        line = {
            "reason": self.reason,
            "error": self.error,
            "at": self.at,
            "seq": self.seq,
            "trace": self.trace,
            "journal": self.journal,
            "operations": self.operations,
        }
        return to_json(line) + b"\n" + envelope.encode(self.message)

    @classmethod
    def decode(cls, body: bytes) -> DeadLetter:
        line, _, rest = body.partition(b"\n")
        found = json.loads(line)
        found["operations"] = tuple(found["operations"])
        return cls(message=envelope.decode(rest), **found)

    def about(self) -> dict[str, Any]:
        """What the list of dead letters shows."""
        return {"reason": self.reason, "type": self.message.event.type, "at": self.at, "attempt": self.message.attempt}
