"""What a bus may do, as plain data: every answer of a real bus is held against it.

It allows what the contract leaves open (how many of the due messages `receive` hands out, what of several free sessions
`accept` takes, whether an expired lock is lost before somebody else accepts) and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aos.kernel.ports import Delivery


@dataclass(eq=False)
class Sent:
    n: int
    session: str
    due: int | None
    plain: bool
    """Never delayed, never abandoned: strictly in order."""
    least: int = 0
    most: int = 0
    """How often it can have been delivered before."""


@dataclass(eq=False)
class Hold:
    client: int
    session: str
    until: int
    """Before that nobody else may get the session ..."""
    at_most: int
    """... and from then on everybody must be able to."""
    hand: list[Sent] = field(default_factory=list)
    lost: bool = False


class Model:
    def __init__(self, *, period: int, shared_leases: bool) -> None:
        self.now = 0
        self._period = period
        self._shared = shared_leases
        self._sent: dict[str, Sent] = {}
        self.holds: list[Hold] = []

    def send(self, session: str, delay: int) -> str:
        message = Sent(len(self._sent), session, self.now + delay if delay else None, plain=not delay)
        self._sent[f"m{message.n}"] = message
        return f"m{message.n}"

    # accept and receive

    def accepted(self, client: int, limit: int, names: Sequence[str]) -> list[Hold]:
        for hold in self._current():
            if hold.at_most <= self.now:
                self.lose(hold)
        certain = {name for name in self._names() if self._due(name) and self._holder(name) is None}
        assert len(names) == len(set(names)) <= limit
        assert len(names) >= min(limit, len(certain)), f"{certain} were free, {names} were accepted"
        granted = [self._grant(client, name) for name in names]
        if granted:
            self._prolong(client)
        self.holds.extend(granted)
        return granted

    def received(self, hold: Hold, limit: int, deliveries: Sequence[Delivery]) -> None:
        possible = [message for message in self._due(hold.session) if message not in hold.hand]
        got = [self._sent[delivery.parcel.id] for delivery in deliveries]
        assert bool(got) == bool(possible), "nothing was handed out though something was due, or the reverse"
        assert len(got) <= limit and all(message in possible for message in got)
        assert [message.n for message in got] == sorted({message.n for message in got})
        plain = [message for message in got if message.plain]
        assert plain == [message for message in possible if message.plain][: len(plain)]
        for message, delivery in zip(got, deliveries, strict=True):
            assert message.least <= delivery.count - 1 <= message.most, f"{delivery.parcel.id}: {delivery.count}"
            message.least = message.most = delivery.count - 1
        hold.hand.extend(got)

    # settling

    def completed(self, hold: Hold, ids: Sequence[str]) -> None:
        for message in (self._sent[i] for i in ids):
            if message in hold.hand:
                hold.hand.remove(message)
                message.session = ""

    def abandoned(self, hold: Hold, ids: Sequence[str], due: int | None) -> None:
        for message in (self._sent[i] for i in ids):
            if message in hold.hand:
                hold.hand.remove(message)
                message.plain, message.due = False, due
                message.least += 1
                message.most += 1

    def renewed(self, hold: Hold) -> None:
        hold.until = hold.at_most = self.now + self._period
        self._prolong(hold.client)

    def released(self, hold: Hold) -> None:
        hold.lost = True

    def killed(self, client: int) -> None:
        for hold in self._current():
            if hold.client == client:
                hold.until = self.now

    def lose(self, hold: Hold) -> None:
        """The holder is gone: what it had in hand was delivered; a bus that can't know may count the rest so too."""
        assert hold.until <= self.now, f"{hold.session} was lost before its time"
        hold.lost = True
        for message in self._due(hold.session):
            message.most += message in hold.hand or self._shared
            message.least += message in hold.hand

    def pending(self) -> list[str]:
        return [i for i, message in self._sent.items() if message.session]

    # inside

    def _grant(self, client: int, name: str) -> Hold:
        assert self._due(name), f"{name} was accepted with nothing due"
        holder = self._holder(name)
        if holder is not None:
            self.lose(holder)
        return Hold(client, name, self.now + self._period, self.now + self._period)

    def _prolong(self, client: int) -> None:
        """A bus may renew all locks of a client together."""
        for hold in self._current():
            if self._shared and hold.client == client:
                hold.at_most = self.now + self._period

    def _current(self) -> list[Hold]:
        return [hold for hold in self.holds if not hold.lost]

    def _holder(self, name: str) -> Hold | None:
        return next((hold for hold in self._current() if hold.session == name), None)

    def _names(self) -> set[str]:
        return {message.session for message in self._sent.values()} - {""}

    def _due(self, name: str) -> list[Sent]:
        here = [message for message in self._sent.values() if message.session == name]
        return [message for message in here if message.due is None or message.due <= self.now]
