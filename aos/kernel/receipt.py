"""Receipts: what became of an event, with the reference to its reply (P5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic_core import from_json, to_json

from aos.kernel.message import Message

RETENTION_DAYS = 90


class Status(StrEnum):
    """An event's outcome."""

    OPEN = "open"
    HANDLED = "handled"
    DEAD = "dead"
    DISCARDED = "discarded"


class Waits(StrEnum):
    """Why an open receipt is open."""

    EFFECT = "effect"
    """Its handler has begun an effect; the event is the head's `unfinished`."""
    RETRY = "retry"
    """It failed, or an operator sent it again; the attempt in the receipt is on its way."""
    ANSWER = "answer"
    """Its handler returned Pending."""
    BACKLOG = "backlog"
    """It lies in the backlog."""
    START = "start"
    """It runs alone because earlier deliveries ended without a word (P18)."""


@dataclass(slots=True, kw_only=True)
class Receipt:
    """`reply` is the index of the reply in the payloads of record `seq`."""

    attempt: int
    status: Status
    request: str
    turn: str = ""
    seq: int = -1
    waits: Waits | None = None
    reply: int | None = None
    reason: str | None = None
    starts: int = 0
    at: int = 0
    journal: bool = False
    """The event has a journal, which a retry must read."""

    def encode(self) -> bytes:
        found: dict[str, object] = {
            "attempt": self.attempt,
            "status": self.status,
            "request": self.request,
            "turn": self.turn,
            "seq": self.seq,
            "at": self.at,
        }
        for name, value in (("waits", self.waits), ("reply", self.reply), ("reason", self.reason)):
            if value is not None:
                found[name] = value
        if self.starts:
            found["starts"] = self.starts
        if self.journal:
            found["journal"] = True
        return to_json(found)

    @classmethod
    def decode(cls, body: bytes) -> Receipt:
        found = from_json(body)
        waits = found.get("waits")
        found["status"] = Status(found["status"])
        found["waits"] = None if waits is None else Waits(waits)
        return cls(**found)

    def fresh(self, message: Message) -> bool:
        """Whether this delivery is to be handled: the event is to be tried, and this is not an earlier attempt (P5)."""
        return self.status is Status.OPEN and self.waits in _TO_BE_TRIED and message.attempt >= self.attempt


_TO_BE_TRIED = (Waits.EFFECT, Waits.RETRY, Waits.START)
