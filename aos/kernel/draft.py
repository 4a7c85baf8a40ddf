"""What one event's handler asks for, as data. It becomes part of the turn when the handler ends well, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aos.kernel import codec, layout
from aos.kernel.address import Address
from aos.kernel.agent import Pending
from aos.kernel.errors import Reject
from aos.kernel.event import EVENT_TYPE, RESERVED_TYPES, Event

MAX_ROWS = 80
MAX_MESSAGES = 500
MAX_BYTES = 700_000
MAX_EFFECTS = 30
"""What one event may write (P13); a larger fan-out goes on by an event to itself."""


class Outgoing(NamedTuple):
    """A message that the handler sends. `call` is also the id of its event."""

    to: Address
    type: str
    body: bytes
    call: str
    delay: int
    deadline: int


class Scheduled(NamedTuple):
    """A timer that the handler sets."""

    type: str
    body: bytes
    id: str
    due: int


@dataclass(slots=True)
class Draft:
    """Intents of one event, in the order in which they were asked for. Ids are derived from the event (P1)."""

    event: Event
    messages: list[Outgoing] = field(default_factory=list[Outgoing])
    timers: dict[str, Scheduled | None] = field(default_factory=dict[str, "Scheduled | None"])
    history: list[bytes] = field(default_factory=list[bytes])
    rows: dict[tuple[str, str], bytes | None] = field(default_factory=dict[tuple[str, str], "bytes | None"])
    notes: list[str] = field(default_factory=list[str])
    terminate: bool = False
    allow_internal: bool = False
    """Set for agents of the system, which may send internal types."""
    effects: int = 0
    """How many the event has had: their two journal rows each count as rows."""
    size: int = 0
    ids: int = 0

    def send(self, to: Address, type: str, data: Any, *, delay: int, deadline: int) -> Pending:
        self._check_type(type)
        body = self._weigh(codec.encode(data))
        call = self._next_id("send")
        self.messages.append(Outgoing(to, type, body, call, delay, deadline))
        if len(self.messages) > MAX_MESSAGES:
            raise Reject(f"one event may send {MAX_MESSAGES} messages; go on by an event to yourself")
        return Pending(call)

    def schedule(self, type: str, data: Any, key: str, due: int) -> None:
        self._check_type(type)
        if key != codec.clean(key):
            raise Reject(f"the timer's key {key!r} holds a lone surrogate")
        self.timers[key] = Scheduled(type, self._weigh(codec.encode(data)), self._next_id("timer"), due)
        self._count_rows()

    def cancel(self, key: str) -> None:
        self.timers[key] = None

    def note(self, text: str) -> None:
        self.notes.append(self._weigh(codec.clean(text).encode()).decode())

    def append(self, item: Any) -> None:
        self.history.append(self._weigh(codec.encode(item)))
        self._count_rows()

    def put_row(self, name: str, key: str, value: Any) -> None:
        self.rows[_row_key(name, key)] = self._weigh(codec.encode(value))
        self._count_rows()

    def delete_row(self, name: str, key: str) -> None:
        self.rows[_row_key(name, key)] = None
        self._count_rows()

    def begin_effect(self) -> None:
        self.effects += 1
        if self.effects > MAX_EFFECTS:
            raise Reject(f"one event may have {MAX_EFFECTS} effects; go on by an event to yourself")
        self._count_rows()

    def _check_type(self, type: str) -> None:
        if not EVENT_TYPE.fullmatch(type):
            raise Reject(f"{type[:80]!r} is no event type")
        if type.startswith(RESERVED_TYPES) and not self.allow_internal:
            raise Reject(f"{type!r} is an internal event type; agents can't send it")

    def _weigh(self, body: bytes) -> bytes:
        self.size += len(body)
        if self.size > MAX_BYTES:
            raise Reject(f"one event may write {MAX_BYTES:,} bytes; go on by an event to yourself")
        return body

    def _count_rows(self) -> None:
        if len(self.history) + len(self.rows) + 2 * self.effects > MAX_ROWS:
            raise Reject(f"one event may write {MAX_ROWS} rows; go on by an event to yourself")
        if len(self.timers) > MAX_MESSAGES:
            raise Reject(f"one event may set {MAX_MESSAGES} timers; go on by an event to yourself")

    def _next_id(self, name: str) -> str:
        self.ids += 1
        return layout.derived_id(self.event.source, self.event.id, name, self.ids)


def merged(drafts: Mapping[tuple[str, str], bytes | None], name: str) -> dict[str, bytes | None]:
    """The drafted rows of one name by key."""
    return {key: body for (row_name, key), body in drafts.items() if row_name == name}


def _row_key(name: str, key: str) -> tuple[str, str]:
    Address.of(name, key)  # the same characters are forbidden in row names and keys, for the same stores
    return name, key
