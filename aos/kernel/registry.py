"""The registry: what agent types there are and what their methods take, checked before anything runs.

Facts about danger, effects and senders come from here, never from a caller.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from aos.kernel.address import Address
from aos.kernel.agent import MARK, AfterMark, Agent, CronMark, Danger, Empty, MigrateMark, OnMark, Outcome, QueryMark
from aos.kernel.context import Context, Query
from aos.kernel.effect_names import effect_names
from aos.kernel.errors import AosError, InvalidEvent, RegistrationError, UnknownAgentType, UnknownEventType
from aos.kernel.event import RESERVED_TYPES, Event
from aos.kernel.ports import Calendar

HOOKS = frozenset(("aos.initialized", "aos.suspended", "aos.resumed", "aos.terminating", "aos.config_changed"))
"""Life-cycle hooks: events that only the kernel raises and any agent type may handle."""


@dataclass(frozen=True, slots=True)
class Method:
    """One marked method, ready to be called."""

    name: str
    call: Callable[..., Any]
    data: TypeAdapter[Any] | None
    """How its data is validated; None if it takes none."""
    data_name: str | None
    context_name: str | None
    is_async: bool
    where: str
    outcome: bool = False
    """Its data is an `Outcome[T]`; `data` validates the T."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A method that handles an event type, a firing or an outcome."""

    method: Method
    event: str
    timeout: float
    max_attempts: int
    key: str | None = None
    senders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CronJob:
    """A schedule declared in code."""

    name: str
    mark: CronMark


@dataclass(frozen=True, slots=True)
class AgentType:
    """All there is to know about one type."""

    name: str
    state: type[BaseModel]
    version: int
    ordered: bool
    effects: Mapping[str, Danger]
    handlers: Mapping[str, Handler]
    afters: Mapping[str, Handler]
    queries: Mapping[str, Method]
    crons: tuple[CronJob, ...]
    migrations: Mapping[int, Callable[[Any], Any]]

    def handler(self, event: str) -> Handler:
        found = self.handlers.get(event)
        if found is None:
            known = ", ".join(sorted(self.handlers)) or "none"
            raise UnknownEventType(f"agent type {self.name!r} does not handle {event!r}; it handles: {known}")
        return found


@dataclass(slots=True)
class Registry:
    """Agent types by name, and the routes of events that come without an address."""

    calendar: Calendar | None = None
    types: dict[str, AgentType] = field(default_factory=dict[str, AgentType])
    routes: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Event type -> (agent type, where its key lies)."""

    def add(self, agent: Agent[Any] | type[Agent[Any]]) -> AgentType:
        """Register a class (built without arguments) or an instance; `RegistrationError` names file and line."""
        instance = agent() if isinstance(agent, type) else agent
        found = _Reader(instance, self.calendar).read()
        if found.name in self.types:
            raise RegistrationError(f'two agent types are called {found.name!r}; give one a type="…"')
        for handler in found.handlers.values():
            if handler.key is not None:
                self._route(found.name, handler)
        self.types[found.name] = found
        return found

    def type(self, name: str) -> AgentType:
        found = self.types.get(name)
        if found is None:
            known = ", ".join(sorted(self.types)) or "none"
            raise UnknownAgentType(f"no agent type {name!r} here; there are: {known}")
        return found

    def route(self, event: Event) -> Address:
        """The address of an event that has none: extension `agent`, else the `key=` route of its type."""
        explicit = event.extensions.get("agent")
        if isinstance(explicit, str):
            return Address.parse(explicit)
        if event.type not in self.routes:
            raise UnknownEventType(f"no agent type has a key= route for {event.type!r}; send it to an address type/key")
        agent_type, path = self.routes[event.type]
        return Address.of(agent_type, _find_key(event, path))

    def _route(self, name: str, handler: Handler) -> None:
        taken = self.routes.get(handler.event)
        if taken is not None:
            raise RegistrationError(
                f"{handler.method.where}: {handler.event!r} has a key= route already, to {taken[0]!r}"
            )
        assert handler.key is not None
        self.routes[handler.event] = (name, handler.key)


def _find_key(event: Event, path: str) -> str:
    first, _, rest = path.partition(".")
    if first == "data":
        value = event.data
        for part in rest.split("."):
            value = value.get(part) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    else:
        value = getattr(event, path) if path in ("subject", "id", "source") else event.extensions.get(path)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidEvent(
            f"event {event.type!r} is routed by {path}, which is missing or neither a string nor an integer"
        )
    return str(value)


class _Reader:
    """Reads one instance's marks. Every refusal names the method's file and line."""

    def __init__(self, instance: Agent[Any], calendar: Calendar | None) -> None:
        self.instance = instance
        self.cls = type(instance)
        self.calendar = calendar
        self.options = getattr(self.cls, "aos_options", None)
        if self.options is None or self.cls is Agent:
            raise RegistrationError("register a subclass of Agent, not Agent itself")
        self.handlers: dict[str, Handler] = {}
        self.afters: dict[str, Handler] = {}
        self.queries: dict[str, Method] = {}
        self.crons: list[CronJob] = []
        self.migrations: dict[int, Callable[[Any], Any]] = {}

    def read(self) -> AgentType:
        options = self.options
        assert options is not None
        try:
            Address.of(options.type, "k")
        except AosError as error:
            raise RegistrationError(f"{self.cls.__name__}: {error}") from None
        state = _state_class(self.cls)
        for name, mark, target in _marks(self.cls):
            self._take(name, mark, target)
        self._check_migrations(options.version)
        self._check_effects(options.effects)
        return AgentType(
            options.type,
            state,
            options.version,
            options.ordered,
            options.effects,
            self.handlers,
            self.afters,
            self.queries,
            tuple(self.crons),
            self.migrations,
        )

    def _take(self, name: str, mark: Any, target: Any) -> None:
        if isinstance(mark, MigrateMark):
            self.migrations[mark.version] = getattr(self.instance, name)
            return
        method = self._method(name, target, reads_only=isinstance(mark, QueryMark), outcome=isinstance(mark, AfterMark))
        if isinstance(mark, OnMark):
            self._on(method, mark)
        elif isinstance(mark, QueryMark):
            self._unique(self.queries, mark.name or name, method)[mark.name or name] = method
        elif isinstance(mark, AfterMark):
            self._unique(self.afters, mark.name, method)[mark.name] = self._handler(method, mark.name)
        elif isinstance(mark, CronMark):
            self._cron(method, mark)

    def _on(self, method: Method, mark: OnMark) -> None:
        if mark.event.startswith(RESERVED_TYPES) and mark.event not in HOOKS and not mark.senders:
            raise RegistrationError(f"{method.where}: {mark.event!r} is an internal type; name its senders= (P2)")
        timeout = mark.timeout.total_seconds() if mark.timeout else None
        handler = self._handler(method, mark.event, timeout, mark.max_attempts, mark.key, mark.senders)
        self._unique(self.handlers, mark.event, method)[mark.event] = handler

    def _cron(self, method: Method, mark: CronMark) -> None:
        if self.calendar is None:
            raise RegistrationError(f"{method.where}: schedules need a calendar")
        try:
            self.calendar.check(mark.expression, mark.tz)
        except ValueError as error:
            raise RegistrationError(f"{method.where}: {error}") from None
        assert self.options is not None
        Address.of(self.options.type, mark.key)
        self.crons.append(CronJob(method.name, mark))
        event = cron_event(method.name)
        self.handlers[event] = self._handler(method, event)

    def _handler(
        self,
        method: Method,
        event: str,
        timeout: float | None = None,
        attempts: int | None = None,
        key: str | None = None,
        senders: tuple[str, ...] = (),
    ) -> Handler:
        assert self.options is not None
        return Handler(
            method,
            event,
            timeout or self.options.timeout.total_seconds(),
            attempts or self.options.max_attempts,
            key,
            senders,
        )

    def _unique(self, taken: dict[str, Any], name: str, method: Method) -> dict[str, Any]:
        if name in taken:
            raise RegistrationError(f"{method.where}: {name!r} is handled twice in {self.cls.__name__}")
        return taken

    def _method(self, name: str, target: Any, *, reads_only: bool, outcome: bool) -> Method:
        where = _where(target)
        try:
            hints = typing.get_type_hints(target, include_extras=True)
        except (NameError, TypeError) as error:
            raise RegistrationError(f"{where}: an annotation of {name} can't be resolved: {error}") from None
        data_name = context_name = None
        adapter = None
        for parameter in list(inspect.signature(target).parameters)[1:]:
            hint = hints.get(parameter, Any)
            bare = typing.get_origin(hint) or hint
            if bare in (Context, Query):
                if reads_only and bare is Context:
                    raise RegistrationError(f"{where}: a query reads; its context is Query[…], not Context[…]")
                context_name = parameter
            elif data_name is None:
                data_name, adapter = parameter, _adapter(hint, outcome, where)
            else:
                raise RegistrationError(f"{where}: {name} takes more than data and a context")
        return Method(
            name,
            getattr(self.instance, name),
            adapter,
            data_name,
            context_name,
            inspect.iscoroutinefunction(target),
            where,
            outcome,
        )

    def _check_migrations(self, version: int) -> None:
        missing = [str(n) for n in range(1, version) if n not in self.migrations]
        if missing:
            raise RegistrationError(
                f"{self.cls.__name__}: state has schema version {version}, but there is no @migrate({missing[0]}); "
                f"missing: {', '.join(missing)}"
            )

    def _check_effects(self, effects: Mapping[str, str]) -> None:
        for attribute in dir(self.cls):
            target = inspect.getattr_static(self.cls, attribute)
            for name, line in effect_names(getattr(target, "__func__", target)) if callable(target) else ():
                if name not in effects:
                    raise RegistrationError(
                        f"{_where(target).rpartition(':')[0]}:{line}: effect {name!r} is not declared; "
                        f'write class {self.cls.__name__}(Agent[…], effects={{"{name}": "write"}})'
                    )
        for name, danger in effects.items():
            if danger not in ("read", "write", "destroy"):
                raise RegistrationError(
                    f"{self.cls.__name__}: effect {name!r} is {danger!r}, not read, write or destroy"
                )


def cron_event(name: str) -> str:
    """The event type of a schedule's firings."""
    return f"aos.cron.{name}"


def _marks(cls: type) -> Iterator[tuple[str, Any, Any]]:
    for name in dir(cls):
        target = inspect.getattr_static(cls, name)
        bare = getattr(target, "__func__", target)
        marks: Iterable[Any] = getattr(bare, MARK, ())
        for mark in marks:
            yield name, mark, bare


def _state_class(cls: type) -> type[BaseModel]:
    for base in cls.__mro__:
        for parent in getattr(base, "__orig_bases__", ()):
            if typing.get_origin(parent) is Agent:
                return _checked_state(cls, typing.get_args(parent)[0])
    return Empty


def _checked_state(cls: type, state: Any) -> type[BaseModel]:
    if not (isinstance(state, type) and issubclass(state, BaseModel)):
        raise RegistrationError(f"{cls.__name__}: the state {state!r} is not a pydantic model")
    try:
        state()
    except ValidationError as error:
        names = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise RegistrationError(
            f"{cls.__name__}: {state.__name__} needs defaults, a new agent starts with {state.__name__}(): {names}"
        ) from None
    return state


def _adapter(hint: Any, outcome: bool, where: str) -> TypeAdapter[Any]:
    if outcome:
        if (typing.get_origin(hint) or hint) is not Outcome:
            raise RegistrationError(f"{where}: an @after handler takes an Outcome[…]")
        hint = (*typing.get_args(hint), Any)[0]
    try:
        return TypeAdapter(hint)
    except Exception as error:
        raise RegistrationError(f"{where}: {hint!r} is nothing pydantic can validate: {error}") from None


def _where(target: Any) -> str:
    code = getattr(target, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(target)
