"""A turn as data: from a head and what its events came to, to the next head, one record and a batch of writes.

Nothing here waits or reads. The dispatcher feeds it outcomes in order and commits what `seal` gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from aos.kernel import backlog, calls, deadletter, index, layout, ledger, outbox, schedules, timers
from aos.kernel.address import Address
from aos.kernel.agent import Pending
from aos.kernel.draft import MAX_MESSAGES, Outgoing, Scheduled
from aos.kernel.event import Event, encode_data
from aos.kernel.execution import Done, Failure, Run, Verdict
from aos.kernel.head import INLINE_STATE, Head, Life, Timer
from aos.kernel.item import Ended, Item
from aos.kernel.ledger import Entry, Payload
from aos.kernel.limits import Limits
from aos.kernel.message import Actor, Message, ReplyTo
from aos.kernel.ports import Batch, Calendar, IndexRow, Verb, Version, Write
from aos.kernel.receipt import Receipt, Status, Waits
from aos.kernel.registry import AgentType, CronJob


class Host(NamedTuple):
    """Who commits; stands in every record."""

    name: str
    version: str
    instance: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A turn ready to be committed."""

    batch: Batch
    head: Head
    messages: tuple[Message, ...]
    index: tuple[IndexRow, ...]
    blobs: tuple[tuple[str, bytes], ...]
    outbox: str | None
    """Row key of the outbox row in the batch, if there is one."""


@dataclass(slots=True)
class Turn:
    """A turn being drafted. Every public method takes one event to its end."""

    agent: Address
    head: Head
    version: Version | None
    now: int
    id: str
    host: Host
    entropy: Callable[[int], bytes]
    limits: Limits
    calendar: Calendar | None = None
    entries: list[Entry] = field(default_factory=list[Entry])
    payloads: list[Payload] = field(default_factory=list[Payload])
    writes: list[Write] = field(default_factory=list[Write])
    messages: list[Message] = field(default_factory=list[Message])
    index: list[IndexRow] = field(default_factory=list[IndexRow])
    recent: list[str] = field(default_factory=list[str])
    ended: list[tuple[Item, Ended, bytes | None, str | None]] = field(default_factory=list[Any])
    answered: list[tuple[str, Ended, bytes | None, str | None]] = field(default_factory=list[Any])
    """Earlier events whose open receipt this turn closes."""
    size: int = 0

    # ------------------------------------------------------------------------------------ what events come to

    def handled(self, item: Item, run: Run, done: Done) -> None:
        """The handler ended well: its state, its draft and its reply become part of the turn."""
        message = item.message
        self._decisions(run)
        self._born(done)
        entry = self._event("event.handled", message, ms=run.elapsed)
        pays = {"data": message.event.body} if done.pending else {"data": message.event.body, "reply": done.reply}
        self._commit_to(entry, **pays)
        reply = None if done.pending else len(self.payloads) - 1
        self.head.state = done.state
        self.head.schema = done.schema
        wait = calls.waiting(self.head, message)
        self._end_timer(item, run.type)
        self._write_draft(run, done, wait)
        if wait is not None and wait.origin is not None and not done.pending:
            self._answer_origin(wait, done.reply)
        self._receipt_of_done(item, done, reply)
        self._forget_journal(run)
        if done.draft.terminate:
            self.terminate(message.actor)

    def failed(self, item: Item, failure: Failure, run: Run | None, max_attempts: int, ordered: bool) -> None:
        """The handler did not end well: nothing of its draft is kept, but what it decided and did is on record."""
        if failure.verdict is Verdict.DENIED:
            self._denied(item, failure, run)
        elif failure.verdict is Verdict.DEAD or item.message.attempt >= max_attempts:
            reason = failure.reason if failure.verdict is Verdict.DEAD else "max_attempts"
            error = failure.error if failure.verdict is Verdict.DEAD else failure.reason
            self.dead(item, reason, error, failure.trace, run)
        else:
            self._retry(item, failure, run, ordered)

    def dead(self, item: Item, reason: str, error: str, trace: str = "", run: Run | None = None) -> None:
        """Give the event up, visibly: a dead letter, and an answer to whoever waits."""
        message = item.message
        if run is not None:
            self._decisions(run)
        entry = self._event("event.dead_lettered", message, reason=reason, error=error[:500])
        self._commit_to(entry, data=message.event.body, **({"trace": trace.encode()} if trace else {}))
        operations = (
            tuple({"op": op.id, "name": op.name} for op in run.journal.open()) if run and run.journal.written else ()
        )
        letter = deadletter.DeadLetter(
            message=message,
            reason=reason,
            error=error[:2000],
            at=self.now,
            seq=self.head.seq,
            trace=len(self.payloads) - 1 if trace else None,
            operations=operations,
            journal=bool(run and run.journal.written) or bool(item.receipt and item.receipt.journal),
        )
        self.write(Verb.PUT, layout.dead_letter(message.event.key), letter.encode())
        self.head.dead = self.head.dead + 1
        self.index += index.dead_letter_rows(self.agent, message.event.key, self.head.seq, letter.about(), open=True)
        self._receipt(item, Status.DEAD, reason=reason, journal=letter.journal)
        self._unwait(item)
        wait = calls.waiting(self.head, message)
        if wait is None or message.token is not None:  # a lost answer's wait goes on until its deadline
            self._end_timer(item, run.type if run else None)
            if wait is not None and wait.origin is not None:
                self._fail_origin(wait, reason)
        self._answer_failure(message, reason)
        self._finish(item, Ended.DEAD, None, reason)

    def discarded(self, item: Item, kind: str, reason: str, kind_of: AgentType | None = None) -> None:
        """The event ends without having been run, and that is no failure (expired, a missed firing)."""
        entry = self._event(kind, item.message, reason=reason)
        self._commit_to(entry, data=item.message.event.body)
        self._receipt(item, Status.DISCARDED, reason=reason)
        self._end_timer(item, kind_of)
        self._answer_failure(item.message, reason)
        self._finish(item, Ended.DISCARDED, None, reason)

    def passed(self, item: Item, kind: AgentType, wait: Timer) -> None:
        """An answer without an `@after`: it becomes the answer to whoever asked this agent."""
        message, outcome = item.message, calls.outcome(item.message)
        entry = self._event("event.handled", message)
        self._commit_to(entry, data=message.event.body)
        self._end_timer(item, kind)
        if wait.origin is not None and outcome.ok:
            self._answer_origin(wait, encode_data(outcome.value))
        elif wait.origin is not None:
            self._fail_origin(wait, outcome.reason or "failed")
        self._receipt(item, Status.HANDLED)
        self._unwait(item)
        self._finish(item, Ended.HANDLED, None, None)

    def hooked(self, run: Run, done: Done) -> None:
        """A life-cycle hook ended well: its state and its draft become part of the command's turn."""
        self._decisions(run)
        self._born(done)
        self.head.state = done.state
        self.head.schema = done.schema
        self._write_draft(run, done, None)

    def set_aside(self, item: Item, reason: str) -> None:
        """Append the event to the backlog (P25)."""
        first, following = self.head.backlog
        entry = self._event("event.backlogged", item.message, reason=reason)
        self._commit_to(entry, data=item.message.event.body)
        self.write(Verb.PUT, layout.backlog(following), backlog.encode(item.message))
        self.head.backlog = (first, following + 1)
        self._receipt(item, Status.OPEN, waits=Waits.BACKLOG)
        self._finish(item, Ended.BACKLOG, None, reason)

    def commanded(self, item: Item, entries: Iterable[Entry], reply: Any) -> None:
        """A command of the kernel was carried out; what it wrote is in the turn already."""
        for entry in entries:
            self.entries.append({**entry, "actor": item.message.actor.record()})
        entry = self._event("event.handled", item.message)
        value = encode_data(reply)
        self._commit_to(entry, data=item.message.event.body, reply=value)
        self._receipt(item, Status.HANDLED, reply=len(self.payloads) - 1)
        self._answer(item.message, value)
        self._finish(item, Ended.HANDLED, value, None)

    def terminate(self, actor: Actor) -> None:
        """The end: all timers are void, the log is never used again."""
        self.entries.append({"k": "agent.terminated", "actor": actor.record()})
        self.head.life = Life.TERMINATED
        self.head.timers = {}

    def write(self, verb: Verb, key: str, body: bytes = b"") -> None:
        self.writes.append(Write(verb, key, body))
        self.size += len(body)

    def send(self, message: Message) -> None:
        self.messages.append(message)
        self.size += len(message.event.body)

    # -------------------------------------------------------------------------------------------------- limits

    @property
    def empty(self) -> bool:
        return not self.entries

    def fits(self, run: Run, done: Done | Failure) -> bool:
        """Whether the event may join this turn (P13). The first one always may: one event's limits are lower."""
        if not self.ended:
            return True
        draft = run.draft
        operations = len(draft.history) + len(draft.rows) + len(run.journal.row_keys()) + 4
        weight = draft.size + len(run.message.event.body) + (len(done.reply) if isinstance(done, Done) else 0)
        room = len(self.ended) < self.limits.batch and len(self.messages) + len(draft.messages) <= MAX_MESSAGES
        return (
            room
            and len(self.writes) + operations + 3 <= self.limits.operations
            and self.size + weight <= self.limits.bytes
        )

    # --------------------------------------------------------------------------------------------------- seal

    def seal(self, *, with_outbox: bool) -> Sealed:
        """The next head, the record and the batch. `with_outbox`: the messages are delivered after the commit and must
        survive a crash in between; otherwise they are sent in the same transaction (P32)."""
        head = self.head
        listed = index.listed(head)
        if listed != head.indexed:
            self.index.append(index.agent_row(self.agent, head, head.seq))
        salt = self.entropy(ledger.SALT)
        covered = head.covered()
        ts = max(self.now, head.ts)
        if head.seq == 0:
            self.entries.insert(0, {"k": "agent.created"})
        record = ledger.build(
            self.agent,
            seq=head.seq,
            prev=head.hash,
            ts=ts,
            turn=self.id,
            host=self.host._asdict(),
            state={"h": ledger.commit(salt, covered), "n": len(covered)},
            entries=self.entries,
        )
        self.writes.append(Write(Verb.INSERT, layout.record(head.seq), ledger.pack(record, self.payloads)))
        outbox_key = None
        if with_outbox and (self.messages or self.index):
            outbox_key = layout.outbox(head.seq)
            self.writes.append(Write(Verb.PUT, outbox_key, outbox.encode(self.messages, self.index)))
        blobs: list[tuple[str, bytes]] = []
        blob = self._blob_name(0) if len(covered) > INLINE_STATE else None
        if blob is not None:
            blobs.append((blob, covered))
        head.turn, head.seq, head.hash = self.id, head.seq + 1, ledger.leaf(record)
        head.ts, head.salt, head.blob, head.indexed = ts, salt, blob, listed
        head.recent = head.with_recent(self.recent)
        batch = Batch(self.id, self.version, head.encode(covered), tuple(self._spilled(blobs)))
        return Sealed(batch, head, tuple(self.messages), tuple(self.index), tuple(blobs), outbox_key)

    def _spilled(self, blobs: list[tuple[str, bytes]]) -> Iterable[Write]:
        for n, write in enumerate(self.writes, 1):
            if len(write.body) > self.limits.spill:
                name = self._blob_name(n)
                blobs.append((name, write.body))
                yield Write(write.verb, write.key, b"@" + name.encode())
            else:
                yield write

    def _blob_name(self, n: int) -> str:
        return f"{self.agent.log}/{self.id}/{n}"

    # ------------------------------------------------------------------------------------------------ the pieces

    def _event(self, kind: str, message: Message, **more: Any) -> Entry:
        """An entry about an event, with all that tells where it came from."""
        event = message.event
        entry: Entry = {"actor": message.actor.record(), "attempt": message.attempt}
        if message.causation:
            entry["cause"] = message.causation
        if message.correlation:
            entry["corr"] = message.correlation
        entry["event"], entry["k"], entry["key"] = event.id, kind, event.key
        entry.update(more)
        entry["source"], entry["type"] = event.source, event.type
        if message.traceparent:
            entry["trace_parent"] = message.traceparent
        return entry

    def _commit_to(self, entry: Entry, **payloads: bytes) -> None:
        """Append the entry with commitments to its payloads. Payloads stand in the order of their sorted names: the order
        in which a verifier meets the commitments."""
        for name in sorted(payloads):
            payload = Payload(self.entropy(ledger.SALT), payloads[name])
            entry[name] = payload.commitment()
            self._pay(payload)
        self.entries.append(entry)

    def _pay(self, payload: Payload) -> None:
        self.payloads.append(payload)
        self.size += len(payload.data or b"")

    def _decisions(self, run: Run) -> None:
        """What the gate decided and what the effects did: on record whatever the event came to."""
        self.entries += run.decisions
        for entry, payloads in run.effects.entries:
            full = dict(entry)
            for name in sorted(payloads):
                full[name] = payloads[name].commitment()
                self._pay(payloads[name])
            self.entries.append(full)

    def _born(self, done: Done) -> None:
        if self.head.life is Life.CREATED:
            self.entries.append({"k": "agent.initialized", "schema": done.schema})
            self.head.life = Life.ACTIVE
        if done.migrated_from is not None:
            self.entries.append({"k": "state.migrated", "from": done.migrated_from, "to": done.schema})

    def _write_draft(self, run: Run, done: Done, wait: Timer | None) -> None:
        draft, message = done.draft, run.message
        for note in draft.notes:
            self.entries.append({"k": "note", "text": note[:4000]})
        for sent in draft.messages:
            self._send(sent, message, run.type, done.pending, wait)
        for key, timer in draft.timers.items():
            self._set_timer(f"t:{key}", timer, message)
        if draft.history:
            self._append_history(draft.history)
        if draft.rows:
            self._write_rows(draft.rows)

    def _send(
        self, sent: Outgoing, cause: Message, kind: AgentType, pending: Pending | None, wait: Timer | None
    ) -> None:
        answers = pending is not None and pending.call == sent.call
        waits = answers or sent.type in kind.afters
        event = Event(id=sent.call, source=self.agent.source, type=sent.type, body=sent.body)
        entry: Entry = {"k": "message.sent", "to": sent.to.log, "type": sent.type, "event": sent.call}
        if waits:
            entry["deadline"] = self.now + sent.deadline
        self._commit_to(entry, data=sent.body)
        self.send(
            Message(
                to=sent.to,
                event=event,
                hops=cause.hops + 1,
                sent_at=self.now + sent.delay,
                due=self.now + sent.delay if sent.delay else None,
                reply_to=ReplyTo(self.agent, sent.call) if waits else None,
                actor=Actor("agent", self.agent.log, "kernel"),
                correlation=cause.correlation or cause.event.id,
                causation=cause.event.id,
                traceparent=cause.traceparent,
            )
        )
        if waits:
            self._wait(sent, cause, answers, wait)

    def _wait(self, sent: Outgoing, cause: Message, answers: bool, wait: Timer | None) -> None:
        name, due = calls.timer_name(sent.call), self.now + sent.deadline
        origin = reply = None
        if answers and wait is not None:
            origin, reply = wait.origin, wait.reply
        elif answers:
            origin = (cause.event.key, cause.attempt, cause.event.request_hash)
            reply = (cause.reply_to.agent.log, cause.reply_to.call) if cause.reply_to else None
        token = sent.call[:16]
        self.head.timers = timers.with_timer(self.head, name, Timer(token, due, sent.type, origin, reply))
        self.send(calls.deadline(self.agent, sent.call, timers.mark(name, token), due, cause))

    def _set_timer(self, name: str, timer: Scheduled | None, cause: Message) -> None:
        if timer is None:
            if name in self.head.timers:
                self.entries.append({"k": "timer.cancelled", "name": name})
                self.head.timers = timers.without(self.head, name)
            return
        token = timer.id[:16]
        event = Event(id=timer.id, source=self.agent.source, type=timer.type, body=timer.body)
        self._commit_to({"k": "timer.set", "name": name, "type": timer.type, "due": timer.due}, data=timer.body)
        self.arm(name, token, event, timer.due, cause)

    def arm(self, name: str, token: str, event: Event, due: int, cause: Message | None = None) -> None:
        """Put a timer's token into the head and its message into the outbox."""
        self.head.timers = timers.with_timer(self.head, name, Timer(token, due, event.type))
        self.send(
            Message(
                to=self.agent,
                event=event,
                token=timers.mark(name, token),
                due=due,
                sent_at=due,
                actor=Actor("agent", self.agent.log, "kernel"),
                correlation=cause and (cause.correlation or cause.event.id),
                causation=cause and cause.event.id,
                traceparent=cause and cause.traceparent,
            )
        )

    def arm_cron(self, job: CronJob, due: int | None) -> int:
        """Arm the next firing of a schedule; returns when that is."""
        assert self.calendar is not None
        following = schedules.next_due(self.calendar, job, due, self.now)
        name = schedules.timer_name(job.name)
        event = schedules.firing(self.agent.source, job, following)
        self.entries.append({"k": "timer.set", "name": name, "type": event.type, "due": following})
        self.arm(name, f"{schedules.generation(job)}{following}", event, following)
        return following

    def _append_history(self, items: list[bytes]) -> None:
        first, hashes = self.head.history, list[str]()
        for n, item in enumerate(items, first):
            salt = self.entropy(ledger.SALT)
            hashes.append(ledger.commit(salt, item))
            self.write(Verb.PUT, layout.history(n), salted(salt, item))
        self.entries.append({"k": "history.appended", "first": first, "hashes": hashes})
        self.head.history = first + len(items)

    def _write_rows(self, rows: dict[tuple[str, str], bytes | None]) -> None:
        written: list[Entry] = []
        for (name, key), body in rows.items():
            if body is None:
                self.write(Verb.DELETE, layout.keyed(name, key))
                written.append({"name": name, "key": key, "hash": None})
            else:
                salt = self.entropy(ledger.SALT)
                self.write(Verb.PUT, layout.keyed(name, key), salted(salt, body))
                written.append({"name": name, "key": key, "hash": ledger.commit(salt, body)})
        self.entries.append({"k": "rows.written", "rows": written})

    def _receipt_of_done(self, item: Item, done: Done, reply: int | None) -> None:
        message = item.message
        if done.pending is not None:
            self._receipt(item, Status.OPEN, waits=Waits.ANSWER)
            self._finish(item, Ended.PENDING, None, None)
        else:
            self._receipt(item, Status.HANDLED, reply=reply)
            self._answer(message, done.reply)
            self._finish(item, Ended.HANDLED, done.reply, None)
        self._unwait(item)

    def _receipt(
        self,
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
            turn=self.id,
            seq=self.head.seq,
            waits=waits,
            reply=reply,
            reason=reason,
            at=self.now,
            journal=journal,
        )
        verb = Verb.INSERT if item.receipt is None else Verb.PUT
        self.write(verb, layout.receipt(message.event.key), receipt.encode())
        if item.backlog is not None:
            self.write(Verb.DELETE, layout.backlog(item.backlog))
            self.head.backlog = (item.backlog + 1, self.head.backlog[1])

    def _retry(self, item: Item, failure: Failure, run: Run | None, ordered: bool) -> None:
        message = item.message
        if run is not None:
            self._decisions(run)
        entry = self._event("event.failed", message, reason=failure.reason[:500], error=failure.error[:200])
        self._commit_to(entry, data=message.event.body, **({"trace": failure.trace.encode()} if failure.trace else {}))
        wait = self._back_off(message.attempt, failure.after)
        self.entries[-1]["retry_ms"] = wait
        journal = bool(run and run.journal.written)
        again = message.again(attempt=message.attempt + 1, due=self.now + wait)
        self._receipt(
            item, Status.OPEN, waits=Waits.RETRY, attempt=again.attempt, reason=failure.reason[:500], journal=journal
        )
        if item.unfinished or journal:
            self.head.unfinished = None
        if ordered:
            self.head.waiting_for = message.event.key
        self.send(again)
        self._finish(item, Ended.RETRY, None, failure.reason)

    def _denied(self, item: Item, failure: Failure, run: Run | None) -> None:
        if run is not None:
            self._decisions(run)
        entry = self._event("event.failed", item.message, reason="denied", error=failure.error[:500])
        self._commit_to(entry, data=item.message.event.body)
        self._receipt(item, Status.DISCARDED, reason="denied")
        self._end_timer(item, run.type if run else None)
        self._unwait(item)
        if run is not None:
            self._forget_journal(run)
        self._answer_failure(item.message, "denied")
        self._finish(item, Ended.DISCARDED, None, "denied")

    def _back_off(self, attempt: int, after: timedelta | None) -> int:
        """Exponential with jitter of a fifth either way, unless the handler said when."""
        if after is not None:
            return int(after.total_seconds() * 1000)
        base = min(self.limits.retry_cap, self.limits.retry_base * 2 ** (attempt - 1))
        return base * (800 + int.from_bytes(self.entropy(2), "big") % 400) // 1000

    def _end_timer(self, item: Item, kind: AgentType | None) -> None:
        """The token is removed by the commit that handles it (P21); a schedule arms its next firing."""
        message = item.message
        wait = calls.waiting(self.head, message)
        name = timers.name_of(message)
        if wait is not None:
            name = calls.timer_name(calls.outcome(message).call)
        due = self.head.timers[name].due if name in self.head.timers else None
        if name is None or due is None or (wait is None and timers.stale(self.head, message)):
            return
        self.head.timers = timers.without(self.head, name)
        if kind is not None and (job := schedules.of_timer(kind, name)) is not None:
            self.arm_cron(job, due)

    def _answer_origin(self, wait: Timer, value: bytes) -> None:
        """An earlier event's answer is there: close its receipt, tell whoever asked."""
        assert wait.origin is not None
        key, attempt, request = wait.origin
        self._commit_to({"k": "event.answered", "key": key}, reply=value)
        receipt = Receipt(
            attempt=attempt,
            status=Status.HANDLED,
            request=request,
            turn=self.id,
            seq=self.head.seq,
            reply=len(self.payloads) - 1,
            at=self.now,
        )
        self.write(Verb.PUT, layout.receipt(key), receipt.encode())
        self._answer(self._asked(wait, key), value)
        self.answered.append((key, Ended.HANDLED, value, None))

    def _fail_origin(self, wait: Timer, reason: str) -> None:
        """An earlier event will not get its answer."""
        assert wait.origin is not None
        key, attempt, request = wait.origin
        self.entries.append({"k": "event.answered", "key": key, "reason": reason[:500]})
        receipt = Receipt(
            attempt=attempt,
            status=Status.DEAD,
            request=request,
            turn=self.id,
            seq=self.head.seq,
            reason=reason[:500],
            at=self.now,
        )
        self.write(Verb.PUT, layout.receipt(key), receipt.encode())
        self._answer_failure(self._asked(wait, key), reason)
        self.answered.append((key, Ended.DEAD, None, reason))

    def _asked(self, wait: Timer, key: str) -> Message:
        """A stand-in for the event that asked, with what an answer needs of it."""
        reply = ReplyTo(Address.parse(wait.reply[0]), wait.reply[1]) if wait.reply else None
        event = Event(id=key, source=self.agent.source, type=calls.DONE)
        return Message(to=self.agent, event=event, reply_to=reply, hops=1)

    def _answer(self, message: Message, value: bytes) -> None:
        answer = calls.done(self.agent, message, value, self.now)
        if answer is not None:
            self.send(answer)

    def _answer_failure(self, message: Message, reason: str) -> None:
        answer = calls.failed(self.agent, message, reason, self.now)
        if answer is not None:
            self.send(answer)

    def _unwait(self, item: Item) -> None:
        """The event is over: nothing waits for it any more, in this agent."""
        key = item.message.event.key
        if self.head.waiting_for == key:
            self.head.waiting_for = None
        if self.head.unfinished is not None and self.head.unfinished.key == key:
            self.head.unfinished = None

    def _forget_journal(self, run: Run) -> None:
        for key in run.journal.row_keys():
            self.write(Verb.DELETE, key)

    def _finish(self, item: Item, ended: Ended, value: bytes | None, reason: str | None) -> None:
        self.recent.append(item.message.event.key)
        self.ended.append((item, ended, value, reason))


def salted(salt: bytes, body: bytes) -> bytes:
    """The body of a history or keyed row: its salt before it, for the commitment in the record."""
    return salt.hex().encode() + b"\n" + body


def unsalted(body: bytes) -> bytes:
    return body.partition(b"\n")[2]


def state_hash(head: Head) -> str:
    """The commitment to the live state, as the last record has it."""
    return hashlib.sha256(b"\x02" + head.salt + head.covered()).hexdigest()
