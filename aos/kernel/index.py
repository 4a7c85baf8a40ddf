"""Index rows: what lists are made of (P28). Newest first: row keys begin with the creation time counted backwards."""

from __future__ import annotations

import json
from typing import Any

from aos.kernel.address import Address
from aos.kernel.head import Head
from aos.kernel.ports import IndexRow

_END = 10**15


def agents_partition(tenant: str, type: str) -> str:
    return f"agents|{tenant}|{type}"


def dead_partition(tenant: str) -> str:
    return f"dead|{tenant}"


def open_partition(tenant: str) -> str:
    """What waits for somebody."""
    return f"open|{tenant}"


def listed(head: Head) -> str:
    """What the agent's row says; it is written only when this changes."""
    return f"{head.life}:{head.dead}"


def agent_row(agent: Address, head: Head, sequence: int) -> IndexRow:
    body = {"agent": str(agent), "life": head.life, "dead": head.dead, "created": head.created}
    return IndexRow(
        agents_partition(agent.tenant, agent.type), f"{_newest(head.created)}|{agent.key}", sequence, _body(body)
    )


def dead_letter_rows(agent: Address, key: str, sequence: int, about: dict[str, Any], *, open: bool) -> list[IndexRow]:
    """The dead letter in the list of all, and in the list of the open ones while it is open."""
    row_key = f"{_newest(about['at'])}|{key[:32]}"
    body = _body({"agent": str(agent), "key": key, "open": open, **about})
    return [
        IndexRow(dead_partition(agent.tenant), row_key, sequence, body),
        IndexRow(open_partition(agent.tenant), f"dead|{row_key}", sequence, body if open else None),
    ]


def _newest(ms: int) -> str:
    return f"{_END - ms:015d}"


def _body(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
