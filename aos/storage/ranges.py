"""What every store has to get right about keys: ranges by code point, and batches that say a thing once."""

from __future__ import annotations

from collections.abc import Sequence

from aos.kernel.ports import Kind, Verb, Write

_LAST = "\U0010ffff"
_SURROGATES = (0xD800, 0xE000)


def bounds(kind: Kind, first: str, last: str | None) -> tuple[str, str]:
    """The keys of a kind with `first <= suffix < last`, as `low <= key < high`."""
    if last is not None:
        return kind + first, kind + last
    return kind + first, kind[:-1] + chr(ord(kind[-1]) + 1)


def beyond(prefix: str) -> str | None:
    """The first string after all that begin with `prefix`; None where nothing comes after them."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    point = ord(stem[-1]) + 1
    return stem[:-1] + chr(_SURROGATES[1] if point == _SURROGATES[0] else point)


def check(writes: Sequence[Write]) -> None:
    """`ValueError` where a batch writes a row twice: which write wins would differ from store to store.

    An EXPECT may stand beside the write of the same row."""
    keys = [write.key for write in writes if write.verb is not Verb.EXPECT]
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"a batch writes rows twice: {', '.join(twice)}")
