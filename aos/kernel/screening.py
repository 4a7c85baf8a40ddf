"""Deciding what becomes of a delivery before any handler runs (steps 3 and the rules P3, P4, P7, P18, P21).

`screen` is pure: it looks at the message, the head and the receipt and says what is to be done.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from aos.kernel import backlog, calls, timers
from aos.kernel.event import MAX_EVENT
from aos.kernel.head import Head, Life
from aos.kernel.item import Item
from aos.kernel.limits import DAY, Limits
from aos.kernel.message import MAX_HOPS
from aos.kernel.receipt import Waits


class Do(StrEnum):
    """What is to be done with a delivery."""

    RUN = "run"
    ALONE = "alone"
    """Run it, but write its start first and let nothing else be in the turn (P18)."""
    LOOK = "look"
    """Read its receipt, then screen again."""
    DUPLICATE = "duplicate"
    STALE = "stale"
    DEAD = "dead"
    EXPIRED = "expired"
    SET_ASIDE = "set aside"
    REUSED = "reused"
    ORPHANED = "orphaned"
    """An answer to a call of a terminated agent."""


class Screened(NamedTuple):
    do: Do
    reason: str = ""
    error: str = ""


def screen(item: Item, head: Head, now: int, limits: Limits, *, command: bool = False) -> Screened:
    """What is to be done with it. Reads nothing. A command goes round the life cycle, not round the rest."""
    if not (item.unfinished or item.backlog is not None):
        known = _known(item, head, now, limits, command)
        if known is not None:
            return known
    elif item.receipt is not None and item.receipt.starts - item.started >= limits.starts:
        return _suspected(item.receipt.starts)
    if command:
        return Screened(Do.RUN)
    return _lifetime(item, head, now, suspicious=item.count >= limits.suspicious)


def _known(item: Item, head: Head, now: int, limits: Limits, command: bool) -> Screened | None:
    """What the receipt says, or that it must be read; None if it speaks for running the event."""
    if not item.looked and (command or _must_look(item, head, now, limits)):
        return Screened(Do.LOOK)
    if item.receipt is None:
        late = item.looked and now - item.message.sent_at > limits.receipts - DAY
        return Screened(Do.DEAD, "too_late", "older than its receipt would have lived") if late else None
    if item.receipt.request != item.message.event.request_hash:
        return Screened(Do.REUSED, "id_reused", "the same source and id came before with another type or other data")
    if not item.receipt.fresh(item.message):
        return Screened(Do.DUPLICATE)
    return _suspected(item.receipt.starts) if item.receipt.starts - item.started >= limits.starts else None


def _suspected(starts: int) -> Screened:
    return Screened(Do.DEAD, "crash_suspected", f"{starts} starts ended without a word")


def reused(item: Item) -> Item:
    """The delivery under a key of its own, so that its dead letter does not touch the first event's receipt (P4)."""
    event = item.message.event
    id = "reused:" + hashlib.sha256(f"{event.key}\n{event.request_hash}".encode()).hexdigest()
    message = replace(item.message, event=replace(event, id=id))
    return replace(item, message=message, receipt=None, looked=False, delivery=None, copy=True)


def _must_look(item: Item, head: Head, now: int, limits: Limits) -> bool:
    message = item.message
    late = now - message.sent_at > limits.receipts - DAY
    often = item.count >= limits.suspicious
    return item.suspect or message.attempt > 1 or late or often or head.recently(message.event.key)


def _lifetime(item: Item, head: Head, now: int, *, suspicious: bool = False) -> Screened:
    message, journaled = item.message, item.unfinished or bool(item.receipt and item.receipt.journal)
    if not journaled and (
        timers.stale(head, message) or (calls.is_answer(message) and calls.waiting(head, message) is None)
    ):
        return Screened(Do.STALE, "stale")
    if head.life is Life.TERMINATED and calls.is_answer(message):
        return Screened(Do.ORPHANED, "terminated")
    if head.life is Life.TERMINATED:
        return Screened(Do.DEAD, "terminated", "the agent has been terminated")
    if message.hops > MAX_HOPS:
        return Screened(
            Do.DEAD, "too_many_hops", f"over {MAX_HOPS} nested sends: agents that send to each other in a circle"
        )
    if len(message.event.body) > MAX_EVENT:
        return Screened(
            Do.DEAD, "too_large", f"the data has {len(message.event.body):,} bytes, the limit is {MAX_EVENT:,}"
        )
    if message.event.expires is not None and message.event.expires < now and not journaled:
        return Screened(Do.EXPIRED, "expired")
    if item.backlog is None and not item.unfinished:
        why = backlog.closed(head, message.event.key)
        if why is not None and not (
            item.receipt is not None and item.receipt.waits is Waits.RETRY and why != "suspended"
        ):
            return Screened(Do.SET_ASIDE, why)
    return Screened(Do.ALONE if suspicious else Do.RUN)
