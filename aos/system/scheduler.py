"""Schedules made by operators: an agent `schedule/<name>` that arms its own next firing (P26).

Schedules declared in code with `@cron` need none of this: they live in their agent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on, query
from aos.kernel.context import Context, Query
from aos.kernel.errors import Reject
from aos.system.calendar import CronCalendar

FIRE = "schedule.fire"
LATE_SECONDS = 60


class Schedule(BaseModel):
    """What is fired, when, and what happens to firings missed while nothing ran."""

    cron: str
    agent: str
    type: str
    data: Any = None
    tz: str = "UTC"
    catch_up: Literal["one", "all", "none"] = "one"


class ScheduleState(BaseModel):
    schedule: Schedule | None = None
    generation: int = 0
    due: datetime | None = None
    fired: int = 0
    skipped: int = 0


class Firing(BaseModel):
    generation: int
    due: datetime


class Scheduler(Agent[ScheduleState], type="schedule"):
    """One agent a schedule."""

    def __init__(self, calendar: CronCalendar | None = None) -> None:
        self.calendar = calendar or CronCalendar()

    @on("schedule.set")
    def set(self, data: Schedule, ctx: Context[ScheduleState]) -> datetime:
        """Set or replace it; the answer is when it fires first."""
        try:
            self.calendar.check(data.cron, data.tz)
        except ValueError as error:
            raise Reject(str(error)) from None
        Address.parse(data.agent)
        ctx.state.schedule = data
        ctx.state.generation += 1
        return self._arm(ctx, data, ctx.now)

    @on("schedule.delete")
    def delete(self, ctx: Context[ScheduleState]) -> bool:
        """True if there was one."""
        known = ctx.state.schedule is not None
        ctx.state.schedule, ctx.state.due = None, None
        ctx.cancel("next")
        return known

    @on(FIRE)
    def fire(self, data: Firing, ctx: Context[ScheduleState]) -> None:
        schedule = ctx.state.schedule
        if schedule is None or data.generation != ctx.state.generation or data.due != ctx.state.due:
            return
        if schedule.catch_up == "none" and (ctx.now - data.due).total_seconds() > LATE_SECONDS:
            ctx.state.skipped += 1
        else:
            ctx.send(schedule.agent, schedule.type, schedule.data)
            ctx.state.fired += 1
        self._arm(ctx, schedule, data.due if schedule.catch_up == "all" else max(ctx.now, data.due))

    @query
    def show(self, ctx: Query[ScheduleState]) -> ScheduleState:
        return ctx.state

    def _arm(self, ctx: Context[ScheduleState], schedule: Schedule, after: datetime) -> datetime:
        due = self.calendar.next(schedule.cron, schedule.tz, after).astimezone(UTC)
        ctx.state.due = due
        ctx.schedule(FIRE, Firing(generation=ctx.state.generation, due=due), key="next", at=due)
        return due
