"""Length-prefixed frames: several byte strings in one row (u32 big-endian length, bytes, and so on)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_LENGTH = struct.Struct(">I")


def join(parts: Iterable[bytes]) -> bytes:
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def split(body: bytes) -> list[bytes]:
    """The frames; ValueError if the last one is cut."""
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise ValueError("the row is cut")
        end = at + 4 + _LENGTH.unpack_from(body, at)[0]
        if end > len(body):
            raise ValueError("the row is cut")
        parts.append(body[at + 4 : end])
        at = end
    return parts
