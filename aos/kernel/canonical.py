"""Canonical bytes of ledger records: RFC 8785 on a restricted profile (LEDGER section 1).

On the profile, `json.dumps` with sorted keys is byte-identical to RFC 8785, so the hot path needs no library.
Outside it it is not, so a value that does not fit is refused before anything is hashed.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_INT = 2**53 - 1

_KEY = re.compile(r"[a-z0-9_]{1,32}")
_KNOWN_KEYS: set[str] = set()
"""Keys that matched before: records use the same few dozen for ever, so the pattern runs once for each."""
_MAX_KNOWN = 1000

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class NotCanonical(ValueError):
    """The value or the bytes are outside the profile. The message names where."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of `value`, or `NotCanonical`."""
    _check(value, "$")
    try:
        return _encode(value).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical(f"a lone surrogate: {error}") from None


def parse(data: bytes) -> Any:
    """The value of canonical bytes; `NotCanonical` unless re-encoding it gives the same bytes."""
    try:
        value = json.loads(data, object_pairs_hook=_no_duplicates, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError) as error:
        raise NotCanonical(f"not strict JSON: {error}") from None
    if canonical(value) != data:
        raise NotCanonical("not in canonical form")
    return value


def _check(value: Any, path: str) -> None:
    kind: type[object] = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise NotCanonical(f"{path}: integer beyond 2^53-1")
    elif kind is dict:
        for key, item in value.items():
            if key not in _KNOWN_KEYS:
                _learn(key, path)
            if type(item) is not str:
                _check(item, key)
    elif kind is list:
        for item in value:
            _check(item, path)
    else:
        raise NotCanonical(f"{path}: {kind.__name__} is outside the profile")


def _learn(key: Any, path: str) -> None:
    if type(key) is not str or not _KEY.fullmatch(key):
        raise NotCanonical(f"{path}: key {key!r} does not match [a-z0-9_]{{1,32}}")
    if len(_KNOWN_KEYS) < _MAX_KNOWN:
        _KNOWN_KEYS.add(key)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_float(text: str) -> Any:
    raise ValueError(f"the number {text} is not an integer")
