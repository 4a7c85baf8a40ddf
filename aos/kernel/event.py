"""Events: CloudEvents 1.0, immutable, made idempotent by `source` + `id` (P1, P2, P4).

Specification: CloudEvents 1.0.2, core and JSON format.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from aos.kernel.errors import EventTooLarge, InvalidEvent, ReservedName

MAX_EVENT = 1024 * 1024
"""Bytes of an event's data."""
MAX_ATTRIBUTE = 512
RESERVED_SOURCE = "aos:"
RESERVED_TYPES = ("aos.", "task.", "run.", "approval.")

EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,255}")
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CORE = frozenset(
    ("specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data", "data_base64")
)
_dump = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `body` is JSON text; `key` and `request_hash` follow from the rest."""

    id: str
    source: str
    type: str
    body: bytes = b"null"
    time: str | None = None
    subject: str | None = None
    content_type: str | None = None
    schema: str | None = None
    binary: bool = False
    """The data was bytes; `body` is the JSON string of its base64."""
    expires: int | None = None
    """Milliseconds since the epoch, from the extension `expirytime`."""
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict[str, "str | int | bool"])
    key: str = field(init=False)
    """sha256(source LF id): the idempotency key (P1)."""

    def __post_init__(self) -> None:
        if self.extensions:
            object.__setattr__(self, "extensions", MappingProxyType(dict(self.extensions)))
        object.__setattr__(self, "key", hashlib.sha256(f"{self.source}\n{self.id}".encode()).hexdigest())

    @property
    def data(self) -> Any:
        """The data, parsed anew at every access, so that nobody can change it."""
        value = json.loads(self.body)
        return base64.b64decode(value) if self.binary else value

    @property
    def request_hash(self) -> str:
        """What two events of one key must agree on (P4)."""
        kind = b"\nbinary " if self.binary else b"\n"
        return hashlib.sha256(self.type.encode() + kind + self.body).hexdigest()

    @property
    def external(self) -> bool:
        """It came from outside: the kernel did not set its source."""
        return not self.source.startswith(RESERVED_SOURCE)

    def to_cloudevent(self) -> dict[str, Any]:
        """The structured JSON form."""
        found: dict[str, Any] = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
        optional = (
            ("time", self.time),
            ("subject", self.subject),
            ("datacontenttype", self.content_type),
            ("dataschema", self.schema),
        )
        found.update({name: value for name, value in optional if value is not None})
        found.update(self.extensions)
        if self.expires is not None:
            found["expirytime"] = rfc3339(self.expires)
        found["data_base64" if self.binary else "data"] = json.loads(self.body)
        return found


def encode_data(value: Any) -> bytes:
    """The JSON text of plain data; `InvalidEvent` for what is not JSON, `EventTooLarge` over 1 MiB."""
    try:
        body = _dump(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"data is not JSON: {error}") from None
    if len(body) > MAX_EVENT:
        raise EventTooLarge(f"data has {len(body):,} bytes, the limit is {MAX_EVENT:,}")
    return body


def parse_json(text: str | bytes) -> Any:
    """JSON as a producer may send it: no NaN, no duplicate keys; `InvalidEvent` that says where."""
    if len(text) > 2 * MAX_EVENT:
        raise EventTooLarge(f"the message has {len(text):,} bytes, the limit for an event is {MAX_EVENT:,}")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidEvent("malformed JSON: nested too deeply") from None
    except ValueError as error:
        raise InvalidEvent(f"malformed JSON: {error}") from None


def from_cloudevent(value: Any) -> Event:
    """An event from CloudEvents structured JSON (already parsed); `InvalidEvent` names the attribute."""
    if not isinstance(value, dict):
        raise InvalidEvent(f"a CloudEvent is a JSON object, not {type(value).__name__}")
    found: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    if found.get("specversion") != "1.0":
        raise InvalidEvent(f"specversion is {found.get('specversion')!r}, expected '1.0'")
    if "data" in found and "data_base64" in found:
        raise InvalidEvent("both data and data_base64 are present")
    return Event(
        id=attribute(found, "id"),
        source=attribute(found, "source"),
        type=_event_type(attribute(found, "type")),
        time=_time(found, "time"),
        subject=_optional(found, "subject"),
        content_type=_optional(found, "datacontenttype"),
        schema=_optional(found, "dataschema"),
        expires=_expiry(found),
        extensions=_extensions(found),
        **_data(found),
    )


def new_event(
    id: str, source: str, type: str, data: Any = None, *, subject: str | None = None, expires: int | None = None
) -> Event:
    """An event from plain parts, checked like one from outside."""
    checked = {"id": id, "source": source, "type": type}
    for name in checked:
        attribute(checked, name)
    return Event(id=id, source=source, type=_event_type(type), body=encode_data(data), subject=subject, expires=expires)


def refuse_reserved(event: Event) -> Event:
    """The event, if it may come from outside (P2); `ReservedName` otherwise."""
    if event.source.startswith(RESERVED_SOURCE):
        raise ReservedName(f"source {event.source!r}: sources that begin with {RESERVED_SOURCE!r} are the kernel's own")
    if event.type.startswith(RESERVED_TYPES):
        raise ReservedName(f"type {event.type!r}: types that begin with {', '.join(RESERVED_TYPES)} are internal")
    return event


def attribute(found: Mapping[str, Any], name: str) -> str:
    """A required string attribute."""
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"attribute {name!r} is missing or not a non-empty string")
    if len(value) > MAX_ATTRIBUTE:
        raise InvalidEvent(f"attribute {name!r} has {len(value)} characters, the limit is {MAX_ATTRIBUTE}")
    if _CONTROL.search(value):
        raise InvalidEvent(f"attribute {name!r} holds a control character or a lone surrogate")
    return value


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str, name: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time stamp with an offset."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError("no offset")
        return int(found.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidEvent(f"attribute {name!r} is not an RFC 3339 time: {error}") from None


def _optional(found: Mapping[str, Any], name: str) -> str | None:
    return attribute(found, name) if found.get(name) is not None else None


def _time(found: Mapping[str, Any], name: str) -> str | None:
    text = _optional(found, name)
    if text is not None:
        parse_time(text, name)
    return text


def _expiry(found: Mapping[str, Any]) -> int | None:
    text = _optional(found, "expirytime")
    return None if text is None else parse_time(text, "expirytime")


def _event_type(text: str) -> str:
    if not EVENT_TYPE.fullmatch(text):
        raise InvalidEvent(f"type {text[:80]!r} does not match [A-Za-z][A-Za-z0-9_.:/-]*, at most 256 characters")
    return text


def _extensions(found: Mapping[str, Any]) -> dict[str, str | int | bool]:
    kept: dict[str, str | int | bool] = {}
    for name, value in found.items():
        if name in _CORE or name == "expirytime" or value is None:
            continue
        if not _EXTENSION.fullmatch(name):
            raise InvalidEvent(f"extension {name[:40]!r} does not match [a-z0-9]{{1,20}}")
        if isinstance(value, str):
            attribute(found, name)
        elif not isinstance(value, bool) and not (isinstance(value, int) and abs(value) < 2**31):
            raise InvalidEvent(f"extension {name!r} is neither a string nor a 32-bit integer nor a boolean")
        kept[name] = value
    return kept


def _data(found: Mapping[str, Any]) -> dict[str, Any]:
    if "data_base64" not in found:
        return {"body": encode_data(found.get("data"))}
    text = found["data_base64"]
    try:
        base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidEvent("data_base64 is not base64") from None
    return {"body": encode_data(text), "binary": True}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
