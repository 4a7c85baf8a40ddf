"""The way in: what comes from outside becomes a message, or is refused with an error that says why (P2, P4)."""

from __future__ import annotations

import hashlib
from typing import Any

from aos.kernel.address import Address
from aos.kernel.event import Event, from_cloudevent, new_event, parse_json, refuse_reserved
from aos.kernel.message import Actor, Message
from aos.kernel.registry import Registry


def read_event(line: str | bytes, *, source: str, id: str | None = None, label: str | None = None) -> Event:
    """An event from JSON text: a CloudEvent if it has a `specversion`, otherwise bare JSON, for which type = label,
    id = message id and source = where it came from (ARCHITECTURE section 4). Bare JSON without a label may name its
    `type`; without an id it gets one from its content, so that the same line twice is one event."""
    value: Any = parse_json(line)
    if isinstance(value, dict) and "specversion" in value:
        return from_cloudevent(value)
    named: Any = value.get("type") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    kind = label or (named if isinstance(named, str) else "")
    text = line.encode() if isinstance(line, str) else line
    return new_event(id or hashlib.sha256(text).hexdigest(), source, kind, value)


def external_message(
    registry: Registry, event: Event, now: int, actor: Actor | None = None, to: Address | None = None
) -> Message:
    """A message for an event from outside. Raises what is wrong with it: reserved names, no route, unknown types."""
    refuse_reserved(event)
    address = to or registry.route(event)
    registry.type(address.type).handler(event.type)
    who = actor or Actor("external", event.source, "none")
    trace = event.extensions.get("traceparent")
    return Message(
        to=address,
        event=event,
        actor=who,
        sent_at=now,
        traceparent=trace if isinstance(trace, str) else None,
    )
