"""Whether everything in a store proves everything else."""

from __future__ import annotations

from typing import Any

from aos.kernel import canonical, ledger
from aos.kernel.address import Address
from aos.kernel.head import Head
from aos.kernel.partition import Partitions


async def problems(partitions: Partitions) -> list[str]:
    """Every agent's chain, payloads and live state; empty when all is well."""
    found: list[str] = []
    for agent in await partitions.store.agents(limit=100_000):
        found += [f"{agent}: {problem}" for problem in await _chain(partitions, agent)]
    return found


async def _chain(partitions: Partitions, agent: Address) -> list[str]:
    head = (await partitions.load(agent)).head
    assert head is not None
    prev, record = ledger.genesis(agent), dict[str, Any]()
    for seq in range(head.seq):
        row = await partitions.record(agent, seq)
        if row is None:
            return [f"record {seq} is missing"]
        record = canonical.parse(row[0])
        if (record["seq"], record["prev"], record["log"]) != (seq, prev, agent.log):
            return [f"record {seq} does not follow from the one before"]
        if [
            p.commitment() if p.data is not None else c
            for p, c in zip(row[1], ledger.commitments(record["entries"]), strict=True)
        ] != list(ledger.commitments(record["entries"])):
            return [f"record {seq}: a payload is not what was committed to"]
        prev = ledger.leaf(row[0])
    return _live(head, record, prev)


def _live(head: Head, last: dict[str, Any], prev: str) -> list[str]:
    if head.hash != prev:
        return ["the head's hash is not that of the last record"]
    if head.seq and last["state"]["h"] != head.commitment():
        return ["the live state is not what the last record commits to"]
    return []
