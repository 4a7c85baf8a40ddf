"""One event in the dispatcher's hands: where it came from, what is known of it, what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from aos.kernel.message import Message
from aos.kernel.ports import Delivery
from aos.kernel.receipt import Receipt, Status, Waits


class Ended(StrEnum):
    """What came of a delivery."""

    HANDLED = "handled"
    PENDING = "pending"
    DEAD = "dead"
    DISCARDED = "discarded"
    RETRY = "retry"
    BACKLOG = "backlog"
    DEFERRED = "deferred"
    STALE = "stale"


class Reply(NamedTuple):
    """The answer to a delivery or an ask. `value` is JSON text, byte-identical however often it is asked for."""

    ended: Ended
    key: str
    value: bytes | None = None
    reason: str | None = None
    duplicate: bool = False

    @property
    def final(self) -> bool:
        """There will be no other answer."""
        return self.ended in (Ended.HANDLED, Ended.DEAD, Ended.DISCARDED)


_OPEN = {Waits.RETRY: Ended.RETRY, Waits.BACKLOG: Ended.BACKLOG}
_CLOSED = {Status.HANDLED: Ended.HANDLED, Status.DEAD: Ended.DEAD, Status.DISCARDED: Ended.DISCARDED}


def ended_of(receipt: Receipt) -> Ended:
    """What a receipt says that came of its event."""
    if receipt.status is not Status.OPEN:
        return _CLOSED[receipt.status]
    return _OPEN.get(receipt.waits, Ended.PENDING) if receipt.waits else Ended.PENDING


@dataclass(slots=True, kw_only=True, eq=False)
class Item:
    """Mutable: the dispatcher fills in what it finds out."""

    message: Message
    delivery: Delivery | None = None
    """The bus's handle, for what the bus delivered; None for an ask, a backlog row or an unfinished event."""
    direct: bool = False
    backlog: int | None = None
    """Number of the backlog row it came from."""
    unfinished: bool = False
    receipt: Receipt | None = None
    looked: bool = False
    """Its receipt was read (and may be absent)."""
    suspect: bool = False
    """A commit found its receipt there already: look before running it."""
    copy: bool = False
    """It stands in for a delivery whose id was used before (P4)."""
    started: bool = False
    """This delivery's start is written down already (P18)."""
    settled: bool = False
    """Its delivery was completed in the commit's transaction."""
    fault: Exception | None = None
    """Committed, but what follows could not be delivered: the delivery must come again."""
    deliveries: int = 1
    """Of an unfinished event: how often the bus has delivered it."""
    guarded: bool = False
    """Its copy is on the bus (P22)."""
    reply: Reply | None = None
    error: Exception | None = None
    """For an ask: why it was refused without a trace."""

    @property
    def ended(self) -> bool:
        return self.reply is not None or self.error is not None

    @property
    def count(self) -> int:
        return self.delivery.count if self.delivery else self.deliveries

    def look_again(self) -> None:
        """A new cycle begins: what an earlier one knew of the receipt may not hold any more."""
        self.suspect = self.suspect or self.looked
        self.looked, self.receipt = False, None

    def end(
        self, ended: Ended, *, value: bytes | None = None, reason: str | None = None, duplicate: bool = False
    ) -> None:
        self.reply = Reply(ended, self.message.event.key, value, reason, duplicate)
