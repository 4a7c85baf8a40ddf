"""Verifying one chain of records, fed record by record: memory does not grow with the chain (LEDGER section 5)."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from aos.kernel.address import Address
from aos.kernel.errors import InvalidAddress
from aos.kernel.strict import Commitment, Record

Given: TypeAlias = tuple[bytes, bytes | None] | str | None
"""What there is of a payload: salt and bytes, or why it is of no use. No bytes, or None: it is not there."""

MAX_UNKNOWN = 20
"""Unknown kinds that are told apart."""


class Finding(NamedTuple):
    """What is wrong, and with which record; None: with something that belongs to no one record."""

    seq: int | None
    what: str


class Missing(NamedTuple):
    """Payloads that are gone: how many, and the first record that committed to one."""

    total: int
    first: int

    @classmethod
    def of(cls, records: Iterable[int]) -> Missing:
        total = first = 0
        for record in records:
            first = first if total else record
            total += 1
        return cls(total, first)


class Result(NamedTuple):
    """What verifying one log came to."""

    log: str
    records: int
    """How many follow one another from the first one on."""
    head: str
    """Leaf hash of the last one, if all do; who noted it earlier can tell a cut tail or a rewrite."""
    bad: Finding | None
    """The first bad sequence."""
    more: int
    """How many findings there are besides."""
    incomplete: tuple[str, ...]
    """What could not be looked at."""
    payloads: int
    """How many were there and are what was committed to."""
    erased: int
    """How many are gone, and an `erased` entry says so."""
    unknown: dict[str, int]
    """Unknown kinds of entries, with how many there are."""

    @property
    def exit(self) -> int:
        """0 ok, 1 tampered, 2 incomplete or unavailable."""
        return 1 if self.bad else 2 if self.incomplete else 0


def commit(salt: bytes, data: bytes) -> str:
    """The salted commitment of LEDGER section 3."""
    return hashlib.sha256(b"\x02" + salt + data).hexdigest()


class Chain:
    """One log. `feed` its records in order, `pay` for each one that follows, `close`, and read the `result`."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.next = 0
        """Sequence of the record that must come now."""
        self.link = hashlib.sha256(b"aos/ledger/v1\n" + log.encode()).hexdigest()
        """What its `prev` must be."""
        self.ts = 0
        self.state: Commitment | None = None
        """What the last record says of the state."""
        self.broken: int | None = None
        """Sequence at which the chain ends, because what comes there does not follow. Nothing later is looked at."""
        self.bad: Finding | None = None
        self.more = 0
        self.incomplete: list[str] = []
        self.payloads = 0
        self.erased = 0
        self.unknown: dict[str, int] = {}
        self._doubt = False
        """The last record does not link to the one before it. The next one tells which of the two was changed."""
        self._closed = False
        self._absent = array("Q")
        self._erasures: list[tuple[int, int]] = []

    @classmethod
    def trusting(cls, record: Record) -> Chain:
        """A chain that begins with this record, on trust: what comes before it is for `adopt` to say."""
        chain = cls(record.log)
        chain.next, chain.link, chain.ts = record.seq, record.prev, record.ts
        return chain

    def adopt(self, first: Record, rest: Chain) -> bool:
        """Go on with a chain that was begun on trust, `first` its first record, if it is whole and follows this one."""
        if self._doubt or self.bad or rest.bad or rest.incomplete or first.log != self.log:
            return False
        if (first.seq, first.prev) != (self.next, self.link) or first.ts < self.ts:
            return False
        self.next, self.link, self.ts, self.state = rest.next, rest.link, rest.ts, rest.state
        self.payloads += rest.payloads
        self.erased += rest.erased
        self._erasures += rest._erasures
        for kind, count in rest.unknown.items():
            self._count(kind, count)
        return True

    def feed(self, record: Record) -> bool:
        """Take the next record; whether it follows. False from the first one on that does not."""
        if self.broken is not None or self._misplaced(record) or self.settle(record.prev):
            return False
        if record.prev != self.link:
            if not self.next:
                return self.stop(0, "its link is not the genesis link of its log")
            self._doubt = True
        elif record.ts < self.ts:
            return self.stop(self.next, f"its time goes back, from {self.ts} to {record.ts}")
        self.link, self.ts, self.state = record.leaf, record.ts, record.state
        self.next += 1
        for entry in record.special:
            self._note(entry, record.seq)
        return not self._doubt

    def pay(self, record: Record, payloads: Sequence[Given]) -> None:
        """Hold what there is of a record's payloads, in order, against its commitments."""
        count = len(record.commitments)
        for n, given in enumerate(payloads):
            if isinstance(given, str):
                self.fail(record.seq, given)
            elif n >= count:
                self.fail(record.seq, "there is a payload that it does not commit to")
            elif given is None or given[1] is None:
                self.absent(record.seq)
            elif not _is_committed(record.commitments[n], given[0], given[1]):
                self.fail(record.seq, f"its payload {n + 1} of {count} is not the one that it commits to")
            else:
                self.payloads += 1
        for _ in range(len(payloads), count):
            self.absent(record.seq)

    def absent(self, seq: int) -> None:
        """Something that this record committed to is gone; `close` knows whether an `erased` entry says so."""
        self._absent.append(seq)

    def stop(self, seq: int, what: str) -> bool:
        """The chain ends here: the record that stands at this sequence does not follow."""
        self.broken = seq
        return self.fail(seq, what)

    def fail(self, seq: int | None, what: str) -> bool:
        """Something is wrong, and the chain may go on. The finding with the lowest sequence is kept."""
        first = self.bad is None or (seq is not None and (self.bad.seq is None or seq < self.bad.seq))
        if self.bad is not None:
            self.more += 1
        if first:
            self.bad = Finding(seq, what)
        return False

    def settle(self, following: str) -> bool:
        """Settle a doubt by what follows the last record, if there is one; whether there was. The chain ends there."""
        if not self._doubt:
            return False
        self._doubt, last = False, self.next - 1
        if following == self.link:
            self.stop(last - 1, f"its bytes are not those that record {last} links to")
        else:
            self.stop(last, f"it does not link to record {last - 1}, and what follows does not link to it")
        return True

    def close(self, head: str | None = None) -> Missing:
        """The end. `head`: what the last record must hash to, where something says so.

        Returns what is gone without an `erased` entry; nothing where the chain is broken, because such an entry may
        stand beyond the break."""
        if self._closed:
            return Missing(0, 0)
        self._closed = True
        if self.broken is None and head is not None and not self.settle(head) and head != self.link:
            self.fail(self.next - 1 if self.next else None, "the agent's head refers to other bytes than these")
        if self._doubt:
            last = self.next - 1
            self._doubt = False
            self.stop(last - 1, f"record {last} links to other bytes, and nothing tells which of the two was changed")
        missing = Missing.of(_outside(self._absent, self._erasures))
        self.erased += len(self._absent) - missing.total
        self._absent = array("Q")
        return missing if self.broken is None else Missing(0, 0)

    def result(self) -> Result:
        return Result(
            log=self.log,
            records=self.next if self.broken is None else self.broken,
            head=self.link if self.next and self.broken is None else "",
            bad=self.bad,
            more=self.more,
            incomplete=tuple(self.incomplete),
            payloads=self.payloads,
            erased=self.erased,
            unknown=self.unknown,
        )

    def _misplaced(self, record: Record) -> bool:
        """It is of another log, or it has another number than the record that must come now."""
        if record.log != self.log:
            self.stop(self.next, f"a record of the log {record.log!r} stands in its place")
        elif record.seq > self.next:
            self.stop(self.next, f"it is missing; the record that comes next is {record.seq}")
        elif record.seq < self.next:
            self.stop(self.next, f"record {record.seq}, which has been before, stands in its place")
        elif not self.next:
            self._check_name()
        return self.broken is not None

    def _check_name(self) -> None:
        try:
            if Address.parse(self.log).log != self.log:
                self.stop(0, f"the name of its log, {self.log!r}, is not tenant/type/key")
        except InvalidAddress as error:
            self.stop(0, f"the name of its log is wrong: {error}")

    def _note(self, entry: dict[str, Any], seq: int) -> None:
        """An unknown kind, or an erasure of records `first` to `last`, all of them before the one that says so."""
        kind = entry["k"]
        if kind != "erased":
            return self._count(kind, 1)
        first, last = entry.get("first"), entry.get("last")
        if type(first) is int and type(last) is int:
            last = min(last, seq - 1)
            if self._erasures and self._erasures[-1][0] <= first <= self._erasures[-1][1] + 1:
                self._erasures[-1] = (self._erasures[-1][0], max(last, self._erasures[-1][1]))
            else:
                self._erasures.append((first, last))

    def _count(self, kind: str, count: int) -> None:
        if kind in self.unknown or len(self.unknown) < MAX_UNKNOWN:
            self.unknown[kind] = self.unknown.get(kind, 0) + count


def _is_committed(commitment: Commitment, salt: bytes, data: bytes) -> bool:
    n = commitment["n"]
    return commit(salt, data) == commitment["h"] and len(data) == n and type(n) is int  # true == 1


def _outside(numbers: Iterable[int], ranges: list[tuple[int, int]]) -> Iterable[int]:
    """The numbers that lie in none of the ranges (ends included)."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    starts = [first for first, _ in merged]
    for number in numbers:
        at = bisect_right(starts, number) - 1
        if at < 0 or number > merged[at][1]:
            yield number
