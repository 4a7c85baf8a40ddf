"""Verifying one chain of records, fed record by record: memory does not grow with the chain (LEDGER sections 1, 2, 5).

`Parser` looks at a record by itself, `Chain` at what it follows. Both are written from LEDGER and share no code with
the writer, so that they don't share its mistakes; and they need the standard library alone, so that verifying a file
starts at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from aos.kernel.address import Address
from aos.kernel.errors import InvalidAddress

Commitment: TypeAlias = dict[str, Any]
"""`{"h": hash, "n": length}`"""
Given: TypeAlias = tuple[bytes, bytes | None] | str | None
"""What there is of a payload: salt and bytes, or why it is of no use. No bytes, or None: it is not there."""

KINDS = frozenset(
    [
        "agent.created",
        "agent.initialized",
        "agent.suspended",
        "agent.resumed",
        "agent.terminated",
        "event.handled",
        "event.failed",
        "event.dead_lettered",
        "event.expired",
        "event.redriven",
        "event.discarded",
        "event.backlogged",
        "event.answered",
        "message.sent",
        "timer.set",
        "timer.cancelled",
        "effect.intent",
        "effect.result",
        "effect.unknown",
        "effect.resolved",
        "history.appended",
        "rows.written",
        "decision",
        "approval.requested",
        "approval.given",
        "approval.refused",
        "approval.expired",
        "spec.frozen",
        "task.status",
        "run.status",
        "model.request",
        "budget.charged",
        "config.changed",
        "state.migrated",
        "erased",
        "risk.opened",
        "risk.closed",
        "note",
    ]
)
"""Kinds of entries that this verifier knows. Others are accepted, counted and said."""
MAX_UNKNOWN = 20

MAX_INT = 2**53 - 1
FIELDS = ("entries", "host", "log", "prev", "seq", "state", "ts", "turn", "v")
_TYPES = (list, dict, str, str, int, dict, int, str, int)
_HOST = ("instance", "name", "version")
_COMMITMENT = ("h", "n")
_MAX_SHAPES = 2000
_KEY = re.compile(r"[a-z0-9_]{1,32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def commit(salt: bytes, data: bytes) -> str:
    return hashlib.sha256(b"\x02" + salt + data).hexdigest()


class Malformed(ValueError):
    """A record that is wrong by itself, whatever stands before it."""


class Record(NamedTuple):
    """A well-formed record. `leaf` is what the next one links to."""

    log: str
    seq: int
    prev: str
    ts: int
    state: Commitment
    entries: list[dict[str, Any]]
    commitments: list[Commitment]
    """To payloads, in the order in which the entries hold them."""
    leaf: str


class Parser:
    """Parses records strictly. It learns the shapes of objects, which are few, so that each is checked once."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], int] = {}
        self._members = 0
        self._commitments: list[Commitment] = []
        self._host: object = None
        self._decode = json.JSONDecoder(
            object_hook=self._object,
            parse_int=_Integers().__getitem__,
            parse_float=_no_float,
            parse_constant=_no_float,
        ).raw_decode

    def parse(self, data: bytes) -> Record:
        """The record of these bytes; `Malformed` unless they are canonical and hold just what LEDGER section 2 says."""
        try:
            value = self._canonical(data)
            return self._record(value, data)
        except (ValueError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def _canonical(self, data: bytes) -> Any:
        """The value, if these are its canonical bytes.

        To encode it again and compare proves that, at the price of a second pass. It is proved without one where the
        text has no white space, no backslash and as many `":` as there are members: then no string is escaped, so
        every quote delimits one, and no key stands twice. Order, form of the keys and integers are checked on the way.
        """
        self._members, self._commitments = 0, []
        text = data.decode()
        value, end = self._decode(text)
        plain = (
            end == len(text)
            and "\\" not in text
            and " " not in text
            and "\n" not in text
            and "\r" not in text
            and "\t" not in text
            and text.count('":') == self._members
        )
        if not plain and _encode(value) != text:
            raise ValueError("it is not in canonical form")
        return value

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        shape = tuple(value)
        size = self._shapes.get(shape)
        self._members += self._learn(shape) if size is None else size
        if shape == _COMMITMENT:
            self._commitments.append(value)
        return value

    def _learn(self, shape: tuple[str, ...]) -> int:
        for key in shape:
            if not _KEY.fullmatch(key):
                raise ValueError(f"the key {key[:40]!r} does not match [a-z0-9_]{{1,32}}")
        if list(shape) != sorted(shape):
            raise ValueError("it is not in canonical form: keys are out of order")
        if len(self._shapes) < _MAX_SHAPES:
            self._shapes[shape] = len(shape)
        return len(shape)

    def _record(self, value: Any, data: bytes) -> Record:
        if type(value) is not dict:
            raise ValueError("it is not an object")
        found: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        if tuple(found) != FIELDS:
            raise ValueError(_wrong_fields(found))
        entries, host, log, prev, seq, state, ts, turn, v = found.values()
        if tuple(map(type, found.values())) != _TYPES:
            raise ValueError(_wrong_types(found))
        if v != 1:
            raise ValueError(f"its version is {v}, not 1")
        if seq < 0 or ts < 0 or not turn:
            raise ValueError("seq or ts is negative, or turn is empty")
        if host != self._host:
            _check_host(host)
            self._host = host
        _check_state(state)
        _check_entries(entries)
        self._commitments.pop()  # the state's: it comes last of all, and its bytes lie in the head
        leaf = hashlib.sha256(b"\x00" + data).hexdigest()
        return Record(log, seq, prev, ts, state, entries, self._commitments, leaf)


class Finding(NamedTuple):
    """What is wrong, and with which record; None: with something that belongs to no one record."""

    seq: int | None
    what: str


class Result(NamedTuple):
    """What verifying one log came to."""

    log: str
    records: int
    """How many are proved: 0 to `records - 1`."""
    head: str
    """Leaf hash of the last one of these; whoever noted it earlier can tell a cut tail or a rewrite."""
    bad: Finding | None
    """The first bad sequence."""
    more: int
    """How many findings there are besides."""
    incomplete: tuple[str, ...]
    payloads: int
    erased: int
    unknown: dict[str, int]

    @property
    def exit(self) -> int:
        """0 ok, 1 tampered, 2 incomplete or unavailable."""
        return 1 if self.bad else 2 if self.incomplete else 0


class Chain:
    """One log. `feed` its records in order, `pay` each one's payloads, `close` it, read the `result`."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.next = 0
        """Sequence of the record that must come now."""
        self.link = hashlib.sha256(b"aos/ledger/v1\n" + log.encode("utf-8", "surrogatepass")).hexdigest()
        """What its `prev` must be."""
        self.ts = 0
        self.state: Commitment | None = None
        self.broken = False
        """A record did not follow: nothing after it is looked at."""
        self.bad: Finding | None = None
        self.more = 0
        self.incomplete: list[str] = []
        self.payloads = 0
        self.erased = 0
        self.unknown: dict[str, int] = {}
        self._doubt = False
        self._absent = array("Q")
        self._erasures: list[tuple[int, int]] = []

    def feed(self, record: Record) -> bool:
        """Take the next record; whether it follows. False from the first one on that does not."""
        if self.broken or self._misplaced(record) or self._in_doubt(record.prev):
            return False
        if record.prev != self.link:
            if not self.next:
                return self.fail(0, "its link is not the genesis link of this log")
            self._doubt = True
        elif record.ts < self.ts:
            return self.fail(self.next, f"its time goes back, from {self.ts} to {record.ts}")
        self.link, self.ts, self.state = record.leaf, record.ts, record.state
        self.next += 1
        for entry in record.entries:
            kind = entry["k"]
            if kind == "erased":
                self._note_erasure(entry, record.seq)
            elif kind not in KINDS:
                self._note_unknown(kind)
        return not self._doubt

    def pay(self, record: Record, payloads: Sequence[Given]) -> None:
        """Hold what there is of the payloads of the record just fed against its commitments."""
        count = len(record.commitments)
        for n, given in enumerate(payloads):
            if isinstance(given, str) or n >= count:
                self.fail(
                    record.seq, given if isinstance(given, str) else "there is a payload that it does not commit to"
                )
            elif given is None or given[1] is None:
                self.absent(record.seq)
            elif {"h": commit(given[0], given[1]), "n": len(given[1])} != record.commitments[n]:
                self.fail(record.seq, f"its payload {n + 1} of {count} is not the one that it commits to")
            else:
                self.payloads += 1
        for _ in range(len(payloads), count):
            self.absent(record.seq)

    def absent(self, seq: int) -> None:
        """Something that this record committed to is gone: `close` knows whether an `erased` entry says so."""
        self._absent.append(seq)

    def fail(self, seq: int | None, what: str) -> bool:
        """Something is wrong. At the record that must come now it ends the chain. The first bad sequence is kept."""
        if seq == self.next:
            self.broken = True
        if self.bad is not None:
            self.more += 1
        if self.bad is None or (seq is not None and (self.bad.seq is None or seq < self.bad.seq)):
            self.bad = Finding(seq, what)
        return False

    def close(self, head: str | None = None) -> list[int]:
        """The end. `head`: what the last record must hash to, where something says so.

        Returns the records whose payloads are gone without an `erased` entry, once for each payload."""
        if self._doubt and not self.broken and not (head and self._in_doubt(head)):
            self._doubt, self.broken = False, True
            self.fail(
                self.next - 2,
                f"record {self.next - 1} links to other bytes than these; nothing later tells which of the two changed",
            )
        elif head is not None and not self.broken and head != self.link:
            self.broken = True
            self.fail(self.next - 1 if self.next else None, "the agent's head refers to other bytes than these")
        missing = [seq for seq in self._absent if not self._said_erased(seq)]
        self.erased += len(self._absent) - len(missing)
        self._absent = array("Q")
        return missing

    def result(self) -> Result:
        proved = self.next if self.bad is None or self.bad.seq is None else min(self.next, self.bad.seq)
        head = self.link if proved == self.next and self.next and not self.broken else ""
        more = self.more
        return Result(
            self.log, proved, head, self.bad, more, tuple(self.incomplete), self.payloads, self.erased, self.unknown
        )

    def _misplaced(self, record: Record) -> bool:
        """It is of another log or has another number than the record that must come now."""
        if record.seq == self.next and record.log == self.log:
            if not self.next:
                self._check_name()
            return self.broken
        if record.log != self.log:
            self.fail(self.next, f"a record of the log {record.log!r} stands in its place")
        elif record.seq > self.next:
            self.fail(self.next, f"record {self.next} is missing here: the one that comes is {record.seq}")
        else:
            self.fail(self.next, f"record {record.seq} stands in its place, which has been before")
        return True

    def _check_name(self) -> None:
        try:
            if Address.parse(self.log).log != self.log:
                self.fail(0, f"the name of its log, {self.log!r}, is not tenant/type/key")
        except InvalidAddress as error:
            self.fail(0, f"the name of its log is wrong: {error}")

    def _in_doubt(self, prev: str) -> bool:
        """Where a link did not fit, the one after it tells which of the two records was changed."""
        if not self._doubt:
            return False
        self._doubt, self.broken = False, True
        last = self.next - 1
        if prev == self.link:
            self.fail(last - 1, f"its bytes are not those that record {last} links to")
        else:
            self.fail(last, f"it does not link to record {last - 1}, and what follows does not link to it")
        return True

    def _note_unknown(self, kind: str) -> None:
        if kind in self.unknown or len(self.unknown) < MAX_UNKNOWN:
            self.unknown[kind] = self.unknown.get(kind, 0) + 1

    def _note_erasure(self, entry: dict[str, Any], seq: int) -> None:
        """Records `first` to `last`, all of them earlier than the one that says so."""
        first, last = entry.get("first"), entry.get("last")
        if type(first) is int and type(last) is int:
            last = min(last, seq - 1)
            if self._erasures and self._erasures[-1][0] <= first <= self._erasures[-1][1] + 1:
                first, previous = self._erasures.pop()
                last = max(last, previous)
            self._erasures.append((first, last))

    def _said_erased(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self._erasures)


class _Integers(dict[str, int]):
    """Integers by their text. The small ones come again and again, so they are kept."""

    def __missing__(self, text: str) -> int:
        if len(text) > 17:
            raise ValueError("an integer is beyond 2^53-1")
        number = int(text)
        if not -MAX_INT <= number <= MAX_INT:
            raise ValueError("an integer is beyond 2^53-1")
        if str(number) != text:
            raise ValueError(f"it is not in canonical form: the integer {text}")
        if len(text) <= 3:
            self[text] = number
        return number


def _no_float(text: str) -> Any:
    raise ValueError(f"the number {text[:40]} is not an integer")


def _wrong_fields(value: dict[str, Any]) -> str:
    missing = ", ".join(name for name in FIELDS if name not in value)
    foreign = ", ".join(name for name in value if name not in FIELDS)
    return "; ".join(said for said in (missing and f"it lacks {missing}", foreign and f"it has {foreign}") if said)


def _wrong_types(value: dict[str, Any]) -> str:
    wrong = (
        f"{name} is {type(item).__name__}, not {kind.__name__}"
        for (name, item), kind in zip(value.items(), _TYPES, strict=True)
        if type(item) is not kind
    )
    return "; ".join(wrong)


def _check_host(host: dict[str, Any]) -> None:
    if tuple(host) != _HOST or any(type(item) is not str for item in host.values()):
        raise ValueError("host is not a name, a version and an instance")


def _check_state(state: Commitment) -> None:
    if tuple(state) != _COMMITMENT or type(state["n"]) is not int or state["n"] < 0 or type(state["h"]) is not str:
        raise ValueError("state is not a hash and a length")
    if not _HASH.fullmatch(state["h"]):
        raise ValueError("the hash of the state is not 64 hexadecimal digits")


def _check_entries(entries: list[Any]) -> None:
    if not entries:
        raise ValueError("it has no entries")
    for entry in entries:
        if type(entry) is not dict or type(entry.get("k")) is not str:  # pyright: ignore[reportUnknownMemberType]
            raise ValueError("an entry is not an object with a kind")
