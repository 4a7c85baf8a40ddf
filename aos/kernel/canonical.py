"""Canonical bytes of ledger records: RFC 8785 on a restricted profile (LEDGER section 1).

On the profile, any JSON encoder that sorts the keys is byte-identical to RFC 8785; pydantic's is the quickest at hand.
Outside it it is not, so a value that does not fit is refused before anything is hashed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

MAX_INT = 2**53 - 1

_KEY = re.compile(r"[a-z0-9_]{1,32}")
_KNOWN_KEYS: set[str] = set()
"""Keys that matched before: records use the same few dozen for ever, so the pattern runs once for each."""
_MAX_KNOWN = 1000


class NotCanonical(ValueError):
    """The value or the bytes are outside the profile. The message names where."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of `value`, or `NotCanonical`."""
    ordered = _fit(value, "$")
    try:
        return to_json(ordered)
    except PydanticSerializationError as error:
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


def _fit(value: Any, path: str) -> Any:
    """The value, checked, its keys in order. What is in order already is not copied: writers keep it so."""
    kind = value.__class__
    if kind is dict:
        return _fit_object(value, path)
    if kind is list:
        return [_fit(item, path) for item in value]
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise NotCanonical(f"{path}: integer beyond 2^53-1")
    elif not (kind is str or kind is bool or value is None):
        raise NotCanonical(f"{path}: {kind.__name__} is outside the profile")
    return value


def _fit_object(value: dict[str, Any], path: str) -> dict[str, Any]:
    last, ordered, nested = "", True, list[str]()
    for key, item in value.items():
        if key not in _KNOWN_KEYS:
            _learn(key, path)
        if key < last:
            ordered = False
        last = key
        kind = item.__class__
        if kind is dict or kind is list:
            nested.append(key)
        elif kind is not str:
            _fit(item, key)
    if ordered and not nested:
        return value
    fitted = {key: _fit(value[key], key) for key in nested}
    return {key: fitted[key] if key in fitted else value[key] for key in (value if ordered else sorted(value))}


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
