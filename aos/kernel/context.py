"""What a handler is given. `Query` reads; `Context` is a `Query` that can also write intents into a draft.

Each verb appends to the draft or asks the turn's reader; nothing here touches the store.
"""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel

from aos.kernel.address import Address
from aos.kernel.agent import Pending
from aos.kernel.codec import jsonable
from aos.kernel.draft import Draft
from aos.kernel.event import Event

StateT = TypeVar("StateT", bound=BaseModel)
T = TypeVar("T")

DEFAULT_DEADLINE = timedelta(days=1)
"""How long a call waits for its answer: every wait has an end (P19)."""


class Reader(Protocol):
    """How a context reads what is not in the state: committed rows under what the turn has drafted."""

    async def tail(self, limit: int) -> list[Any]: ...
    async def row(self, name: str, key: str) -> Any: ...
    async def range(self, name: str, first: str, last: str | None, limit: int) -> list[tuple[str, Any]]: ...


class Effects(Protocol):
    """How a context runs an effect: journaled, under the gate (P8-P12)."""

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        idempotent: bool,
        key: str | None,
        timeout: float | None,
    ) -> Any: ...


class RowReader:
    """The keyed rows of one name, to read (P27)."""

    def __init__(self, name: str, reader: Reader) -> None:
        self._name = name
        self._reader = reader

    async def get(self, key: str, default: Any = None) -> Any:
        """The row's value (plain JSON data), or the default."""
        found = await self._reader.row(self._name, key)
        return default if found is None else found

    async def range(self, first: str = "", last: str | None = None, *, limit: int = 100) -> list[tuple[str, Any]]:
        """Up to `limit` (key, value) with `first <= key < last`, in order of key."""
        return await self._reader.range(self._name, first, last, limit)


class Rows(RowReader):
    """The keyed rows of one name, to read and write. Writes are committed with the turn."""

    def __init__(self, name: str, reader: Reader, draft: Draft) -> None:
        super().__init__(name, reader)
        self._draft = draft

    def put(self, key: str, value: Any) -> None:
        self._draft.put_row(self._name, key, value)

    def delete(self, key: str) -> None:
        self._draft.delete_row(self._name, key)


class Query(Generic[StateT]):
    """What a handler reads."""

    def __init__(self, me: Address, state: StateT, now: int, reader: Reader, event: Event | None = None) -> None:
        self.me = me
        self.state = state
        self.event = event
        self._now = now
        self._reader = reader

    @property
    def now(self) -> datetime:
        """The turn's time, in UTC; the same however often the event is run again."""
        return datetime.fromtimestamp(self._now / 1000, UTC)

    async def tail(self, limit: int = 10) -> list[Any]:
        """The latest items of the history, oldest first."""
        return await self._reader.tail(limit)

    def rows(self, name: str) -> RowReader:
        """Keyed rows: what grows lives here, never in the state."""
        return RowReader(name, self._reader)

    async def get(self, name: str, key: str, default: Any = None) -> Any:
        """`rows(name).get(key)`."""
        return await self.rows(name).get(key, default)


class Context(Query[StateT]):
    """What a handler reads and may ask for. What it asks for happens when the turn commits, or not at all."""

    def __init__(
        self,
        me: Address,
        state: StateT,
        now: int,
        reader: Reader,
        event: Event,
        draft: Draft,
        effects: Effects,
        seed: int,
    ) -> None:
        super().__init__(me, state, now, reader, event)
        self._draft = draft
        self._effects = effects
        self._seed = seed
        self._random: _random.Random | None = None

    @property
    def random(self) -> _random.Random:
        """Chance whose seed is recorded with the first effect, so that a run again throws the same."""
        if self._random is None:
            self._random = _random.Random(self._seed)
        return self._random

    def uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def send(
        self,
        to: Address | str,
        type: str,
        data: Any = None,
        *,
        after: timedelta | None = None,
        deadline: timedelta = DEFAULT_DEADLINE,
    ) -> Pending:
        """Send an event to an agent. Return the result from the handler to answer with that agent's reply, or declare
        `@after(type)` to handle it; a call without an answer fails at the deadline."""
        return self._draft.send(Address.coerce(to), type, data, delay=_ms(after), deadline=_ms(deadline))

    def publish(self, topic: str, type: str, data: Any = None) -> None:
        """Send an event to everybody who subscribed to the topic."""
        self._draft.send(
            Address.of("topic", topic, self.me.tenant),
            "topic.publish",
            {"type": type, "data": jsonable(data)},
            delay=0,
            deadline=0,
        )

    def schedule(
        self, type: str, data: Any = None, *, key: str, after: timedelta | None = None, at: datetime | None = None
    ) -> None:
        """Send this agent an event later. `key` names the timer; the same key replaces it."""
        if (after is None) == (at is None):
            raise ValueError("schedule needs after= or at=, and not both")
        due = self._now + _ms(after) if at is None else round(at.timestamp() * 1000)
        self._draft.schedule(type, data, key, due)

    def cancel(self, key: str) -> None:
        """Cancel a timer; none of that name is fine."""
        self._draft.cancel(key)

    def append(self, item: Any) -> None:
        """Append to the agent's history: flat cost, however long it is."""
        self._draft.append(item)

    def rows(self, name: str) -> Rows:
        return Rows(name, self._reader, self._draft)

    def put(self, name: str, key: str, value: Any) -> None:
        """`rows(name).put(key, value)`."""
        self._draft.put_row(name, key, value)

    async def effect(
        self,
        name: str,
        function: Callable[..., Awaitable[T]] | Callable[..., T],
        *args: Any,
        idempotent: bool = False,
        key: str | None = None,
        timeout: timedelta | None = None,
        **kwargs: Any,
    ) -> T:
        """Touch the world, once: intent before, result after, under an operation id (P10). The name is declared on the
        class. If the function has a parameter `idempotency_key`, it is given the operation id. `idempotent`: it may be
        run again when a crash hides its outcome. `key` tells concurrent effects of one name apart (P11). Functions that
        are not async run in a thread. Raises `OutcomeUnknown`, `NotDone` or `Denied`; a handler may catch them."""
        seconds = None if timeout is None else timeout.total_seconds()
        return await self._effects.run(name, function, args, kwargs, idempotent=idempotent, key=key, timeout=seconds)

    def note(self, text: str) -> None:
        """Write a line into the audit record."""
        self._draft.note(text)

    def terminate(self) -> None:
        """End this agent when the turn commits. Its log is never used again."""
        self._draft.terminate = True


def _ms(span: timedelta | None) -> int:
    return 0 if span is None else span // timedelta(milliseconds=1)
