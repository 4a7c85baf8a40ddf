"""What a user writes: a class with typed state and marked methods (ARCHITECTURE section 4).

The decorators only leave marks; `aos.kernel.registry` reads and checks them when the class is registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, TypeVar, overload

from pydantic import BaseModel

MARK = "__aos_marks__"

StateT = TypeVar("StateT", bound=BaseModel)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Danger = Literal["read", "write", "destroy"]
CatchUp = Literal["one", "all", "none"]


@dataclass(frozen=True, slots=True)
class OnMark:
    """`@on`: handles one event type."""

    event: str
    key: str | None = None
    senders: tuple[str, ...] = ()
    timeout: timedelta | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class QueryMark:
    """`@query`: reads committed state."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class CronMark:
    """`@cron`: a schedule of the agent `type/key`."""

    expression: str
    key: str
    tz: str = "UTC"
    catch_up: CatchUp = "one"


@dataclass(frozen=True, slots=True)
class AfterMark:
    """`@after`: handles the outcome of a call."""

    name: str


@dataclass(frozen=True, slots=True)
class MigrateMark:
    """`@migrate(n)`: turns a state of schema version n into one of n + 1."""

    version: int


@dataclass(frozen=True, slots=True)
class Options:
    """What stands in the class statement: `class Order(Agent[OrderState], effects={...}, version=2)`."""

    type: str
    effects: Mapping[str, Danger]
    version: int
    ordered: bool
    timeout: timedelta
    max_attempts: int


class Empty(BaseModel):
    """The state of an agent that has none."""


class Agent(Generic[StateT]):
    """The base of every agent type. One instance serves all agents of the type: `self` holds clients, never state."""

    aos_options: ClassVar[Options]

    def __init_subclass__(
        cls,
        *,
        type: str | None = None,
        effects: Mapping[str, Danger] | None = None,
        version: int = 1,
        ordered: bool = False,
        timeout: timedelta = timedelta(seconds=60),
        max_attempts: int = 5,
        **kwargs: Any,
    ) -> None:
        """`type`: the agent type's name (default: the class name in kebab-case). `effects`: what the agent may do
        outside, by name. `version`: schema version of the state. `ordered`: later events wait while a failed one is
        retried (P20). `timeout` and `max_attempts`: of each handler, unless its `@on` says otherwise."""
        super().__init_subclass__(**kwargs)
        cls.aos_options = Options(
            type or kebab(cls.__name__), dict(effects or {}), version, ordered, timeout, max_attempts
        )


class Pending:
    """Returned by a handler whose answer comes later, in another turn. `ctx.send` makes one."""

    __slots__ = ("call",)

    def __init__(self, call: str) -> None:
        self.call = call


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What an `@after` handler is given: the answer to a call, or why there is none."""

    call: str
    ok: bool
    value: T | None = None
    reason: str | None = None


def on(
    event: str,
    *,
    key: str | None = None,
    senders: Sequence[str] = (),
    timeout: timedelta | None = None,
    max_attempts: int | None = None,
) -> Callable[[F], F]:
    """Handle events of this type. `key`: where the agent's key lies in an event that has no address (`data.order`,
    `subject`, `id`, `source` or an extension). `senders`: the only agent types that may send it (P2)."""
    return _marker(OnMark(event, key, tuple(senders), timeout, max_attempts))


@overload
def query(target: F, /) -> F: ...
@overload
def query(*, name: str) -> Callable[[F], F]: ...
def query(target: Any = None, /, *, name: str | None = None) -> Any:
    """Answer a question from committed state. Its context is a `Query`, which can't change anything."""
    mark = _marker(QueryMark(name))
    return mark if target is None else mark(target)


def cron(expression: str, *, key: str, tz: str = "UTC", catch_up: CatchUp = "one") -> Callable[[F], F]:
    """Run on a schedule, in the agent `type/key`. `catch_up`: what happens to firings missed while nothing ran."""
    return _marker(CronMark(expression, key, tz, catch_up))


def after(call: str | Any) -> Callable[[F], F]:
    """Handle the outcome of a call: of the event type given to `ctx.send`, or of a tool (anything with a `name`)."""
    return _marker(AfterMark(call if isinstance(call, str) else str(call.name)))


def migrate(version: int) -> Callable[[F], F]:
    """A function dict -> dict from schema version `version` to the next; a static method of the agent class."""
    return _marker(MigrateMark(version))


def kebab(name: str) -> str:
    """`OperationsDesk` -> `operations-desk`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _marker(mark: Any) -> Callable[[F], F]:
    def apply(target: F) -> F:
        bare: Any = getattr(target, "__func__", target)
        setattr(bare, MARK, [*getattr(bare, MARK, []), mark])
        return target

    return apply
