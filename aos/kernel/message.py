"""The envelope: an event on its way to one agent, and its bytes on the bus (P1, P3).

A parcel's body is one line of JSON (the envelope and the event's attributes), a line feed, and the event's data as
it is: everything that matters is in the body, because brokers may drop or mix up properties.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from aos.kernel.address import Address
from aos.kernel.errors import InvalidEvent
from aos.kernel.event import Event
from aos.kernel.ports import Parcel

MAX_HOPS = 64
"""Nested sends; a cycle of agents ends here (P3)."""


class NewerEnvelope(InvalidEvent):
    """Written by newer code: an instance that runs it will come."""


class Actor(NamedTuple):
    """Who is behind an event and how that is known: `auth` is `none` for what only says so."""

    type: str
    id: str
    auth: str

    def record(self) -> dict[str, str]:
        return {"auth": self.auth, "id": self.id, "type": self.type}


KERNEL = Actor("kernel", "aos", "kernel")


class ReplyTo(NamedTuple):
    """Where the answer goes: the agent that waits and the call it waits on."""

    agent: Address
    call: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event, addressed. What is here but not in `event` is envelope: it may differ between deliveries."""

    to: Address
    event: Event
    attempt: int = 1
    hops: int = 0
    token: str | None = None
    """`name:token` of the timer that this is; dropped on arrival when the head holds another one."""
    reply_to: ReplyTo | None = None
    sent_at: int = 0
    """ms since the epoch; for timers the due time; never renewed by a re-send."""
    due: int | None = None
    deferred: int = 0
    """How often it was put off without having been tried."""
    unknown: int = 0
    """How often of these because the code there did not know its type or its agent's schema."""
    actor: Actor = KERNEL
    correlation: str | None = None
    causation: str | None = None
    traceparent: str | None = None

    @property
    def parcel_id(self) -> str:
        """Stable over re-sends of one attempt; a deferred copy needs its own, or duplicate detection eats it."""
        tail = f".d{self.deferred}" if self.deferred else ""
        return f"{self.event.key}.{self.attempt}{tail}"

    def parcel(self) -> Parcel:
        return Parcel(self.parcel_id, self.to.log, encode(self), self.due)

    def again(self, *, attempt: int, due: int | None) -> Message:
        """The same event for another attempt."""
        return replace(self, attempt=attempt, due=due, deferred=0, unknown=0)

    def put_off(self, due: int, *, unknown: bool = False) -> Message:
        """The same attempt, later; not an attempt of its own (P17). `unknown`: the code here does not know it."""
        return replace(self, deferred=self.deferred + 1, unknown=self.unknown + unknown, due=due)


def encode(message: Message) -> bytes:
    """The bytes on the bus and in journal, backlog and dead-letter rows."""
    event = message.event
    head: dict[str, Any] = {
        "aos": 1,
        "to": message.to,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "sent": message.sent_at,
        "actor": message.actor,
    }
    _put(head, "attempt", message.attempt, 1)
    _put(head, "hops", message.hops, 0)
    _put(head, "deferred", message.deferred, 0)
    _put(head, "unknown", message.unknown, 0)
    _put(head, "token", message.token, None)
    _put(head, "due", message.due, None)
    _put(head, "corr", message.correlation, None)
    _put(head, "cause", message.causation, None)
    _put(head, "trace", message.traceparent, None)
    _put(head, "time", event.time, None)
    _put(head, "subject", event.subject, None)
    _put(head, "ctype", event.content_type, None)
    _put(head, "schema", event.schema, None)
    _put(head, "expires", event.expires, None)
    _put(head, "bin", event.binary, False)
    if message.reply_to is not None:
        head["reply"] = [message.reply_to.agent, message.reply_to.call]
    if event.extensions:
        head["ext"] = dict(event.extensions)
    return to_json(head) + b"\n" + event.body


def decode(data: bytes) -> Message:
    """The message of an envelope's bytes; `InvalidEvent` where they are none."""
    line, _, body = data.partition(b"\n")
    try:
        head = from_json(line)
        if head["aos"] != 1:
            raise NewerEnvelope(f"envelope version {head['aos']!r} is newer than this code")
        return _message(head, body)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidEvent(f"not an AOS envelope: {error!r}") from None


def _message(head: dict[str, Any], body: bytes) -> Message:
    get = head.get
    reply = get("reply")
    return Message(
        to=Address(*head["to"]),
        event=Event(
            id=head["id"],
            source=head["source"],
            type=head["type"],
            body=body,
            time=get("time"),
            subject=get("subject"),
            content_type=get("ctype"),
            schema=get("schema"),
            binary=get("bin", False),
            expires=get("expires"),
            extensions=get("ext") or {},
        ),
        attempt=get("attempt", 1),
        hops=get("hops", 0),
        token=get("token"),
        sent_at=head["sent"],
        due=get("due"),
        reply_to=None if reply is None else ReplyTo(Address(*reply[0]), reply[1]),
        deferred=get("deferred", 0),
        unknown=get("unknown", 0),
        actor=Actor(*head["actor"]),
        correlation=get("corr"),
        causation=get("cause"),
        traceparent=get("trace"),
    )


def _put(head: dict[str, Any], name: str, value: Any, default: Any) -> None:
    if value != default:
        head[name] = value
