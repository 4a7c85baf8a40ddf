"""What an event comes to: each function takes one event to its end in a turn (P5, P17, P19, P20, P25)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from aos.kernel import answers, backlog, calls, deadletter, index, intents, layout, schedules, screening, timers
from aos.kernel.event import encode_data
from aos.kernel.execution import Done, Failure, Run, Verdict
from aos.kernel.head import Life, Timer
from aos.kernel.item import Ended, Item
from aos.kernel.ledger import Entry
from aos.kernel.message import Actor, Message
from aos.kernel.ports import Verb
from aos.kernel.receipt import Receipt, Status, Waits
from aos.kernel.registry import AgentType
from aos.kernel.turn import Turn

CLOSED_AT_ONCE = 30
"""Waits that the turn which terminates an agent closes."""


def handled(turn: Turn, item: Item, run: Run, done: Done) -> None:
    """The handler ended well: its state, its draft and its reply become part of the turn."""
    message = item.message
    _decisions(turn, run)
    _born(turn, done)
    entry = turn.event("event.handled", message, ms=run.elapsed)
    pays = {"data": message.event.body} if done.pending else {"data": message.event.body, "reply": done.reply}
    turn.commit_to(entry, **pays)
    reply = None if done.pending else len(turn.payloads) - 1
    turn.head.state = done.state
    turn.head.schema = done.schema
    wait = calls.waiting(turn.head, message)
    _end_timer(turn, item, run.type)
    intents.write(turn, run, done, wait)
    if wait is not None and wait.origin is not None and not done.pending:
        answers.close_origin(turn, wait, done.reply)
    _receipt_of_done(turn, item, done, reply)
    _forget_journal(turn, run)
    if done.draft.terminate:
        terminate(turn, message.actor)


def failed(turn: Turn, item: Item, failure: Failure, run: Run) -> None:
    """The handler did not end well: nothing of its draft is kept, but what it decided and did is on record."""
    if failure.verdict is Verdict.DENIED:
        _denied(turn, item, failure, run)
    elif failure.verdict is Verdict.DEAD or item.message.attempt >= run.handler.max_attempts:
        reason = failure.reason if failure.verdict is Verdict.DEAD else "max_attempts"
        error = failure.error if failure.verdict is Verdict.DEAD else failure.reason
        dead(turn, item, reason, error, failure.trace, run)
    else:
        _retry(turn, item, failure, run)


def dead(
    turn: Turn,
    item: Item,
    reason: str,
    error: str,
    trace: str = "",
    run: Run | None = None,
    kind: AgentType | None = None,
) -> None:
    """Give the event up, visibly: a dead letter, and an answer to whoever waits."""
    message = item.message
    if run is not None:
        _decisions(turn, run)
    entry = turn.event("event.dead_lettered", message, reason=reason, error=error[:500])
    turn.commit_to(entry, data=message.event.body, **({"trace": trace.encode()} if trace else {}))
    operations = (
        tuple({"op": op.id, "name": op.name} for op in run.journal.open()) if run and run.journal.written else ()
    )
    letter = deadletter.DeadLetter(
        message=message,
        reason=reason,
        error=error[:2000],
        at=turn.now,
        seq=turn.head.seq,
        trace=len(turn.payloads) - 1 if trace else None,
        operations=operations,
        journal=bool(run and run.journal.written) or bool(item.receipt and item.receipt.journal),
    )
    turn.write(Verb.PUT, layout.dead_letter(message.event.key), letter.encode())
    turn.head.dead = turn.head.dead + 1
    turn.index += index.dead_letter_rows(turn.agent, message.event.key, turn.head.seq, letter.about(), open=True)
    _receipt(turn, item, Status.DEAD, reason=reason, journal=letter.journal)
    _unwait(turn, item)
    wait = calls.waiting(turn.head, message)
    if wait is None:
        _end_timer(turn, item, kind or (run.type if run else None))
    else:
        _lost_answer(turn, message, wait, reason)
    answers.tell_failure(turn, message, reason)
    _finish(turn, item, Ended.DEAD, None, reason)


def discarded(turn: Turn, item: Item, kind: str, reason: str, kind_of: AgentType | None = None) -> None:
    """The event ends without having been run, and that is no failure (expired, stale, a missed firing)."""
    entry = turn.event(kind, item.message, reason=reason)
    turn.commit_to(entry, data=item.message.event.body)
    _receipt(turn, item, Status.DISCARDED, reason=reason)
    _end_timer(turn, item, kind_of)
    _unwait(turn, item)
    answers.tell_failure(turn, item.message, reason)
    _finish(turn, item, Ended.DISCARDED, None, reason)


def put_off(turn: Turn, item: Item, due: int, reason: str) -> None:
    """An event of the backlog that can't be tried here: it goes onto the bus again (P17)."""
    entry = turn.event("event.deferred", item.message, reason=reason)
    turn.commit_to(entry, data=item.message.event.body)
    journal = bool(item.receipt and item.receipt.journal)
    _receipt(turn, item, Status.OPEN, waits=Waits.RETRY, reason=reason, journal=journal)
    turn.send(item.message.put_off(due, unknown=True))
    _finish(turn, item, Ended.DEFERRED, None, reason)


def reused(turn: Turn, item: Item, reason: str, error: str) -> None:
    """An id that came before with other contents: a dead letter under a key of its own (P4)."""
    dead(turn, screening.reused(item), reason, error)
    _finish(turn, item, Ended.DEAD, None, reason)


def passed(turn: Turn, item: Item, kind: AgentType, wait: Timer) -> None:
    """An answer without an `@after`: it becomes the answer to whoever asked this agent."""
    message, outcome = item.message, calls.outcome(item.message)
    entry = turn.event("event.handled", message)
    turn.commit_to(entry, data=message.event.body)
    _end_timer(turn, item, kind)
    if wait.origin is not None and outcome.ok:
        answers.close_origin(turn, wait, encode_data(outcome.value))
    elif wait.origin is not None:
        answers.fail_origin(turn, wait, outcome.reason or "failed")
    _receipt(turn, item, Status.HANDLED)
    _unwait(turn, item)
    _finish(turn, item, Ended.HANDLED, None, None)


def hooked(turn: Turn, run: Run, done: Done) -> None:
    """A life-cycle hook ended well: its state and its draft become part of the command's turn."""
    _decisions(turn, run)
    _born(turn, done)
    turn.head.state = done.state
    turn.head.schema = done.schema
    intents.write(turn, run, done, None)
    _forget_journal(turn, run)


def set_aside(turn: Turn, item: Item, reason: str) -> None:
    """Append the event to the backlog (P25). The one that the others wait for goes before them (P20)."""
    first, following = turn.head.backlog
    entry = turn.event("event.backlogged", item.message, reason=reason)
    turn.commit_to(entry, data=item.message.event.body)
    if turn.head.waiting_for == item.message.event.key:
        turn.head.waiting_for = None
        number, turn.head.backlog = first - 1, (first - 1, following)
    else:
        number, turn.head.backlog = following, (first, following + 1)
    turn.write(Verb.PUT, layout.backlog(number), backlog.encode(item.message, item.receipt))
    _receipt(turn, item, Status.OPEN, waits=Waits.BACKLOG, journal=bool(item.receipt and item.receipt.journal))
    _finish(turn, item, Ended.BACKLOG, None, reason)


def terminate(turn: Turn, actor: Actor) -> None:
    """The end: all timers are void, whoever waits for an answer is told, the log is never used again (P25). What does
    not fit this turn waits for its answer or deadline, which tells the asker the same."""
    waits = {name: timer for name, timer in turn.head.timers.items() if timer.origin is not None}
    for name in list(waits)[:CLOSED_AT_ONCE]:
        if len(turn.writes) + 5 > turn.limits.operations:
            break
        answers.fail_origin(turn, waits.pop(name), "terminated")
    turn.entries.append({"k": "agent.terminated", "actor": actor.record()})
    turn.head.life = Life.TERMINATED
    turn.head.timers = waits


def orphaned(turn: Turn, item: Item) -> None:
    """The answer to a call of an agent that has been terminated: whoever asked it is told."""
    wait = calls.waiting(turn.head, item.message)
    if wait is not None and wait.origin is not None:
        answers.fail_origin(turn, wait, "terminated")
    discarded(turn, item, "event.expired", "terminated")


def commanded(turn: Turn, item: Item, entries: Iterable[Entry], reply: Any) -> None:
    """A command of the kernel was carried out; what it wrote is in the turn already."""
    for entry in entries:
        turn.entries.append({**entry, "actor": item.message.actor.record()})
    entry = turn.event("event.handled", item.message)
    value = encode_data(reply)
    turn.commit_to(entry, data=item.message.event.body, reply=value)
    _receipt(turn, item, Status.HANDLED, reply=len(turn.payloads) - 1)
    answers.tell(turn, item.message, value)
    _unwait(turn, item)
    _finish(turn, item, Ended.HANDLED, value, None)


def _lost_answer(turn: Turn, message: Message, wait: Timer, reason: str) -> None:
    """The answer can't be handled. The wait goes on until its deadline, which tells the handler so; when the deadline
    can't be handled either, whoever asked is told, and the wait stays without one, in case it is redriven."""
    call = calls.outcome(message).call
    name = calls.timer_name(call)
    if message.token is None:
        token = timers.restored(wait.token)
        turn.head.timers = timers.with_timer(turn.head, name, wait._replace(token=token))
        if wait.due <= turn.now:  # it came while the answer was being tried, and was stale then
            turn.send(calls.deadline(turn.agent, call, timers.mark(name, token), turn.now, message))
        return
    if wait.origin is not None:
        answers.fail_origin(turn, wait, reason)
    turn.head.timers = timers.with_timer(turn.head, name, wait._replace(token="", origin=None, asker=None))


def _born(turn: Turn, done: Done) -> None:
    if turn.head.life is Life.CREATED:
        turn.entries.append({"k": "agent.initialized", "schema": done.schema})
        turn.head.life = Life.ACTIVE
    if done.migrated_from is not None:
        turn.entries.append({"k": "state.migrated", "from": done.migrated_from, "to": done.schema})


def _retry(turn: Turn, item: Item, failure: Failure, run: Run) -> None:
    message = item.message
    _decisions(turn, run)
    entry = turn.event("event.failed", message, reason=failure.reason[:500], error=failure.error[:200])
    turn.commit_to(entry, data=message.event.body, **({"trace": failure.trace.encode()} if failure.trace else {}))
    wait = _back_off(turn, message.attempt, failure.after)
    turn.entries[-1]["retry_ms"] = wait
    journal = run.journal.written
    again = message.again(attempt=message.attempt + 1, due=turn.now + wait)
    _receipt(
        turn, item, Status.OPEN, waits=Waits.RETRY, attempt=again.attempt, reason=failure.reason[:500], journal=journal
    )
    if item.unfinished or journal:
        turn.head.unfinished = None
    if run.type.ordered:
        turn.head.waiting_for = message.event.key
    wait = calls.waiting(turn.head, message)
    if wait is not None and message.token is None:  # the answer is here: from now on it ends the wait, no deadline does
        name = calls.timer_name(calls.outcome(message).call)
        turn.head.timers = timers.with_timer(turn.head, name, wait._replace(token=timers.void(wait.token)))
    turn.send(again)
    _finish(turn, item, Ended.RETRY, None, failure.reason)


def _denied(turn: Turn, item: Item, failure: Failure, run: Run) -> None:
    _decisions(turn, run)
    entry = turn.event("event.failed", item.message, reason="denied", error=failure.error[:500])
    turn.commit_to(entry, data=item.message.event.body)
    _receipt(turn, item, Status.DISCARDED, reason="denied")
    wait = calls.waiting(turn.head, item.message)
    if wait is not None and wait.origin is not None:
        answers.fail_origin(turn, wait, "denied")
    _end_timer(turn, item, run.type)
    _unwait(turn, item)
    _forget_journal(turn, run)
    answers.tell_failure(turn, item.message, "denied")
    _finish(turn, item, Ended.DISCARDED, None, "denied")


def _back_off(turn: Turn, attempt: int, after: timedelta | None) -> int:
    """Exponential with jitter of a fifth either way, unless the handler said when."""
    if after is not None:
        return after // timedelta(milliseconds=1)
    base = min(turn.limits.retry_cap, turn.limits.retry_base * 2 ** (attempt - 1))
    return base * (800 + int.from_bytes(turn.entropy(2), "big") % 400) // 1000


def _end_timer(turn: Turn, item: Item, kind: AgentType | None) -> None:
    """The token is removed by the commit that handles it (P21); a schedule arms its next firing."""
    message = item.message
    wait = calls.waiting(turn.head, message)
    name = timers.name_of(message)
    if wait is not None:
        name = calls.timer_name(calls.outcome(message).call)
    due = turn.head.timers[name].due if name in turn.head.timers else None
    if name is None or due is None or (wait is None and timers.stale(turn.head, message)):
        return
    turn.head.timers = timers.without(turn.head, name)
    if kind is not None and (job := schedules.of_timer(kind, name)) is not None:
        intents.arm_cron(turn, job, due)


def _receipt_of_done(turn: Turn, item: Item, done: Done, reply: int | None) -> None:
    message = item.message
    if done.pending is not None:
        _receipt(turn, item, Status.OPEN, waits=Waits.ANSWER)
        _finish(turn, item, Ended.PENDING, None, None)
    else:
        _receipt(turn, item, Status.HANDLED, reply=reply)
        answers.tell(turn, message, done.reply)
        _finish(turn, item, Ended.HANDLED, done.reply, None)
    _unwait(turn, item)


def _receipt(
    turn: Turn,
    item: Item,
    status: Status,
    *,
    waits: Waits | None = None,
    reply: int | None = None,
    reason: str | None = None,
    attempt: int | None = None,
    journal: bool = False,
) -> None:
    message = item.message
    receipt = Receipt(
        attempt=attempt or message.attempt,
        status=status,
        request=message.event.request_hash,
        turn=turn.id,
        seq=turn.head.seq,
        waits=waits,
        reply=reply,
        reason=reason,
        at=turn.now,
        journal=journal,
    )
    verb = Verb.INSERT if item.receipt is None else Verb.PUT
    turn.write(verb, layout.receipt(message.event.key), receipt.encode())
    if item.backlog is not None:
        turn.write(Verb.DELETE, layout.backlog(item.backlog))
        turn.head.backlog = (item.backlog + 1, turn.head.backlog[1])


def _unwait(turn: Turn, item: Item) -> None:
    """The event is over: nothing waits for it any more, in this agent."""
    key = item.message.event.key
    if turn.head.waiting_for == key:
        turn.head.waiting_for = None
    if turn.head.unfinished is not None and turn.head.unfinished.key == key:
        turn.head.unfinished = None


def _forget_journal(turn: Turn, run: Run) -> None:
    for key in run.journal.row_keys():
        turn.write(Verb.DELETE, key)


def _decisions(turn: Turn, run: Run) -> None:
    """What the gate decided and what the effects did: on record whatever the event came to."""
    turn.entries += run.decisions
    for entry, payloads in run.effects.entries:
        full = dict(entry)
        for name in sorted(payloads):
            full[name] = payloads[name].commitment()
            turn.pay(payloads[name])
        turn.entries.append(full)


def _finish(turn: Turn, item: Item, ended: Ended, value: bytes | None, reason: str | None) -> None:
    turn.keys[item.message.event.key] = None
    turn.ended.append((item, ended, value, reason))
