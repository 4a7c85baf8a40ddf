"""What a handler asked for, written into the turn: messages, timers, history, keyed rows."""

from __future__ import annotations

from aos.kernel import calls, layout, ledger, schedules, timers
from aos.kernel.agent import Pending
from aos.kernel.draft import Outgoing, Scheduled
from aos.kernel.event import Event
from aos.kernel.execution import Done, Run
from aos.kernel.head import Timer
from aos.kernel.ledger import Entry, salted
from aos.kernel.message import Actor, Message, ReplyTo
from aos.kernel.ports import Verb
from aos.kernel.registry import AgentType, CronJob
from aos.kernel.turn import Turn


def write(turn: Turn, run: Run, done: Done, wait: Timer | None) -> None:
    """Write all that the draft holds. `wait`: the wait that this event ended, whose asker a new call inherits."""
    draft, message = done.draft, run.message
    for note in draft.notes:
        turn.entries.append({"k": "note", "text": note[:4000]})
    for sent in draft.messages:
        _send(turn, sent, message, run.type, done.pending, wait)
    for key, timer in draft.timers.items():
        _set_timer(turn, f"t:{key}", timer, message)
    if draft.history:
        _append_history(turn, draft.history)
    if draft.rows:
        _write_rows(turn, draft.rows)


def _send(
    turn: Turn, sent: Outgoing, cause: Message, kind: AgentType, pending: Pending | None, wait: Timer | None
) -> None:
    answers = pending is not None and pending.call == sent.call
    waits = answers or sent.type in kind.afters
    event = Event(id=sent.call, source=turn.agent.source, type=sent.type, body=sent.body)
    entry: Entry = {"k": "message.sent", "to": sent.to.log, "type": sent.type, "event": sent.call}
    if waits:
        entry["deadline"] = turn.now + sent.deadline
    turn.commit_to(entry, data=sent.body)
    turn.send(
        Message(
            to=sent.to,
            event=event,
            hops=cause.hops + 1,
            sent_at=turn.now + sent.delay,
            due=turn.now + sent.delay if sent.delay else None,
            reply_to=ReplyTo(turn.agent, sent.call) if waits else None,
            actor=Actor("agent", turn.agent.log, "kernel"),
            correlation=cause.correlation or cause.event.id,
            causation=cause.event.id,
            traceparent=cause.traceparent,
        )
    )
    if waits:
        _wait(turn, sent, cause, answers, wait)


def _wait(turn: Turn, sent: Outgoing, cause: Message, answers: bool, wait: Timer | None) -> None:
    name, due = calls.timer_name(sent.call), turn.now + sent.deadline
    origin = asker = None
    if answers and wait is not None:
        origin, asker = wait.origin, wait.asker
    elif answers:
        origin = (cause.event.key, cause.attempt, cause.event.request_hash)
        asker = calls.asker(cause)
    token = sent.call[:16]
    turn.head.timers = timers.with_timer(turn.head, name, Timer(token, due, sent.type, origin, asker))
    turn.send(calls.deadline(turn.agent, sent.call, timers.mark(name, token), due, cause))


def _set_timer(turn: Turn, name: str, timer: Scheduled | None, cause: Message) -> None:
    if timer is None:
        if name in turn.head.timers:
            turn.entries.append({"k": "timer.cancelled", "name": name})
            turn.head.timers = timers.without(turn.head, name)
        return
    token, due = timer.id[:16], max(timer.due, turn.now)  # a time that has passed is now
    event = Event(id=timer.id, source=turn.agent.source, type=timer.type, body=timer.body)
    turn.commit_to({"k": "timer.set", "name": name, "type": timer.type, "due": due}, data=timer.body)
    arm(turn, name, token, event, due, cause)


def _append_history(turn: Turn, items: list[bytes]) -> None:
    first, hashes = turn.head.history, list[str]()
    for n, item in enumerate(items, first):
        salt = turn.entropy(ledger.SALT)
        hashes.append(ledger.commit(salt, item))
        turn.write(Verb.PUT, layout.history(n), salted(salt, item))
    turn.entries.append({"k": "history.appended", "first": first, "hashes": hashes})
    turn.head.history = first + len(items)


def _write_rows(turn: Turn, rows: dict[tuple[str, str], bytes | None]) -> None:
    written: list[Entry] = []
    for (name, key), body in rows.items():
        if body is None:
            turn.write(Verb.DELETE, layout.keyed(name, key))
            written.append({"name": name, "key": key, "hash": None})
        else:
            salt = turn.entropy(ledger.SALT)
            turn.write(Verb.PUT, layout.keyed(name, key), salted(salt, body))
            written.append({"name": name, "key": key, "hash": ledger.commit(salt, body)})
    turn.entries.append({"k": "rows.written", "rows": written})


def arm(turn: Turn, name: str, token: str, event: Event, due: int, cause: Message | None = None) -> None:
    """Put a timer's token into the head and its message into the outbox."""
    turn.head.timers = timers.with_timer(turn.head, name, Timer(token, due, event.type))
    turn.send(
        Message(
            to=turn.agent,
            event=event,
            token=timers.mark(name, token),
            due=due,
            sent_at=due,
            actor=Actor("agent", turn.agent.log, "kernel"),
            correlation=cause and (cause.correlation or cause.event.id),
            causation=cause and cause.event.id,
            traceparent=cause and cause.traceparent,
        )
    )


def arm_cron(turn: Turn, job: CronJob, due: int | None) -> int:
    """Arm the next firing of a schedule; returns when that is."""
    assert turn.calendar is not None
    following = schedules.next_due(turn.calendar, job, due, turn.now)
    name = schedules.timer_name(job.name)
    event = schedules.firing(turn.agent.source, job, following)
    turn.entries.append({"k": "timer.set", "name": name, "type": event.type, "due": following})
    arm(turn, name, f"{schedules.generation(job)}{following}", event, following)
    return following
