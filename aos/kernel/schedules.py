"""Schedules declared in code: a cron schedule of an agent re-arms itself in the firing's commit (P26)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from aos.kernel.address import Address
from aos.kernel.event import Event, encode_data
from aos.kernel.message import Message
from aos.kernel.ports import Calendar
from aos.kernel.registry import AgentType, CronJob, cron_event

LATE = 60_000
"""ms after which a firing counts as missed, for `catch_up="none"`."""
ARM = "aos.cron.arm"


def generation(job: CronJob) -> str:
    """Changes when the schedule's definition does; then the old firings are stale."""
    mark = job.mark
    return hashlib.sha256(f"{mark.expression}\n{mark.tz}\n{mark.catch_up}".encode()).hexdigest()[:12]


def find(kind: AgentType, name: str) -> CronJob | None:
    return next((job for job in kind.crons if job.name == name), None)


def timer_name(name: str) -> str:
    return f"cron:{name}"


def of_timer(kind: AgentType, name: str) -> CronJob | None:
    """The schedule that a timer belongs to."""
    return find(kind, name.removeprefix("cron:")) if name.startswith("cron:") else None


def firing(source: str, job: CronJob, due: int) -> Event:
    """A firing's event: its id says which firing it is, so that a doubled one is a duplicate."""
    return Event(id=f"cron:{job.name}:{generation(job)}:{due}", source=source, type=cron_event(job.name))


def next_due(calendar: Calendar, job: CronJob, due: int | None, now: int) -> int:
    """When it fires next: after `now`, or after the last due time where every missed firing is to be caught up."""
    late = due is not None and job.mark.catch_up == "all"
    base = due if due is not None and late else max(now, due or 0)  # a clock behind the bus's must not fire twice
    found = calendar.next(job.mark.expression, job.mark.tz, datetime.fromtimestamp(base / 1000, UTC))
    return int(found.timestamp() * 1000)


def missed(job: CronJob, due: int, now: int) -> bool:
    """The firing comes too late to be run."""
    return job.mark.catch_up == "none" and now - due > LATE


def arming(kinds: Iterable[AgentType], now: int) -> list[Message]:
    """The events that arm every schedule declared in code. Safe to repeat: an armed one is left alone."""
    found: list[Message] = []
    for kind in kinds:
        for job in kind.crons:
            agent = Address.of(kind.name, job.mark.key)
            id = f"arm:{agent.log}:{job.name}:{generation(job)}"
            event = Event(id=id, source="aos:schedules", type=ARM, body=encode_data({"name": job.name}))
            found.append(Message(to=agent, event=event, sent_at=now))
    return found
