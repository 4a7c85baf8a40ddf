"""Rest: when nothing is left to be done for what was fed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aos import Address, AgentOperatingSystem
from aos.kernel.errors import NoSuchAgent
from examples.operations_desk.board import BOARD
from examples.operations_desk.desk import READERS

POLL = 0.05


async def until_rest(aos: AgentOperatingSystem, events: Mapping[str, Address], say: Callable[[str], None]) -> None:
    """Wait until every event has its final receipt, nobody has to acknowledge an incident any more, nobody is being
    phoned, and the board has heard of everything."""
    for key, agent in events.items():
        await _until(partial(_answered, aos, agent, key))
    incidents = sorted({agent for agent in events.values() if agent.type == "incident"})
    await _until(partial(_taken_care_of, aos, incidents, set[Address](), say))


async def until_read(aos: AgentOperatingSystem, number: int) -> None:
    """Wait until every reader has the digest of that number."""
    for reader in READERS:
        await _until(partial(_read, aos, reader, number))


async def show(aos: AgentOperatingSystem, agent: Address | str) -> dict[str, Any]:
    """The agent's state; empty if nothing was ever sent to it."""
    try:
        return await aos.query(agent, "show")
    except NoSuchAgent:
        return {}


async def _until(reached: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await reached():
            return
        await asyncio.sleep(POLL)


async def _answered(aos: AgentOperatingSystem, agent: Address, key: str) -> bool:
    receipt = await aos.dispatcher.receipt(agent, key)
    return receipt is not None and receipt.final


async def _read(aos: AgentOperatingSystem, reader: str, number: int) -> bool:
    return (await show(aos, reader)).get("latest", 0) >= number


async def _taken_care_of(
    aos: AgentOperatingSystem, incidents: Sequence[Address], waiting: set[Address], say: Callable[[str], None]
) -> bool:
    """`waiting`: the incidents that waited for somebody at the last look."""
    states = {agent: await show(aos, agent) for agent in incidents}
    unattended = {agent for agent, state in states.items() if state.get("status") == "open"}
    if unattended - waiting:
        say(f"Waiting for somebody to acknowledge {', '.join(sorted(map(str, unattended)))}")
    for agent in sorted(waiting - unattended):
        say(f"  {agent} is {states[agent]['status']}")
    waiting.clear()
    waiting.update(unattended)
    board = await show(aos, BOARD)
    told = sum(state.get("changes", 0) for state in states.values()) == board.get("changes", 0)
    return not unattended and told and not _phoning(board.get("counts", {}))


def _phoning(counts: Mapping[str, int]) -> int:
    return counts.get("escalated", 0) - counts.get("phoned", 0) - counts.get("phone failed", 0)
