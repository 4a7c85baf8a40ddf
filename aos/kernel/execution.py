"""Running one event's handler: gate, validation, hook, handler, new state. What comes out is data, no exception."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ValidationError

from aos.kernel import codec, gatekeeper
from aos.kernel.address import Address
from aos.kernel.agent import Outcome as CallOutcome
from aos.kernel.agent import Pending
from aos.kernel.codec import clean
from aos.kernel.context import Context, Query, Reader
from aos.kernel.draft import Draft
from aos.kernel.effects import EffectRunner, JournalMismatch
from aos.kernel.errors import Denied, InvalidEvent, InvalidInput, NewerState, OutcomeUnknown, Reject, Retry
from aos.kernel.event import Event
from aos.kernel.gatekeeper import Gatekeeper
from aos.kernel.head import MAX_STATE, Head
from aos.kernel.journal import Journal
from aos.kernel.ledger import Entry
from aos.kernel.message import Message
from aos.kernel.registry import AgentType, Handler, Method

MAX_REPLY = 700_000
TRACE_LINES = 60


class Verdict(StrEnum):
    """How a failed event goes on."""

    RETRY = "retry"
    DEAD = "dead"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The handler ended well."""

    state: bytes
    model: BaseModel
    schema: int
    reply: bytes
    draft: Draft
    pending: Pending | None = None
    migrated_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The handler did not."""

    verdict: Verdict
    reason: str
    error: str
    trace: str = ""
    after: timedelta | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """One event on its way through its handler."""

    agent: Address
    type: AgentType
    message: Message
    handler: Handler
    hooks: list[Handler]
    """Life-cycle hooks that run before the handler, in the same draft."""
    head: Head
    journal: Journal
    effects: EffectRunner
    draft: Draft
    reader: Reader
    model: BaseModel | None = None
    """The state after the event before, where it is known to equal `head.state`."""
    outcome: CallOutcome[Any] | None = None
    decisions: list[Entry] = field(default_factory=list[Entry])
    elapsed: int = 0
    """ms that the handler took."""
    aborted: BaseException | None = None
    """Set by the dispatcher when the turn has to start again; wins over whatever the handler made of it."""


class TurnAborted(BaseException):
    """The turn must start from the read again. Not an `Exception`, so that a handler does not catch it by accident.
    `counts`: 1 for a conflict, which may happen a bounded number of times in a row."""

    def __init__(self, *, counts: int) -> None:
        super().__init__()
        self.counts = counts


async def execute(run: Run, keeper: Gatekeeper) -> Done | Failure:
    """Run it. Raises only `TurnAborted`, `NewerState` and what cancels the task."""
    try:
        decision = await keeper.handle(run.agent, run.message.event.type, run.message.actor)
        run.decisions.append(gatekeeper.entry(decision, "handle"))
        gatekeeper.require(decision, f"event {run.message.event.type!r} to {run.agent}")
        try:
            done = await _handle(run)
        finally:
            await run.effects.close()
        run.effects.check_complete()
        return done
    except (TurnAborted, NewerState):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return failure(run, RuntimeError(f"the handler awaited something that was cancelled: {error!r}"))
    except Exception as error:
        return failure(run, run.effects.mismatch or error)
    finally:
        if run.aborted is not None:
            raise run.aborted


def failure(run: Run, error: Exception) -> Failure:
    """What an exception of the handler means."""
    name, reason, trace = type(error).__name__, text_of(error), trace_of(error)
    if isinstance(error, Denied):
        return Failure(verdict=Verdict.DENIED, reason="denied", error=reason)
    if isinstance(error, Retry):
        return Failure(verdict=Verdict.RETRY, reason=reason, error=name, trace=trace, after=error.after)
    if isinstance(error, OutcomeUnknown):
        return Failure(verdict=Verdict.DEAD, reason="outcome_unknown", error=reason, trace=trace)
    if isinstance(error, JournalMismatch):
        return Failure(verdict=Verdict.DEAD, reason="journal_mismatch", error=reason, trace=trace)
    if isinstance(error, InvalidEvent):
        return Failure(verdict=Verdict.DEAD, reason="invalid_data", error=reason)
    if isinstance(error, codec.NotSerialisable):
        return Failure(verdict=Verdict.DEAD, reason="not_serialisable", error=reason, trace=trace)
    if isinstance(error, Reject | InvalidInput):
        return Failure(verdict=Verdict.DEAD, reason="rejected", error=reason, trace=trace)
    if isinstance(error, TimeoutError):
        reason = reason or "the handler did not end in time"
        return Failure(verdict=Verdict.RETRY, reason=reason, error="TimeoutError", trace=trace)
    return Failure(verdict=Verdict.RETRY, reason=f"{name}: {reason}", error=name, trace=trace)


def text_of(error: BaseException) -> str:
    """What an exception says, as text that a record can hold, whatever the exception is like."""
    try:
        return clean(str(error))
    except Exception:
        return f"{type(error).__name__}, which can't say what it is"


def trace_of(error: BaseException) -> str:
    """The traceback, its middle cut when it is long."""
    try:
        lines = clean("".join(traceback.format_exception(error))).splitlines()
    except Exception:
        return text_of(error)
    if len(lines) > TRACE_LINES:
        lines = [*lines[: TRACE_LINES // 2], f"… {len(lines) - TRACE_LINES} lines …", *lines[-TRACE_LINES // 2 :]]
    return "\n".join(line[:500] for line in lines)


def load_state(kind: AgentType, head: Head) -> tuple[BaseModel, int | None]:
    """The state as a model, and the schema version it was migrated from, if it was."""
    if not head.state:
        return kind.state(), None
    if head.schema > kind.version:
        raise NewerState(f"{kind.name}: the state has schema version {head.schema}, this code knows {kind.version}")
    if head.schema == kind.version:
        return kind.state.model_validate_json(head.state), None
    import json

    value = json.loads(head.state)
    for version in range(head.schema, kind.version):
        value = kind.migrations[version](value)
    return kind.state.model_validate(value), head.schema


def validate(method: Method, event: Event) -> Any:
    """The event's data in the type that the method declares; `InvalidEvent` lists every error."""
    if method.data is None:
        return None
    try:
        return method.data.validate_python(event.data) if event.binary else method.data.validate_json(event.body)
    except ValidationError as error:
        raise InvalidEvent(f"data of {event.type!r} does not fit: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Every error on one line; the values are left out, they may be secrets."""
    found = (
        f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['msg']}"
        for e in error.errors(include_input=False, include_url=False)
    )
    return "; ".join(found)


def call_arguments(method: Method, data: Any, context: Query[Any]) -> dict[str, Any]:
    """Keyword arguments for the method: data and context are optional, matched by annotation."""
    found: dict[str, Any] = {}
    if method.data_name is not None:
        found[method.data_name] = data
    if method.context_name is not None:
        found[method.context_name] = context
    return found


async def _handle(run: Run) -> Done:
    model, migrated = (run.model, None) if run.model is not None else load_state(run.type, run.head)
    context: Context[Any] = Context(
        run.agent, model, run.journal.now, run.reader, run.message.event, run.draft, run.effects, run.journal.seed
    )
    reply = await _call(run, context)
    pending = reply if isinstance(reply, Pending) else None
    if pending is not None and all(pending.call != sent.call for sent in run.draft.messages):
        raise Reject("the handler returned a Pending that is not the answer to anything it sent")
    body = b"null" if reply is None or pending else codec.encode(reply)
    if len(body) > MAX_REPLY:
        raise Reject(f"the reply has {len(body):,} bytes, the limit is {MAX_REPLY:,}")
    state, model = _new_state(run, context.state)
    return Done(
        state=state,
        model=model,
        schema=run.type.version,
        reply=body,
        draft=run.draft,
        pending=pending,
        migrated_from=migrated,
    )


async def _call(run: Run, context: Context[Any]) -> Any:
    """The hooks, then the handler. A time limit only where something can be waited for: it can't stop a plain `def`."""
    methods = [*((hook.method, None) for hook in run.hooks), (run.handler.method, _data(run, run.handler))]
    if not any(method.is_async for method, _ in methods):
        results = [method.call(**call_arguments(method, data, context)) for method, data in methods]
    else:
        async with asyncio.timeout(run.handler.timeout):
            results = [await _invoke(method, data, context) for method, data in methods]
    return results[-1]


def _data(run: Run, handler: Handler) -> Any:
    if not handler.method.outcome:
        return validate(handler.method, run.message.event)
    outcome = run.outcome
    assert outcome is not None and handler.method.data is not None
    if not outcome.ok:
        return outcome
    try:
        value = handler.method.data.validate_python(outcome.value)
    except ValidationError as error:
        raise InvalidEvent(f"the answer to {handler.event!r} does not fit: {explain(error)}") from None
    return CallOutcome(call=outcome.call, ok=True, value=value)


async def _invoke(method: Method, data: Any, context: Context[Any]) -> Any:
    result = method.call(**call_arguments(method, data, context))
    return await result if method.is_async else result


def _new_state(run: Run, state: BaseModel) -> tuple[bytes, BaseModel]:
    """The state's bytes, and the model that loading them gives: what can't be loaded again must not be committed."""
    body = codec.encode_state(state)
    if len(body) > MAX_STATE:
        raise Reject(
            f"the state has {len(body):,} bytes, the limit is {MAX_STATE:,}; keep what grows in rows or history"
        )
    if body == run.head.state and run.head.schema == run.type.version and run.model is not None:
        return body, state
    try:
        return body, run.type.state.model_validate_json(body)
    except ValidationError as error:
        raise codec.NotSerialisable(f"the state could not be loaded again: {explain(error)}") from None
