"""P24: locks are renewed by a thread of their own, and a blocked event loop is reported and ended."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from aos.embedded import Embedded
from aos.hosts.watchdog import EXIT_CODE
from aos.kernel.ports import Parcel
from aos.testing import ManualClock, SeededEntropy

BLOCKS = """
import asyncio, sys, time
from aos import Agent, AgentOperatingSystem, Context, on
from aos.hosts.worker import Worker

class Sleeper(Agent):
    @on("await")
    async def patient(self, ctx: Context) -> None:
        await asyncio.sleep(0.7)
        print("awaited", flush=True)

    @on("block")
    def the_one_that_blocks(self, ctx: Context) -> None:
        print("blocking", flush=True)
        time.sleep(60)

async def main():
    async with AgentOperatingSystem([Sleeper], home=sys.argv[1]) as aos, Worker(aos, watchdog=0.4):
        await aos.ask("sleeper/a", "await")
        await aos.send("sleeper/a", "block")
        await asyncio.sleep(60)

asyncio.run(main())
"""

GOES_ON = """
import asyncio, sys
from aos import Agent, AgentOperatingSystem, Context, on
from aos.hosts.worker import Worker

done = asyncio.Event()

class Sleeper(Agent):
    @on("await")
    async def patient(self, ctx: Context) -> None:
        print("awaited again", flush=True)

    @on("block")
    def the_one_that_blocks(self, ctx: Context) -> None:
        print("mended", flush=True)
        done.set()

async def main():
    async with AgentOperatingSystem([Sleeper], home=sys.argv[1]) as aos, Worker(aos, watchdog=30):
        await asyncio.wait_for(done.wait(), 20)

asyncio.run(main())
"""


def run(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(home)], capture_output=True, text=True, timeout=50, check=False
    )


def test_a_blocked_loop_is_reported_with_its_stack_and_the_process_ends(tmp_path: Path) -> None:
    ended = run(BLOCKS, tmp_path)
    assert ended.returncode == EXIT_CODE
    assert ended.stdout.split() == ["awaited", "blocking"], "one that only awaits is left alone"
    assert "blocked" in ended.stderr
    assert "the_one_that_blocks" in ended.stderr
    followed = run(GOES_ON, tmp_path)
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.split() == ["mended"], "and what it held goes to the next process"


class Asked(ManualClock):
    """Says when a thread other than the loop's has asked for the time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop_thread = threading.get_ident()
        self.asked = threading.Semaphore(0)

    def now(self) -> int:
        if threading.get_ident() != self.loop_thread:
            self.asked.release()
        return super().now()

    def wait_for_a_renewal(self) -> None:
        """Blocks the loop. The first one that is noticed may have begun before, so three are waited for."""
        while self.asked.acquire(blocking=False):
            pass
        for _ in range(3 * 2):
            assert self.asked.acquire(timeout=10), "nobody renews"


@pytest.mark.parametrize("renews", [True, False])
async def test_a_blocked_loop_keeps_its_locks(tmp_path: Path, renews: bool) -> None:
    clock, entropy = Asked(), SeededEntropy()
    first = Embedded(tmp_path / "aos.db", clock=clock, entropy=entropy, renew_every=0.005 if renews else None)
    second = Embedded(tmp_path / "aos.db", clock=clock, entropy=entropy, renew_every=None)
    await first.open()
    await second.open()
    try:
        await first.bus.send([Parcel("1", "default/a/a", b"1"), Parcel("2", "default/a/a", b"2")])
        (session,) = await first.bus.accept(1)
        for _ in range(4):
            clock.move(timedelta(seconds=8))
            if renews:
                clock.wait_for_a_renewal()
        assert len(await second.bus.accept(1)) == (0 if renews else 1)
        if renews:
            assert len(await session.receive(9)) == 2
    finally:
        await first.close()
        await second.close()
