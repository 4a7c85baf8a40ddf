"""Row keys: where in an agent's partition each thing lies (ARCHITECTURE section 6)."""

from __future__ import annotations

import hashlib

from aos.kernel.ports import Kind

_DIGITS = 16
"""Zero-padded so that code-point order is numeric order."""


def number(n: int) -> str:
    """A number as a row-key suffix."""
    return f"{n:0{_DIGITS}d}"


def outbox(seq: int) -> str:
    return f"{Kind.OUTBOX}{number(seq)}"


def record(seq: int) -> str:
    return f"{Kind.RECORD}{number(seq)}"


def history(n: int) -> str:
    return f"{Kind.HISTORY}{number(n)}"


def backlog(n: int) -> str:
    return f"{Kind.BACKLOG}{number(n)}"


def receipt(key: str) -> str:
    return f"{Kind.RECEIPT}{key}"


def dead_letter(key: str) -> str:
    return f"{Kind.DEAD_LETTER}{key}"


def journal(key: str, n: int, result: bool = False) -> str:
    """Row 0 holds the event; an effect's intent and result lie side by side (P9)."""
    return f"{Kind.JOURNAL}{key}|{n:06d}{'r' if result else ''}"


def journal_blob(row: str) -> int:
    """The number, within its turn, of the blob of a journal row that is too big; a commit's own are lower."""
    suffix = row.rpartition("|")[2]
    return 1000 + 2 * int(suffix.removesuffix("r")) + suffix.endswith("r")


def keyed(name: str, key: str) -> str:
    return f"{Kind.KEYED}{name}|{key}"


def derived_id(source: str, id: str, name: str, n: int | str) -> str:
    """A fixed-length id for what an event gives rise to, so that nested ids never grow (P1)."""
    return hashlib.sha256(f"{source}\n{id}\n{name}\n{n}".encode()).hexdigest()
