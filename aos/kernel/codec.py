"""Values that users hand over, as JSON bytes and back."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python


class NotSerialisable(ValueError):
    """A value that has no JSON form. The message says which."""


def encode(value: Any) -> bytes:
    """JSON bytes of plain data, pydantic models, dataclasses, times; `NotSerialisable` otherwise, NaN included."""
    if value is None:
        return b"null"
    try:
        body = to_json(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotSerialisable(f"{type(value).__name__} has no JSON form: {error}") from None
    if b"NaN" in body or b"Infinity" in body:
        _refuse_constants(body)
    return body


def jsonable(value: Any) -> Any:
    """The plain JSON value of `value`."""
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise NotSerialisable(f"{type(value).__name__} has no JSON form: {error}") from None


def encode_state(state: BaseModel) -> bytes:
    """JSON bytes of a state. A field that holds a value of another type than declared is refused."""
    try:
        return state.__pydantic_serializer__.to_json(state, warnings="error")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise NotSerialisable(f"the state {type(state).__name__} can't be serialised: {error}") from None


def clean(text: str) -> str:
    """The text with what UTF-8 can't hold (lone surrogates, as of odd file names) replaced."""
    return text.encode("utf-8", "replace").decode()


def _refuse_constants(body: bytes) -> None:
    def refuse(text: str) -> Any:
        raise NotSerialisable(f"{text} is not JSON")

    json.loads(body, parse_constant=refuse)
