"""The ledger: one canonical, hash-chained record a turn, and the payloads it commits to (LEDGER sections 2 and 3)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aos.kernel.address import Address
from aos.kernel.canonical import canonical
from aos.kernel.strict import KINDS

__all__ = [
    "KINDS",
    "Entry",
    "Payload",
    "build",
    "commit",
    "commitments",
    "genesis",
    "leaf",
    "pack",
    "salted",
    "unpack",
    "unsalted",
]

SALT = 32
ERASED = 0xFFFFFFFF
_LENGTH = struct.Struct(">I")

Entry = dict[str, Any]
"""One entry of a record: `{"k": kind, ...}`, on the profile of `aos.kernel.canonical`."""


class Payload(NamedTuple):
    """Bytes that a record commits to without holding them. `data` None: erased."""

    salt: bytes
    data: bytes | None

    def commitment(self) -> Entry:
        """`{"h": hex(SHA-256(0x02 || salt || bytes)), "n": length}`"""
        assert self.data is not None, "an erased payload can't be committed to again"
        return {"h": commit(self.salt, self.data), "n": len(self.data)}


def commit(salt: bytes, data: bytes) -> str:
    """The salted commitment: proves the bytes to who has them, tells nothing to who has not."""
    return hashlib.sha256(b"\x02" + salt + data).hexdigest()


def salted(salt: bytes, body: bytes) -> bytes:
    """The body of a history or keyed row: its salt before it, for the commitment in the record."""
    return salt.hex().encode() + b"\n" + body


def unsalted(body: bytes) -> bytes:
    return body.partition(b"\n")[2]


def leaf(record: bytes) -> str:
    """The RFC 6962 leaf hash of a record's bytes: the next record's `prev`."""
    return hashlib.sha256(b"\x00" + record).hexdigest()


def genesis(agent: Address) -> str:
    """`prev` of the first record: bound to the log's name, so that chains can't be swapped."""
    return hashlib.sha256(f"aos/ledger/v1\n{agent.log}".encode()).hexdigest()


def build(
    agent: Address, *, seq: int, prev: str, ts: int, turn: str, host: Entry, state: Entry, entries: Sequence[Entry]
) -> bytes:
    """The canonical bytes of a record. Its entries are never empty: a turn that did nothing commits nothing."""
    assert entries, "a record without entries"
    return canonical(
        {
            "entries": list(entries),
            "host": host,
            "log": agent.log,
            "prev": prev,
            "seq": seq,
            "state": state,
            "ts": ts,
            "turn": turn,
            "v": 1,
        }
    )


def pack(record: bytes, payloads: Sequence[Payload]) -> bytes:
    """The body of a record's row: u32 length, record, then for each payload its salt, u32 length, bytes.

    The length 0xFFFFFFFF stands for an erased payload, whose salt is zeros."""
    parts = [_LENGTH.pack(len(record)), record]
    for salt, data in payloads:
        parts += (bytes(SALT), _LENGTH.pack(ERASED)) if data is None else (salt, _LENGTH.pack(len(data)), data)
    return b"".join(parts)


def unpack(body: bytes) -> tuple[bytes, list[Payload]]:
    """The record and its payloads, in the order in which the record commits to them; ValueError if the row is cut."""
    record, at = _slice(body, 0)
    payloads: list[Payload] = []
    while at < len(body):
        salt = body[at : at + SALT]
        if body[at + SALT : at + SALT + 4] == b"\xff\xff\xff\xff":
            payloads.append(Payload(salt, None))
            at += SALT + 4
        else:
            data, at = _slice(body, at + SALT)
            payloads.append(Payload(salt, data))
    return record, payloads


def commitments(value: Any) -> Iterator[Entry]:
    """Every commitment to a payload in a record's entries, in order. `state` is not among them: it lies in the head."""
    if isinstance(value, dict):
        found: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        if found.keys() == {"h", "n"}:
            yield found
        else:
            for name in sorted(found):
                yield from commitments(found[name])
    elif isinstance(value, list):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from commitments(item)


def _slice(body: bytes, at: int) -> tuple[bytes, int]:
    if at + 4 > len(body):
        raise ValueError("the row is cut")
    (length,) = _LENGTH.unpack_from(body, at)
    end = at + 4 + length
    if end > len(body):
        raise ValueError("the row is cut")
    return body[at + 4 : end], end
