"""Parsing ledger records strictly: canonical bytes, and just the fields that LEDGER sections 1 and 2 name.

Written from LEDGER and without the writer's code, so that the verifier does not share its mistakes; and with the
standard library alone, so that verifying a file starts at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

Commitment: TypeAlias = dict[str, Any]
"""`{"h": hash, "n": length}`"""

KINDS = frozenset(
    [
        "agent.created", "agent.initialized", "agent.suspended", "agent.resumed", "agent.terminated", "event.handled",
        "event.failed", "event.dead_lettered", "event.expired", "event.redriven", "event.discarded", "event.backlogged",
        "event.deferred", "event.answered", "message.sent", "timer.set", "timer.cancelled", "effect.intent",
        "effect.result", "effect.unknown", "effect.resolved", "history.appended", "rows.written", "decision",
        "approval.requested", "approval.given", "approval.refused", "approval.expired", "spec.frozen", "task.status",
        "run.status", "model.request", "budget.charged", "config.changed", "state.migrated", "erased", "risk.opened",
        "risk.closed", "receipts.collected", "note",
    ]
)  # fmt: skip
"""Kinds of entries that this verifier knows. Others are accepted, counted and said."""
MAX_INT = 2**53 - 1
FIELDS = ("entries", "host", "log", "prev", "seq", "state", "ts", "turn", "v")
_ORDINARY = KINDS - {"erased"}
_TYPES = (list, dict, str, str, int, dict, int, str, int)
_HOST = ("instance", "name", "version")
_COMMITMENT = ("h", "n")
_MAX_SHAPES = 2000
_KEY = re.compile(r"[a-z0-9_]{1,32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


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
    special: Sequence[dict[str, Any]]
    """Those of the entries that say `erased` or are of an unknown kind."""
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
            return self._record(self._canonical(data), data)
        except json.JSONDecodeError as error:
            raise Malformed(f"it is not JSON: {error.msg} (character {error.pos})") from None
        except UnicodeDecodeError as error:
            raise Malformed(f"it is not UTF-8 (byte {error.start})") from None
        except RecursionError:
            raise Malformed("it is nested too deeply") from None
        except ValueError as error:
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
        if tuple(state) != _COMMITMENT or type(state["n"]) is not int or not _HASH.fullmatch(str(state["h"])):
            raise ValueError("state is not a hash and a length")
        special = _special(entries)
        self._commitments.pop()  # the state's: it comes last of all, and its bytes lie in the head
        leaf = hashlib.sha256(b"\x00" + data).hexdigest()
        return Record(log, seq, prev, ts, state, entries, special, self._commitments, leaf)


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


def _special(entries: list[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    if not entries:
        raise ValueError("it has no entries")
    found: list[dict[str, Any]] | None = None
    for entry in entries:
        if type(entry) is not dict or type(kind := entry.get("k")) is not str:
            raise ValueError("an entry is not an object with a kind")
        if kind not in _ORDINARY:
            found = [*(found or ()), entry]
    return found or ()
