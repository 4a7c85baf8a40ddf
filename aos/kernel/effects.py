"""Effects: the only way of a handler to touch the world (P8-P12).

An effect is looked up in the event's journal first. What has a result is not run again; what has an intent and no
result is unknown and is not run again either, unless it was declared idempotent.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import typing
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol

from pydantic import TypeAdapter

from aos.kernel import codec, gatekeeper, layout
from aos.kernel.address import Address
from aos.kernel.agent import Danger
from aos.kernel.draft import Draft
from aos.kernel.errors import NotDone, OutcomeUnknown, Reject
from aos.kernel.gatekeeper import Gatekeeper
from aos.kernel.journal import Journal, Operation, Result
from aos.kernel.ledger import Entry, Payload

GRACE = 30.0
"""Seconds that an effect may go on after its handler has ended."""


class JournalMismatch(Reject):
    """The handler asked for other effects than its journal holds: code changed, or it is not deterministic."""


class JournalWriter(Protocol):
    """How journal rows get into the store; the dispatcher's."""

    async def intent(self, journal: Journal, operation: Operation, *, again: bool) -> None:
        """Write the intent (and, the first time, the event and its receipt). Ends the turn on a conflict."""
        ...

    async def fresh(self) -> None:
        """Make sure that the event is fresh, before an effect that has no intent to prove it. Ends the turn if not."""
        ...

    async def result(self, journal: Journal, result: Result) -> None:
        """Write the result, fenced by its intent row; without one (idempotent) fenced by the head."""
        ...


class EffectRunner:
    """Runs the effects of one event."""

    def __init__(
        self,
        agent: Address,
        declared: typing.Mapping[str, Danger],
        journal: Journal,
        draft: Draft,
        writer: JournalWriter,
        keeper: Gatekeeper,
        entropy: Callable[[int], bytes],
        turn: str,
    ) -> None:
        self._agent = agent
        self._declared = declared
        self._journal = journal
        self._draft = draft
        self._writer = writer
        self._keeper = keeper
        self._entropy = entropy
        self._turn = turn
        self._counts: dict[str, int] = {}
        self._asked: set[tuple[str, str]] = set()
        self._running: dict[str, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.mismatch: JournalMismatch | None = None
        """Remembered, because a handler that catches everything must not get away with it."""
        self.entries: list[tuple[Entry, dict[str, Payload]]] = []
        """Ledger entries with the payloads they commit to, for the record of whatever the event comes to."""
        self.unknown: list[Operation] = []

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
    ) -> Any:
        if self._closed:
            raise Reject(f"effect {name!r} was asked for after its handler had ended")
        danger = self._declared.get(name)
        if danger is None:
            raise Reject(f'effect {name!r} is not declared; declare it on the class: effects={{{name!r}: "write"}}')
        given = codec.encode([args, kwargs])
        known, operation = self._operation(name, key, given, idempotent)
        task = asyncio.current_task()
        assert task is not None
        self._running[name] = self._running.get(name, 0) + 1
        self._tasks.add(task)
        try:
            if known is not None and (recorded := self._recorded(known, operation)) is not None:
                self._note_result(recorded)
                return _value(function, recorded)
            await self._permit(name, danger)
            self._note("effect.intent", operation, args=given)
            return await self._perform(function, args, kwargs, operation, timeout, again=known is not None)
        finally:
            self._running[name] -= 1
            self._tasks.discard(task)

    async def close(self) -> None:
        """The handler has ended: what it left running in tasks of its own is waited for, a while, so that its results
        are recorded and not written after the event's end."""
        self._closed = True
        if not self._tasks:
            return
        left = {task for task in self._tasks if task is not asyncio.current_task()}
        if left:
            _, late = await asyncio.wait(left, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def check_complete(self) -> None:
        """Raise `JournalMismatch` when the handler ended without asking for all that its journal holds."""
        if self.mismatch is not None:
            raise self.mismatch
        missing = [name for name in self._journal.intents if name not in self._asked]
        if missing:
            raise JournalMismatch(
                f"the journal holds the effect {missing[0][0]!r}, which the handler did not ask for again"
            )

    def _operation(
        self, name: str, key: str | None, given: bytes, idempotent: bool
    ) -> tuple[Operation | None, Operation]:
        if key is None and self._running.get(name):
            raise Reject(f"effects called {name!r} run at the same time; give each a key= (P11)")
        self._counts[name] = count = self._counts.get(name, 0) + 1
        ordinal = f"#{count}" if key is None else key
        if (name, ordinal) in self._asked:
            raise Reject(f"effect {name!r} with key {key!r} was asked for twice")
        self._asked.add((name, ordinal))
        args = hashlib.sha256(given).hexdigest()
        known = self._journal.intents.get((name, ordinal))
        if known is not None and known.args != args:
            self.mismatch = JournalMismatch(
                f"effect {name!r} has other arguments than its journal holds (operation {known.id})"
            )
            raise self.mismatch
        event, attempt = self._journal.message.event, self._journal.message.attempt
        if known is not None:
            return known, _again(known, attempt, self._turn)
        self._draft.begin_effect()
        operation = Operation(
            n=self._journal.next,
            name=name,
            ordinal=ordinal,
            args=args,
            attempt=attempt,
            turn=self._turn,
            id=layout.derived_id(event.source, event.id, f"effect:{name}", ordinal),
            idempotent=idempotent,
        )
        self._journal.next += 1
        return None, operation

    def _recorded(self, known: Operation, operation: Operation) -> Result | None:
        """The result to answer with; None when it is to be run (again)."""
        result = self._journal.results.get((known.name, known.ordinal))
        if result is None:
            self._note_unknown(known)
            raise OutcomeUnknown(known.id, known.name)
        if result.ok:
            return result
        if result.operation.attempt >= operation.attempt:
            self._note_result(result)
            raise NotDone(result.error or "not done")
        return None

    async def _permit(self, name: str, danger: str) -> None:
        decision = await self._keeper.effect(self._agent, name, danger)
        self.entries.append((gatekeeper.entry(decision, f"effect:{name}"), {}))
        gatekeeper.require(decision, f"effect {name!r} of {self._agent}")

    async def _perform(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        operation: Operation,
        timeout: float | None,
        *,
        again: bool,
    ) -> Any:
        if operation.idempotent:
            await self._writer.fresh()
        else:
            await self._writer.intent(self._journal, operation, again=again)
        try:
            async with asyncio.timeout(timeout):
                value = await _call(function, args, _with_key(function, kwargs, operation.id))
            result = Result(operation=operation, ok=True, value=codec.encode(value))
        except NotDone as error:
            if not operation.idempotent:
                await self._keep(Result(operation=operation, ok=False, error=codec.clean(str(error))))
            raise
        except BaseException as error:
            if operation.idempotent:
                raise
            self._note_unknown(operation)
            task = asyncio.current_task()
            if isinstance(error, Exception) or (
                isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
            ):
                raise OutcomeUnknown(operation.id, operation.name) from error
            raise
        await self._keep(result)
        return _value(function, result)

    async def _keep(self, result: Result) -> None:
        await self._writer.result(self._journal, result)
        self._journal.keep_result(result)
        self._note_result(result)

    def _note_result(self, result: Result) -> None:
        if result.ok:
            self._note("effect.result", result.operation, result=result.value)
        else:
            self._note(
                "effect.result", result.operation, result=codec.encode({"not_done": result.error}), outcome="not_done"
            )

    def _note_unknown(self, operation: Operation) -> None:
        self.unknown.append(operation)
        self._note("effect.unknown", operation)

    def _note(self, kind: str, operation: Operation, outcome: str | None = None, **payloads: bytes) -> None:
        entry: Entry = {"k": kind, "name": operation.name, "op": operation.id, "attempt": operation.attempt}
        if outcome:
            entry["outcome"] = outcome
        self.entries.append((entry, {name: Payload(self._entropy(32), data) for name, data in payloads.items()}))


def _again(known: Operation, attempt: int, turn: str) -> Operation:
    return Operation(
        n=known.n,
        name=known.name,
        ordinal=known.ordinal,
        id=known.id,
        args=known.args,
        attempt=attempt,
        turn=turn,
        idempotent=known.idempotent,
    )


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(_plain(function)):
        return await function(*args, **kwargs)
    value = await asyncio.to_thread(function, *args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a partial or a callable object."""
    while isinstance(function, partial):
        function = function.func
    known = inspect.isfunction(function) or inspect.ismethod(function) or inspect.isbuiltin(function)
    return function if known else type(function).__call__


def _with_key(function: Callable[..., Any], kwargs: dict[str, Any], operation: str) -> dict[str, Any]:
    return {**kwargs, "idempotency_key": operation} if _signature(function)[0] else kwargs


def _value(function: Callable[..., Any], result: Result) -> Any:
    """The value in the function's own return type: the same from the journal as from the call."""
    return _signature(function)[1].validate_json(result.value)


@lru_cache(maxsize=1000)
def _signature(function: Callable[..., Any]) -> tuple[bool, TypeAdapter[Any]]:
    """Whether it wants the operation id, and how its result is read."""
    target = _plain(function)
    try:
        wants_key = "idempotency_key" in inspect.signature(target).parameters
        hint = typing.get_type_hints(target).get("return", Any)
    except (TypeError, ValueError, NameError):
        return False, TypeAdapter(Any)
    return wants_key, TypeAdapter(hint)
