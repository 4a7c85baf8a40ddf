"""The backlog: events of a suspended agent, or behind a failed one of an ordered type, in order (P20, P25).

The head holds the numbers of the first row and of the next one. While they differ every new event is appended
behind; a turn drains at most 32 rows and sends itself `DRAIN` for the rest.
"""

from __future__ import annotations

import json

from pydantic_core import to_json

from aos.kernel import message as envelope
from aos.kernel.head import Head, Life
from aos.kernel.message import Message
from aos.kernel.receipt import Receipt, Status, Waits

DRAIN = "aos.drain"
ROWS = 32


def encode(message: Message, receipt: Receipt | None) -> bytes:
    """The row: what the receipt knows and a run must not forget, then the envelope."""
    kept = {"journal": receipt.journal, "starts": receipt.starts} if receipt else {"journal": False, "starts": 0}
    return to_json(kept) + b"\n" + envelope.encode(message)


def decode(body: bytes) -> tuple[Message, Receipt]:
    """The message, and its receipt as far as it bears on the run."""
    line, _, rest = body.partition(b"\n")
    message = envelope.decode(rest)
    kept = json.loads(line)
    request = message.event.request_hash
    return message, Receipt(attempt=message.attempt, status=Status.OPEN, request=request, waits=Waits.BACKLOG, **kept)


def waiting(head: Head) -> int:
    return head.backlog[1] - head.backlog[0]


def drains(head: Head) -> bool:
    """Its events may run now."""
    return waiting(head) > 0 and head.life is not Life.SUSPENDED and head.waiting_for is None


def closed(head: Head, key: str) -> str | None:
    """Why a new event has to queue up; None if it may run."""
    if head.life is Life.SUSPENDED:
        return "suspended"
    if head.waiting_for is not None and head.waiting_for != key:
        return "ordered"
    return "behind the backlog" if waiting(head) else None
