"""The head: all that a turn must know of its agent, in one row.

Its body is three parts, each ended by a line feed but the last: the book-keeping line (sequence, hash, recent keys, …),
the covered line (life cycle, schema version, timers) and the state. A record's `state` is a salted commitment over the
covered line, its line feed and the state, as stored (LEDGER section 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from aos.kernel import ledger
from aos.kernel.address import Address

RECENT = 16
"""Keys of the latest events kept in the head: a short cut before the receipts (P6)."""
RECENT_LENGTH = 16
INLINE_STATE = 480 * 1024
"""Bytes of state that stay in the head; more lies in a blob of the turn (P27, P29)."""
BACKLOG = 10**12
"""Number of the first backlog row; one that must go before the others gets a lower one."""
MAX_STATE = 4 * 1024 * 1024


class Life(StrEnum):
    """Stored life cycle. Running and sleeping are derived, never stored (P25)."""

    CREATED = "created"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    TERMINATED = "terminated"


class Timer(NamedTuple):
    """A token in the head: the timer message that carries another one is stale (P26)."""

    token: str
    due: int
    type: str
    origin: tuple[str, int, str] | None = None
    """Key, attempt and request hash of the event whose receipt waits for this call's answer; only for calls."""
    asker: bytes | None = None
    """The envelope of that event without its data: what an answer to whoever asked needs of it."""


class Unfinished(NamedTuple):
    """The event whose journal is open: no other event of the agent is committed before it ends (P8)."""

    key: str
    until: int
    """ms since the epoch before which only its process may go on; 0: the bus's session lock says who may."""


@dataclass(slots=True, kw_only=True)
class Head:
    """Belongs to one turn, which changes it as its events are handled and writes it back when they are."""

    turn: str = ""
    seq: int = 0
    """Sequence of the next record."""
    hash: str = ""
    """`prev` of the next record."""
    ts: int = 0
    created: int = 0
    life: Life = Life.CREATED
    schema: int = 0
    state: bytes = b""
    """JSON text; empty before the agent was initialised."""
    salt: bytes = b""
    timers: dict[str, Timer] = field(default_factory=dict[str, Timer])
    recent: tuple[str, ...] = ()
    unfinished: Unfinished | None = None
    backlog: tuple[int, int] = (BACKLOG, BACKLOG)
    """Numbers of the first row and of the next one; equal: empty."""
    waiting_for: str | None = None
    """Key of the failed event that later ones of an `ordered` type wait for (P20)."""
    history: int = 0
    """Number of the next history row."""
    dead: int = 0
    """How many open dead letters there are."""
    indexed: str = ""
    """What the list row says, so that it is written only when it changes (P28)."""
    blob: str | None = None
    """Where the state lies when it is too big for the row."""

    @classmethod
    def new(cls, agent: Address, now: int) -> Head:
        return cls(hash=ledger.genesis(agent), created=now)

    def covered(self) -> bytes:
        """The bytes that a record's `state` commits to."""
        line = {"life": self.life, "schema": self.schema, "timers": self.timers}
        return to_json(line) + b"\n" + self.state

    def commitment(self) -> str:
        """What the last record's `state` must say of the state as it is."""
        return ledger.commit(self.salt, self.covered())

    def encode(self, covered: bytes) -> bytes:
        """The row's body. `covered` is `self.covered()`, passed because the caller has hashed it already."""
        book: dict[str, Any] = {
            "turn": self.turn,
            "seq": self.seq,
            "hash": self.hash,
            "ts": self.ts,
            "created": self.created,
            "salt": self.salt.hex(),
            "recent": self.recent,
        }
        for name in _OPTIONAL:
            value = getattr(self, name)
            if value:
                book[name] = value
        if self.backlog != (BACKLOG, BACKLOG):
            book["backlog"] = self.backlog
        line = to_json(book) + b"\n"
        return line if self.blob is not None else line + covered

    def recently(self, key: str) -> bool:
        return key[:RECENT_LENGTH] in self.recent

    def with_recent(self, keys: list[str]) -> tuple[str, ...]:
        return (*self.recent, *(key[:RECENT_LENGTH] for key in keys))[-RECENT:]


_OPTIONAL = ("unfinished", "waiting_for", "history", "dead", "indexed", "blob")


def blob_of(body: bytes) -> str | None:
    """The blob that holds the covered bytes, if the row doesn't."""
    line, _, _ = body.partition(b"\n")
    return from_json(line).get("blob")


def decode(body: bytes, blob: bytes | None = None) -> Head:
    """The head of a row; `blob` are the covered bytes where `blob_of` named some. ValueError if the row is damaged."""
    line, _, covered = body.partition(b"\n")
    book = from_json(line)
    if blob is not None:
        covered = blob
    meta_line, _, state = covered.partition(b"\n")
    meta = from_json(meta_line)
    unfinished, backlog = book.get("unfinished"), book.get("backlog")
    return Head(
        turn=book["turn"],
        seq=book["seq"],
        hash=book["hash"],
        ts=book["ts"],
        created=book["created"],
        life=Life(meta["life"]),
        schema=meta["schema"],
        state=state,
        salt=bytes.fromhex(book["salt"]),
        timers={name: _timer(*parts) for name, parts in meta["timers"].items()},
        recent=tuple(book["recent"]),
        unfinished=None if unfinished is None else Unfinished(*unfinished),
        backlog=(BACKLOG, BACKLOG) if backlog is None else (backlog[0], backlog[1]),
        waiting_for=book.get("waiting_for"),
        history=book.get("history", 0),
        dead=book.get("dead", 0),
        indexed=book.get("indexed", ""),
        blob=book.get("blob"),
    )


def _timer(token: str, due: int, type: str, origin: list[Any] | None, asker: str | None) -> Timer:
    return Timer(
        token,
        due,
        type,
        None if origin is None else (origin[0], origin[1], origin[2]),
        None if asker is None else asker.encode(),
    )
