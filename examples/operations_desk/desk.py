"""The desk: its agents, and who reads its digest."""

from datetime import timedelta
from typing import Any

from aos import Agent, AgentOperatingSystem
from examples.operations_desk.board import TOPIC, Board
from examples.operations_desk.inbox import Inbox
from examples.operations_desk.incident import Incident
from examples.operations_desk.on_call import OnCall
from examples.operations_desk.pager import Pager

READERS = ("inbox/shift-lead", "inbox/status-page")


def agents(pager: Pager, escalate_after: timedelta) -> list[Agent[Any]]:
    return [Incident(escalate_after), OnCall(pager), Board(), Inbox()]


async def subscribe(aos: AgentOperatingSystem) -> None:
    """Subscribe the readers to the digest. The fixed ids make it safe to repeat at every start."""
    for reader in READERS:
        await aos.ask(f"topic/{TOPIC}", "topic.subscribe", {"agent": reader}, id=f"desk:subscribe:{reader}")
