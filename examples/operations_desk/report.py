"""What came of the events, in words."""

from __future__ import annotations

import json
from collections.abc import Callable

from aos import Address, AgentOperatingSystem
from aos.kernel import index
from aos.kernel.address import DEFAULT_TENANT
from aos.kernel.deadletter import DeadLetter
from examples.operations_desk.board import BOARD
from examples.operations_desk.desk import READERS
from examples.operations_desk.feed import Fed

Say = Callable[[str], None]


def tell_fed(fed: Fed, say: Say) -> None:
    say(f"{fed.lines} lines: {fed.taken} taken, {fed.duplicates} duplicates, {len(fed.refused)} refused")
    for refused in fed.refused:
        say(f"  line {refused.line} refused: {refused.reason}")


async def tell_outcome(aos: AgentOperatingSystem, say: Say) -> None:
    counts = (await aos.query(BOARD, "show"))["counts"]

    def n(*names: str) -> str:
        return ", ".join(f"{counts.get(name, 0)} {name}" for name in names)

    say("Incidents: " + n("opened", "repeated", "acknowledged", "escalated", "resolved"))
    say("Notifications: " + n("paged", "page failed", "phoned", "phone failed"))
    letters = await dead_letters(aos)
    say(f"Dead letters: {len(letters)}")
    for agent, letter in letters:
        say(f"  {agent} {letter.message.event.type}: {letter.reason}: {letter.error}")
    for reader in READERS:
        digest = await aos.query(reader, "latest")
        say(f"{reader} was sent a digest: {len(digest['unresolved'])} incidents are unresolved")


async def dead_letters(aos: AgentOperatingSystem) -> list[tuple[Address, DeadLetter]]:
    """The open ones of all agents, from the list of what waits for somebody."""
    rows = await aos.dispatcher.kernel.store.index_list(index.open_partition(DEFAULT_TENANT), "dead|", limit=1000)
    agents = {Address.parse(json.loads(row.body)["agent"]) for row in rows if row.body is not None}
    return [(agent, one) for agent in sorted(agents) for one in await aos.dispatcher.partitions.dead_letters(agent)]
