"""What the kernel needs of the world. One screen; everything else composes it.

A docstring here is the specification of the method: what it returns, what it raises, what can be true afterwards.
`aos.storage.conformance` and `aos.messaging.conformance` check an implementation against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

from aos.kernel.address import Address

# ---------------------------------------------------------------------------------------------- store

Version: TypeAlias = str
"""Opaque: what a head's row is compared with. Never parsed, never ordered, only compared for equality."""


class Kind(StrEnum):
    """The first letter of a row key; rows sort so that what a turn needs is one range (ARCHITECTURE 6)."""

    OUTBOX = "1o"
    BACKLOG = "b"
    DEAD_LETTER = "d"
    RECORD = "e"
    HISTORY = "h"
    RECEIPT = "i"
    JOURNAL = "j"
    KEYED = "r"


class Row(NamedTuple):
    """One row of an agent's partition. `key` includes its kind's prefix."""

    key: str
    body: bytes


class Snapshot(NamedTuple):
    """What a turn reads. `version` and `head` are None for an agent that was never written."""

    version: Version | None
    head: bytes | None
    outbox: tuple[Row, ...]


class Verb(StrEnum):
    """What a write asks of one row."""

    INSERT = "insert"
    """The row must not be there; if it is, the whole batch is a Duplicate."""
    PUT = "put"
    """Written whether or not it is there."""
    DELETE = "delete"
    """Gone afterwards; a missing row is fine."""
    EXPECT = "expect"
    """The row must hold exactly these bytes; otherwise the whole batch is a Conflict. Writes nothing."""


class Write(NamedTuple):
    """One row of a batch."""

    verb: Verb
    key: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Batch:
    """Writes to one agent's partition that happen together or not at all.

    `head` None leaves the head and its version alone (a journal's result row); otherwise the head is replaced
    if its version is still `expected` (None: there must be no head yet).
    """

    turn: str
    expected: Version | None
    head: bytes | None
    writes: tuple[Write, ...] = ()


class Committed(NamedTuple):
    """Done and durable. `version` is the head's new version; None where the batch left the head alone."""

    version: Version | None


class Conflict(NamedTuple):
    """Nothing was written: the head is not at the expected version, or an EXPECT did not hold."""


class Duplicate(NamedTuple):
    """Nothing was written: these rows of INSERT writes were there already. A Conflict takes precedence."""

    keys: tuple[str, ...]


class Unknown(NamedTuple):
    """Written whole or not at all, and the store can't say which (a lost response, a failed COMMIT).

    The caller finds out by reading its own rows back (P14)."""

    cause: str


Answer: TypeAlias = Committed | Conflict | Duplicate | Unknown


class IndexRow(NamedTuple):
    """One row of a list. `sequence` is the writing agent's; only a higher one replaces a row (P28).

    `body` None is a row that is off the list, kept so that an older write can't bring it back."""

    partition: str
    key: str
    sequence: int
    body: bytes | None


class Store(Protocol):
    """Durable rows, one partition an agent. Every verb raises `StoreUnavailable` when it could not be carried out,
    and never returns "nothing" for "could not read". What was answered `Committed` survives kill -9."""

    async def load(self, agent: Address) -> Snapshot:
        """One range read: the head and the undelivered outbox, in key order, of one moment."""
        ...

    async def commit(self, agent: Address, batch: Batch) -> Answer:
        """Write a turn. Conditions are all checked before anything is written."""
        ...

    async def journal(self, agent: Address, batch: Batch) -> Answer:
        """Write journal rows between turns. Same conditions and answers as `commit`."""
        ...

    async def read(
        self,
        agent: Address,
        kind: Kind,
        first: str = "",
        last: str | None = None,
        *,
        limit: int = 1000,
        reverse: bool = False,
    ) -> tuple[Row, ...]:
        """Rows of a kind with `first <= suffix < last` (suffix: the key without the kind's prefix), ascending by
        code point, descending with `reverse`; at most `limit` of them. Fewer than `limit` means there are no more."""
        ...

    async def index_put(self, rows: Sequence[IndexRow]) -> None:
        """Put list rows; one whose sequence is not higher than the stored one's is silently left out."""
        ...

    async def index_list(self, partition: str, after: str = "", *, limit: int = 100) -> tuple[IndexRow, ...]:
        """Rows of a partition with `key > after`, ascending, without the ones that are off the list."""
        ...

    async def agents(self, after: str = "", *, limit: int = 1000) -> tuple[Address, ...]:
        """Every agent with a head whose `log` is > `after`, in order of `log`. For administration only."""
        ...


class Blobs(Protocol):
    """Big bytes by name. Names are `tenant/type/key/turn/n`. Raises `StoreUnavailable`."""

    async def put(self, name: str, data: bytes) -> None:
        """Durable when it returns. The same bytes again are fine; other bytes under a taken name raise ValueError."""
        ...

    async def get(self, name: str) -> bytes | None:
        """The bytes, or None where there is no such blob."""
        ...

    async def delete(self, name: str) -> None:
        """Gone afterwards; a missing one is fine."""
        ...

    async def list(self, prefix: str, after: str = "", *, limit: int = 1000) -> tuple[str, ...]:
        """Names that begin with `prefix` and are > `after`, ascending."""
        ...


# ---------------------------------------------------------------------------------------------- bus


class Parcel(NamedTuple):
    """What goes over the bus. The bus never looks into `body`."""

    id: str
    session: str
    body: bytes
    due: int | None = None
    """Earliest delivery, ms since the epoch; None: now."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A parcel in hand, under the session's lock. `count` is 1 on the first delivery; `handle` is the bus's own."""

    parcel: Parcel
    count: int
    handle: object


class Session(Protocol):
    """Exclusive hold on one agent's messages. After the lock is lost every method but `release` raises `LockLost`."""

    @property
    def name(self) -> str: ...

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Up to `limit` due messages in the order in which they were sent that are not in hand yet; empty when there
        are none now. The same message is not handed out twice to one holder unless abandoned."""
        ...

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        """They are done and gone."""
        ...

    async def abandon(self, deliveries: Sequence[Delivery], due: int | None = None) -> None:
        """Give them back, to be delivered again (count + 1), not before `due` (ms since the epoch)."""
        ...

    async def renew(self) -> None:
        """Hold the lock for another full period."""
        ...

    async def release(self) -> None:
        """Let go. What is still in hand is delivered again, to whoever takes the session next, with its count
        unchanged. Never raises for a lost lock."""
        ...


class LockLost(Exception):
    """The session's lock expired or was taken: somebody else may hold it."""


class Bus(Protocol):
    """At-least-once messages, in order within a session, with delivery times. Raises `BusUnavailable`.

    Duplicates, reordering and two holders of one session must do no harm: the store's version decides."""

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Durable when it returns. When it raises, some, all or none were sent."""
        ...

    async def accept(self, limit: int, *, wait: float = 0.0) -> Sequence[Session]:
        """Lock up to `limit` sessions that have due messages and no holder. Waits at most `wait` seconds for the
        first; empty when there is none."""
        ...

    async def depth(self, due: int | None = None) -> int:
        """Messages that were sent and not completed; with `due`, only those due by then (ms since the epoch)."""
        ...


class Settler(Protocol):
    """Where store and bus share one file: commit, send, list rows and completion in one transaction (P32)."""

    async def settle(
        self,
        agent: Address,
        batch: Batch,
        parcels: Sequence[Parcel],
        index: Sequence[IndexRow],
        done: Sequence[Delivery],
    ) -> Answer:
        """As `Store.commit`; when Committed, the parcels are sent, the list rows put and the deliveries completed
        in the same transaction (a delivery whose session was lost is left alone). Otherwise none of it happened."""
        ...


# ---------------------------------------------------------------------------------------------- gate


class Effect(StrEnum):
    """A gate's answer."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "needs_approval"


@dataclass(frozen=True, slots=True)
class GateRequest:
    """What the gate decides on: facts from the registry, committed state or a verified token."""

    principal: str
    action: str
    resource: str
    context: tuple[tuple[str, str | int | bool], ...]
    """Names and values in order of name: a request is hashable, so that decisions can be cached by it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's answer with what is needed to replay it (GOVERNANCE)."""

    effect: Effect
    policies: tuple[str, ...]
    policy_set: str
    """Hash of the policy set and its schema."""
    engine: str
    request: str
    """SHA-256 of the canonical request."""
    errors: int = 0


class Gate(Protocol):
    """Asked before every handler and every effect. An exception is a denial."""

    async def decide(self, request: GateRequest) -> Decision: ...


# ------------------------------------------------------------------------------- time, chance, calendar


class Clock(Protocol):
    """Time as data. Nothing else in the kernel asks the machine what time it is."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds, for durations."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Entropy(Protocol):
    """Randomness as data: ids, salts, seeds, jitter."""

    def bytes(self, n: int) -> bytes: ...


class Calendar(Protocol):
    """Cron arithmetic, injected so that the kernel needs no cron library."""

    def check(self, expression: str, tz: str) -> None:
        """`ValueError` that names what is wrong with the expression or the time zone."""
        ...

    def next(self, expression: str, tz: str, after: datetime) -> datetime:
        """The first time after `after` (aware, UTC) at which the expression is due, aware, UTC."""
        ...
