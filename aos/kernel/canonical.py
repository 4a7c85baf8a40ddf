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
_ORDER: dict[tuple[str, ...], tuple[str, ...]] = {}
"""The keys of objects seen before -> the same keys in order: records have the same few dozen shapes for ever, so keys
are checked and sorted once for each."""
_MAX_SHAPES = 2000


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
    """The value, checked, its keys in order."""
    kind = value.__class__
    if kind is dict:
        shape = tuple(value)
        order = _ORDER.get(shape) or _learn(shape, path)
        fitted: dict[str, Any] = {}
        for key in order:
            item = value[key]
            fitted[key] = item if item.__class__ is str else _fit(item, key)
        return fitted
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise NotCanonical(f"{path}: integer beyond 2^53-1")
    elif kind is list:
        return [item if item.__class__ is str else _fit(item, path) for item in value]
    elif not (kind is str or kind is bool or value is None):
        raise NotCanonical(f"{path}: {kind.__name__} is outside the profile")
    return value


def _learn(shape: tuple[Any, ...], path: str) -> tuple[str, ...]:
    for key in shape:
        if key.__class__ is not str or not _KEY.fullmatch(key):
            raise NotCanonical(f"{path}: key {key!r} does not match [a-z0-9_]{{1,32}}")
    order = tuple(sorted(shape))
    if len(_ORDER) < _MAX_SHAPES:
        _ORDER[shape] = order
    return order


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_float(text: str) -> Any:
    raise ValueError(f"the number {text} is not an integer")
