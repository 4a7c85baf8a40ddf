"""Worker processes on one file: together, killed, and told to stop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aos import Address, AgentOperatingSystem
from aos.audit import verify_agent
from tests.hosts.child import Counter

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0


class Child:
    """A worker process."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-m", "tests.hosts.child", str(home)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.says() == "ready"

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


async def eventually(what: Callable[[], Awaitable[bool]], within: float = PATIENCE) -> float:
    """Seconds until it was so."""
    start = time.monotonic()
    while not await what():
        assert time.monotonic() - start < within, "it never came"
        await asyncio.sleep(0.01)
    return time.monotonic() - start


def idle(aos: AgentOperatingSystem) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return await aos.bus.depth(aos.clock.now()) == 0

    return look


async def state(aos: AgentOperatingSystem, agent: str) -> dict[str, Any]:
    head = (await aos.dispatcher.partitions.load(Address.parse(agent))).head
    assert head is not None
    import json

    return json.loads(head.state)


async def verified(aos: AgentOperatingSystem, agent: str) -> int:
    """The number of records of a chain without gaps."""
    kernel = aos.dispatcher.kernel
    result = await verify_agent(kernel.store, kernel.blobs, Address.parse(agent))
    assert result.exit == 0, result
    return result.records


async def test_fifty_events_through_eight_workers_in_two_processes_are_one_chain(tmp_path: Path) -> None:
    children = [Child(tmp_path) for _ in range(2)]
    async with AgentOperatingSystem([Counter], home=tmp_path) as aos:
        for n in range(50):
            await aos.send("counter/a", "count", 1, id=f"event {n}")
        asked = await asyncio.gather(
            *(aos.ask("counter/a", "count", 1, id=f"ask {n}", wait=PATIENCE) for n in range(10))
        )
        await eventually(idle(aos))
        assert sorted(set(asked)) == sorted(asked), "every ask saw a total of its own"
        assert (await state(aos, "counter/a"))["total"] == 60
        assert await verified(aos, "counter/a") > 0
    assert [child.end(signal.SIGTERM) for child in children] == [0, 0]


async def test_many_agents_are_shared_by_both(tmp_path: Path) -> None:
    children = [Child(tmp_path) for _ in range(2)]
    async with AgentOperatingSystem([Counter], home=tmp_path) as aos:
        for n in range(400):
            await aos.send(f"counter/{n % 40}", "count", 1, id=f"event {n}")
        await eventually(idle(aos))
        states = [await state(aos, f"counter/{n}") for n in range(40)]
        assert [found["total"] for found in states] == [10] * 40
        assert len({pid for found in states for pid in found["by"]}) == 2
    for child in children:
        child.end(signal.SIGTERM)


async def test_the_messages_of_a_killed_process_go_on(tmp_path: Path) -> None:
    first = Child(tmp_path)
    async with AgentOperatingSystem([Counter], home=tmp_path) as aos:
        await aos.send("counter/a", "slowly", 60.0, id="never ends there")
        assert first.says() == "begun"
        second = Child(tmp_path)
        first.end(signal.SIGKILL)
        await aos.send("counter/b", "count", 1)
        assert second.says() == "begun", "the message of the dead process is delivered again"
        second.end(signal.SIGKILL)
        third = Child(tmp_path)
        await aos.send("counter/a", "count", 5)
        assert third.says() == "begun"
        third.end(signal.SIGKILL)


async def test_sigterm_during_a_turn_lets_it_end(tmp_path: Path) -> None:
    child = Child(tmp_path)
    async with AgentOperatingSystem([Counter], home=tmp_path) as aos:
        await aos.send("counter/a", "slowly", 0.5, id="one")
        assert child.says() == "begun"
        assert child.end(signal.SIGTERM) == 0
        assert (await state(aos, "counter/a"))["total"] == 1
        assert await aos.bus.depth() == 0
        assert await verified(aos, "counter/a") == 1
