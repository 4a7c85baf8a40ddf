"""A turn as data: from a head and what its events came to, to the next head, one record and a batch of writes.

Nothing here waits or reads. The dispatcher feeds it outcomes in order and commits what `seal` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aos.kernel import index, layout, ledger, outbox
from aos.kernel.address import Address
from aos.kernel.draft import MAX_MESSAGES
from aos.kernel.execution import Done, Failure, Run
from aos.kernel.head import INLINE_STATE, Head
from aos.kernel.item import Ended, Item
from aos.kernel.ledger import Entry, Payload
from aos.kernel.limits import Limits
from aos.kernel.message import Message
from aos.kernel.ports import Batch, Calendar, IndexRow, Verb, Version, Write


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
    left: outbox.Outbox
    """What that row says is left to do."""


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
    writes: dict[str, Write] = field(default_factory=dict[str, Write])
    """By row key: one turn writes a row once, whatever its events did to it."""
    messages: list[Message] = field(default_factory=list[Message])
    index: list[IndexRow] = field(default_factory=list[IndexRow])
    keys: dict[str, None] = field(default_factory=dict[str, None])
    """Of the events that ended in this turn, in order."""
    ended: list[tuple[Item, Ended, bytes | None, str | None]] = field(default_factory=list[Any])
    answered: list[tuple[str, Ended, bytes | None, str | None]] = field(default_factory=list[Any])
    """Earlier events whose open receipt this turn closes."""
    garbage: list[str] = field(default_factory=list[str])
    """Blobs that nothing refers to once this turn is committed."""
    size: int = 0
    sealed: bool = False

    def write(self, verb: Verb, key: str, body: bytes = b"") -> None:
        known = self.writes.get(key)
        if known is not None and known.verb is Verb.INSERT and verb is Verb.PUT:
            verb = Verb.INSERT
        self.writes[key] = Write(verb, key, body)
        self.size += len(body)

    def send(self, message: Message) -> None:
        self.messages.append(message)
        self.size += len(message.event.body)

    # -------------------------------------------------------------------------------------------------- limits

    @property
    def empty(self) -> bool:
        return not self.entries

    def room(self, operations: int, weight: int = 0) -> bool:
        """Whether so much more fits beside what every turn writes (P13). The first event always may."""
        operations += len(self.writes) + 3
        return not self.ended or (operations <= self.limits.operations and self.size + weight <= self.limits.bytes)

    def fits(self, run: Run, done: Done | Failure) -> bool:
        """Whether the event may join this turn (P13). The first one always may: one event's limits are lower."""
        if not self.ended:
            return True
        draft = run.draft
        operations = len(draft.history) + len(draft.rows) + len(run.journal.row_keys()) + 4
        weight = draft.size + len(run.message.event.body) + (len(done.reply) if isinstance(done, Done) else 0)
        room = len(self.ended) < self.limits.batch and len(self.messages) + len(draft.messages) <= MAX_MESSAGES
        return room and self.room(operations, weight)

    # --------------------------------------------------------------------------------------------------- seal

    def seal(self, *, with_outbox: bool) -> Sealed:
        """The next head, the record and the batch. `with_outbox`: the messages are delivered after the commit and must
        survive a crash in between; otherwise they are sent in the same transaction (P32)."""
        assert not self.sealed, "a turn is committed once"
        self.sealed = True
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
        self.write(Verb.INSERT, layout.record(head.seq), ledger.pack(record, self.payloads))
        if head.blob is not None:
            self.garbage.append(head.blob)
        left = outbox.Outbox(self.messages if with_outbox else (), self.index if with_outbox else (), self.garbage)
        outbox_key = None
        if left:
            outbox_key = layout.outbox(head.seq)
            self.write(Verb.PUT, outbox_key, outbox.encode(left))
        blobs: list[tuple[str, bytes]] = []
        blob = self._blob_name(0) if len(covered) > INLINE_STATE else None
        if blob is not None:
            blobs.append((blob, covered))
        head.turn, head.seq, head.hash = self.id, head.seq + 1, ledger.leaf(record)
        head.ts, head.salt, head.blob, head.indexed = ts, salt, blob, listed
        head.recent = head.with_recent(list(self.keys))
        batch = Batch(self.id, self.version, head.encode(covered), tuple(self._spilled(blobs)))
        return Sealed(batch, head, tuple(self.messages), tuple(self.index), tuple(blobs), outbox_key, left)

    def _spilled(self, blobs: list[tuple[str, bytes]]) -> Iterable[Write]:
        for n, write in enumerate(self.writes.values(), 1):
            if len(write.body) > self.limits.spill:
                name = self._blob_name(n)
                blobs.append((name, write.body))
                yield Write(write.verb, write.key, b"@" + name.encode())
            else:
                yield write

    def _blob_name(self, n: int) -> str:
        return f"{self.agent.log}/{self.id}/{n}"

    # ------------------------------------------------------------------------------------------------ the pieces

    def event(self, kind: str, message: Message, **more: Any) -> Entry:
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

    def commit_to(self, entry: Entry, **payloads: bytes) -> None:
        """Append the entry with commitments to its payloads. Payloads stand in the order of their sorted names: the
        order in which a verifier meets the commitments."""
        for name in sorted(payloads):
            payload = Payload(self.entropy(ledger.SALT), payloads[name])
            entry[name] = payload.commitment()
            self.pay(payload)
        self.entries.append(entry)

    def pay(self, payload: Payload) -> None:
        self.payloads.append(payload)
        self.size += len(payload.data or b"")
