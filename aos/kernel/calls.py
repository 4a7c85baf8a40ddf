"""Calls: a message whose answer somebody waits for (P3, P19).

The wait is a timer in the caller's head, so that every wait has a deadline and a late answer is stale. The answer is
an event to the caller; its source and id follow from the call, so that it is handled once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aos.kernel import layout
from aos.kernel.address import Address
from aos.kernel.agent import Outcome
from aos.kernel.event import Event, encode_data
from aos.kernel.head import Head, Timer
from aos.kernel.message import KERNEL, Actor, Message, decode, encode

DONE = "aos.call.done"
FAILED = "aos.call.failed"


def is_answer(message: Message) -> bool:
    return message.event.type in (DONE, FAILED)


def timer_name(call: str) -> str:
    return f"call:{call}"


def waiting(head: Head, message: Message) -> Timer | None:
    """The wait that this answer ends; None when it is over already."""
    return head.timers.get(timer_name(json.loads(message.event.body)["call"])) if is_answer(message) else None


def outcome(message: Message) -> Outcome[Any]:
    """What an `@after` handler is given."""
    found = json.loads(message.event.body)
    if message.event.type == DONE:
        return Outcome(call=found["call"], ok=True, value=found["value"])
    return Outcome(call=found["call"], ok=False, reason=found["reason"])


def asker(message: Message) -> bytes:
    """The event that asked, as far as an answer needs it, for the wait."""
    bare = replace(message.event, body=b"null", subject=None, extensions={})
    return encode(replace(message, event=bare, due=None, token=None))


def asked(wait: Timer) -> Message:
    """The event that asked."""
    assert wait.asker is not None
    return decode(wait.asker)


def done(agent: Address, message: Message, value: bytes, now: int) -> Message | None:
    """The answer to whoever waits for `message`."""
    if message.reply_to is None:
        return None
    body = b'{"call":' + json.dumps(message.reply_to.call).encode() + b',"value":' + value + b"}"
    return _answer(agent, message, DONE, body, now)


def failed(agent: Address, message: Message, reason: str, now: int) -> Message | None:
    """The bad news to whoever waits for `message`."""
    if message.reply_to is None:
        return None
    return _answer(agent, message, FAILED, encode_data({"call": message.reply_to.call, "reason": reason}), now)


def deadline(agent: Address, call: str, token: str, due: int, message: Message) -> Message:
    """The end of the wait: a timer of the caller."""
    event = Event(
        id=f"deadline:{call}", source=agent.source, type=FAILED, body=encode_data({"call": call, "reason": "deadline"})
    )
    return Message(
        to=agent,
        event=event,
        token=token,
        due=due,
        sent_at=due,
        actor=KERNEL,
        correlation=message.correlation,
        causation=message.event.id,
        traceparent=message.traceparent,
    )


def _answer(agent: Address, message: Message, type: str, body: bytes, now: int) -> Message:
    to = message.reply_to
    assert to is not None
    id = layout.derived_id(message.event.source, message.event.id, "answer", f"{to.call}:{type}")
    return Message(
        to=to.agent,
        event=Event(id=id, source=agent.source, type=type, body=body),
        hops=max(0, message.hops - 1),
        sent_at=now,
        actor=Actor("agent", agent.log, "kernel"),
        correlation=message.correlation or message.event.id,
        causation=message.event.id,
        traceparent=message.traceparent,
    )
