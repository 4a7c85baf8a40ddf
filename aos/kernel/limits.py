"""Numbers that bound what the kernel does. All times in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The defaults are the documented behaviour; tests and settings may change them."""

    batch: int = 32
    """Events a turn."""
    operations: int = 90
    """Writes a turn (P13): a table transaction takes 100."""
    bytes: int = 3_000_000
    """Bytes a turn (P13): a table transaction takes 4 MiB."""
    conflicts: int = 5
    """Conflicts in a row before an event is deferred."""
    retry_base: int = 1 * SECOND
    retry_cap: int = 5 * MINUTE
    defer: int = 5 * SECOND
    """How long an event is put off that could not be tried."""
    deploy_window: int = 15 * MINUTE
    """How long an event is put off in all for an unknown type or a newer schema: a rolling deploy."""
    receipts: int = 90 * DAY
    """How long receipts live (P7)."""
    suspicious: int = 5
    """Deliveries without a word before an event runs alone (P18)."""
    starts: int = 3
    """Starts without an end before it is given up (P18)."""
    turn: int = 2 * MINUTE
    """A direct turn's own event comes back from the bus after this (P22); longer than any handler may take."""
    spill: int = 256 * 1024
    """A row's body that is bigger lies in a blob."""
    sleep_poll: int = 20
    """First pause between looks at a receipt that another process may be about to close."""

    def pause(self, deferred: int) -> int:
        """How long an event is put off for the `deferred`-th time, counted from 0."""
        return min(self.defer * 2 ** min(deferred, 10), MINUTE)

    def waited(self, deferred: int) -> int:
        """How long an event that was put off so often has waited in all."""
        return sum(self.pause(n) for n in range(deferred))
