"""Timers: an outbox message with a delivery time and a token; the head says which token is still good (P21, P26)."""

from __future__ import annotations

from aos.kernel.head import Head, Timer
from aos.kernel.message import Message


def mark(name: str, token: str) -> str:
    """What a timer's message carries."""
    return f"{token}:{name}"


def name_of(message: Message) -> str | None:
    """The timer that a message is the firing of."""
    return None if message.token is None else message.token.partition(":")[2]


def current(head: Head, message: Message) -> Timer | None:
    """The head's timer, if the message carries its token."""
    if message.token is None:
        return None
    token, _, name = message.token.partition(":")
    timer = head.timers.get(name)
    return timer if timer is not None and timer.token == token else None


def stale(head: Head, message: Message) -> bool:
    """It was cancelled, replaced or has fired: drop it on arrival."""
    return message.token is not None and current(head, message) is None


def void(token: str) -> str:
    """A token that no message carries, from which the good one can be restored."""
    return token if token.startswith("!") else "!" + token


def restored(token: str) -> str:
    return token.removeprefix("!")


def with_timer(head: Head, name: str, timer: Timer) -> dict[str, Timer]:
    return {**head.timers, name: timer}


def without(head: Head, name: str) -> dict[str, Timer]:
    return {known: timer for known, timer in head.timers.items() if known != name}
