"""Every error of AOS.

AosError
├── InvalidInput                 what came in is wrong; nothing was written (HTTP 4xx)
│   ├── InvalidAddress
│   ├── InvalidEvent
│   ├── EventTooLarge
│   ├── ReservedName             a source or type that only the kernel may use (P2)
│   ├── UnknownAgentType
│   ├── UnknownEventType
│   ├── UnknownQuery
│   └── IdReused                 the same id with another type or data (P4)
├── RegistrationError            a class or a combination of classes that can't run
├── Refused                      the agent's life cycle forbids it now
│   ├── AgentSuspended
│   ├── AgentTerminated
│   └── NoSuchAgent
├── HandlerSignal                what a handler raises to say how its event goes on
│   ├── Reject                   a dead letter at once
│   ├── Retry                    again after a while
│   ├── NotDone                  an effect that certainly did not happen
│   └── OutcomeUnknown           an effect that may have happened (P10)
├── Denied                       the gate said no
├── AskFailed                    the event that was asked became a dead letter
├── StillOpen                    no answer yet; it will come, look at the receipt
└── Unavailable                  store, bus or time: wait and come again (HTTP 503)
    ├── StoreUnavailable
    ├── BusUnavailable
    ├── StoreBusy                the bounded queue is full
    ├── ClockSkewed              this host's clock is off (P31)
    ├── NewerState               written by newer code: a rolling deploy is under way
    └── Contended                conflicts beyond the limit; deferred
"""

from __future__ import annotations

from datetime import timedelta


class AosError(Exception):
    """The root."""


class InvalidInput(AosError):
    """What came in is wrong. Nothing was written."""


class InvalidAddress(InvalidInput):
    """Not an address: the message names the character or the length."""


class InvalidEvent(InvalidInput):
    """Not an event: the message names the attribute."""


class EventTooLarge(InvalidInput):
    """Over 1 MiB."""


class ReservedName(InvalidInput):
    """A source or an event type that only the kernel may use."""


class UnknownAgentType(InvalidInput):
    """No agent class of that name is registered here."""


class UnknownEventType(InvalidInput):
    """The agent type has no handler for that event type."""


class UnknownQuery(InvalidInput):
    """The agent type has no query of that name."""


class IdReused(InvalidInput):
    """The same source and id came before with another type or other data."""


class RegistrationError(AosError):
    """A class, or a combination of classes, that could not run. Raised before anything runs."""


class Refused(AosError):
    """The agent's life cycle forbids it now."""


class AgentSuspended(Refused):
    """Suspended: events wait in the backlog, asks are refused (409)."""


class AgentTerminated(Refused):
    """Terminated for good; its log is never used again (410)."""


class NoSuchAgent(Refused):
    """Nothing has ever been sent to that address (404)."""


class HandlerSignal(AosError):
    """What a handler raises to say how its event goes on."""


class Reject(HandlerSignal):
    """Give the event up at once: a dead letter with this reason, no retry."""


class Retry(HandlerSignal):
    """Try the event again. `after` overrides the back-off."""

    def __init__(self, reason: str = "asked for by the handler", *, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.after = after


class NotDone(HandlerSignal):
    """Raised by the function of an effect: it certainly did not happen and may be tried again."""


class OutcomeUnknown(HandlerSignal):
    """An effect was begun and its outcome was never recorded. It is not run again (P10).

    A handler may catch it and decide; otherwise the event is a dead letter that an operator resolves.
    """

    def __init__(self, operation: str, name: str) -> None:
        super().__init__(f"the outcome of effect {name!r} (operation {operation}) is unknown")
        self.operation = operation
        self.name = name


class Denied(AosError):
    """The gate said no. `policies` names what forbade it."""

    def __init__(self, what: str, policies: tuple[str, ...]) -> None:
        super().__init__(f"{what} was denied by {', '.join(policies) or 'default'}")
        self.policies = policies


class AskFailed(AosError):
    """The event that was asked is a dead letter. `reason` is the dead letter's."""

    def __init__(self, agent: str, key: str, reason: str) -> None:
        super().__init__(f"{agent} gave the event up: {reason} (dead letter {key})")
        self.agent = agent
        self.key = key
        self.reason = reason


class StillOpen(AosError):
    """No answer within the wait. The event is safe; its receipt will hold the answer."""

    def __init__(self, agent: str, key: str) -> None:
        super().__init__(f"{agent} has not answered yet; the receipt {key} will hold the answer")
        self.agent = agent
        self.key = key


class Unavailable(AosError):
    """Something this host needs is away. Nothing was lost; come again."""


class StoreUnavailable(Unavailable):
    """The store did not answer. Not the same as "nothing there"."""


class BusUnavailable(Unavailable):
    """The bus did not answer."""


class StoreBusy(Unavailable):
    """The bounded queue of writes is full."""


class ClockSkewed(Unavailable):
    """This host's clock is too far from the storage's."""


class NewerState(Unavailable):
    """The agent's state was written by newer code than this host's."""


class Contended(Unavailable):
    """Other writers kept winning; the event is deferred, not failed."""
