"""An incident: one agent a fingerprint."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel

from aos import Agent, Context, Outcome, Pending, Query, Reject, after, on, query
from examples.operations_desk.alert import Acknowledgement, Alert, Resolution
from examples.operations_desk.board import BOARD, Change
from examples.operations_desk.on_call import Notice


class Status(StrEnum):
    QUIET = "quiet"
    OPEN = "open"
    """Nobody has acknowledged it yet."""
    ACKNOWLEDGED = "acknowledged"
    ESCALATED = "escalated"
    RESOLVED = "resolved"

    @property
    def over(self) -> bool:
        return self in (Status.QUIET, Status.RESOLVED)


class IncidentState(BaseModel):
    status: Status = Status.QUIET
    team: str = ""
    summary: str = ""
    alerts: int = 0
    occurrences: int = 0
    by: str | None = None


class Incident(Agent[IncidentState]):
    """Deduplicates alerts, has on-call paged, and escalates when nobody acknowledges in time."""

    def __init__(self, escalate_after: timedelta) -> None:
        self.escalate_after = escalate_after

    @on("alert.raised", key="data.fingerprint")
    def raised(self, data: Alert, ctx: Context[IncidentState]) -> Pending | str:
        state = ctx.state
        state.alerts += 1
        ctx.append({"at": data.at, "severity": data.severity, "summary": data.summary})
        if not state.status.over:
            _tell(ctx, "repeated")
            return f"{ctx.me} has had {state.alerts} alerts"
        state.status, state.by = Status.OPEN, None
        state.team, state.summary = data.team, data.summary
        state.occurrences += 1
        _tell(ctx, "opened")
        ctx.schedule("incident.escalate", key="escalation", after=self.escalate_after)
        return ctx.send(f"on-call/{data.team}", "on-call.page", _notice(ctx))

    @after("on-call.page")
    def paged(self, done: Outcome[str], ctx: Context[IncidentState]) -> str:
        """What it returns answers the alert that opened the incident."""
        _tell(ctx, "paged" if done.ok else "page failed")
        return f"{ctx.me} is open, {done.value if done.ok else 'nobody'} was paged"

    @on("alert.acknowledged", key="data.fingerprint")
    def acknowledged(self, data: Acknowledgement, ctx: Context[IncidentState]) -> str:
        if ctx.state.status.over:
            raise Reject(f"{ctx.me} is {ctx.state.status}: there is nothing to acknowledge")
        ctx.cancel("escalation")
        ctx.state.status, ctx.state.by = Status.ACKNOWLEDGED, data.by
        _tell(ctx, "acknowledged")
        return f"{ctx.me} is with {data.by}"

    @on("alert.resolved", key="data.fingerprint")
    def resolved(self, data: Resolution, ctx: Context[IncidentState]) -> str:
        if ctx.state.status.over:
            raise Reject(f"{ctx.me} is {ctx.state.status}: there is nothing to resolve")
        ctx.cancel("escalation")
        ctx.state.status = Status.RESOLVED
        _tell(ctx, "resolved")
        return f"{ctx.me} is resolved"

    @on("incident.escalate", senders=("incident",))
    def escalate(self, ctx: Context[IncidentState]) -> None:
        """The timer. An acknowledgement cancels it, so it comes only when there was none."""
        ctx.state.status = Status.ESCALATED
        _tell(ctx, "escalated")
        ctx.send(f"on-call/{ctx.state.team}", "on-call.phone", _notice(ctx))

    @after("on-call.phone")
    def phoned(self, done: Outcome[str], ctx: Context[IncidentState]) -> None:
        """Not ok also means: nobody knows whether the phone rang. Then on-call has a dead letter that says so."""
        _tell(ctx, "phoned" if done.ok else "phone failed")

    @query
    def show(self, ctx: Query[IncidentState]) -> IncidentState:
        return ctx.state


def _notice(ctx: Context[IncidentState]) -> Notice:
    return Notice(incident=str(ctx.me), text=ctx.state.summary)


def _tell(ctx: Context[IncidentState], what: str) -> None:
    ctx.send(BOARD, "board.changed", Change(incident=ctx.me.key, what=what, status=ctx.state.status))
