"""The outbox row: all messages of a turn, the list rows that follow from it and the blobs that it
leaves behind, committed with the turn (P13, P16)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from aos.kernel import framing, message
from aos.kernel.message import Message
from aos.kernel.ports import IndexRow


@dataclass(frozen=True, slots=True)
class Outbox:
    """What is left to do after a commit."""

    messages: Sequence[Message]
    index: Sequence[IndexRow]
    garbage: Sequence[str]
    """Blobs that nothing refers to any more."""

    def __bool__(self) -> bool:
        return bool(self.messages or self.index or self.garbage)


def encode(outbox: Outbox) -> bytes:
    rows = [
        [row.partition, row.key, row.sequence, None if row.body is None else row.body.decode()] for row in outbox.index
    ]
    first = json.dumps([rows, list(outbox.garbage)], ensure_ascii=False).encode()
    return framing.join([first, *(message.encode(m) for m in outbox.messages)])


def decode(body: bytes) -> Outbox:
    first, *rest = framing.split(body)
    rows, garbage = json.loads(first)
    index = [IndexRow(p, k, s, None if b is None else b.encode()) for p, k, s, b in rows]
    return Outbox([message.decode(part) for part in rest], index, garbage)
