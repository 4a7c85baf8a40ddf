"""Chains made by hand, as exports and in stores."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aos.kernel import exported, ledger
from aos.kernel.address import Address
from aos.kernel.exported import payload_line
from aos.kernel.ledger import Payload
from aos.kernel.verify import Result

HOST = {"name": "aos", "version": "0.1.0", "instance": "i-1"}
ORDER = Address.of("order", "4711")
OTHER = Address.of("order", "4712")


class Turn(NamedTuple):
    """A record with the payloads that it commits to."""

    record: bytes
    payloads: list[Payload]


def payload(data: bytes, salt: int = 1) -> Payload:
    return Payload(hashlib.sha256(b"%d" % salt).digest(), data)


def handled(n: int) -> tuple[dict[str, Any], list[Payload]]:
    """An entry about an event, with its data and the reply."""
    data, reply = payload(b'{"by":%d}' % n, 2 * n), payload(b"%d" % n, 2 * n + 1)
    entry = {
        "k": "event.handled",
        "event": f"e-{n}",
        "type": "order.paid",
        "source": "shop",
        "actor": {"type": "user", "id": "anna", "auth": "none"},
        "attempt": 1,
        "ms": n,
        "data": data.commitment(),
        "reply": reply.commitment(),
    }
    return entry, [data, reply]


def record(agent: Address, seq: int, prev: str, entries: Sequence[dict[str, Any]], **more: Any) -> bytes:
    state = {"h": hashlib.sha256(b"state %d" % seq).hexdigest(), "n": 7}
    fields: dict[str, Any] = {"ts": 1_760_000_000_000 + seq * 1000, "turn": f"{seq:032x}", "host": HOST, "state": state}
    return ledger.build(agent, seq=seq, prev=prev, entries=entries, **{**fields, **more})


def chain(agent: Address = ORDER, length: int = 6, extra: dict[int, list[dict[str, Any]]] | None = None) -> list[Turn]:
    """A chain of handled events; `extra` are further entries by sequence."""
    prev, turns = ledger.genesis(agent), list[Turn]()
    for seq in range(length):
        entry, payloads = handled(seq)
        turns.append(Turn(record(agent, seq, prev, [entry, *(extra or {}).get(seq, [])]), payloads))
        prev = ledger.leaf(turns[-1].record)
    return turns


def relinked(agent: Address, records: Sequence[bytes]) -> list[bytes]:
    """Records that follow one another again after some were changed: a full rewrite."""
    import json

    from aos.kernel.canonical import canonical

    prev, found = ledger.genesis(agent), list[bytes]()
    for seq, data in enumerate(records):
        found.append(canonical({**json.loads(data), "seq": seq, "prev": prev}))
        prev = ledger.leaf(found[-1])
    return found


def lines(turns: Sequence[Turn]) -> list[bytes]:
    return [turn.record + b"\n" for turn in turns]


def payload_lines(agent: Address, turns: Sequence[Turn]) -> list[bytes]:
    """The lines of the second file, without what was erased."""
    return [
        payload_line(agent.log, seq, salt, data)
        for seq, turn in enumerate(turns)
        for salt, data in turn.payloads
        if data is not None
    ]


def verify(records: Sequence[bytes], payloads: Sequence[bytes] | None = None) -> list[Result]:
    """The results of these lines."""
    second = None if payloads is None else io.BytesIO(b"".join(payloads))
    return list(exported.verify(io.BytesIO(b"".join(records)), second))


def one(records: Sequence[bytes], payloads: Sequence[bytes] | None = None) -> Result:
    """The result of lines of one log."""
    (result,) = verify(records, payloads)
    return result


def write(folder: Path, records: Sequence[bytes], payloads: Sequence[bytes] | None = None) -> Path:
    """An export on disk; the path of its records."""
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(records))
    if payloads is not None:
        exported.payloads_beside(path).write_bytes(b"".join(payloads))
    return path
