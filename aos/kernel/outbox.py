"""The outbox row: all messages of a turn and the list rows that follow from it, committed with the turn (P13, P16)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aos.kernel import framing, message
from aos.kernel.message import Message
from aos.kernel.ports import IndexRow


def encode(messages: Sequence[Message], index: Sequence[IndexRow]) -> bytes:
    rows = [[row.partition, row.key, row.sequence, None if row.body is None else row.body.decode()] for row in index]
    return framing.join([json.dumps(rows, ensure_ascii=False).encode(), *(message.encode(m) for m in messages)])


def decode(body: bytes) -> tuple[list[Message], list[IndexRow]]:
    first, *rest = framing.split(body)
    rows = [IndexRow(p, k, s, None if b is None else b.encode()) for p, k, s, b in json.loads(first)]
    return [message.decode(part) for part in rest], rows
