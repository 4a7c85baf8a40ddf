"""The embedded bus between real processes, on real time."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.ports import Parcel
from aos.messaging.embedded import EmbeddedBus
from aos.sqlitefile import SqliteFile

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedBus]:
    file = SqliteFile(path, clock=SystemClock(), entropy=SystemEntropy())
    bus = EmbeddedBus(file, clock=SystemClock(), entropy=SystemEntropy())
    await file.open()
    yield bus
    await bus.close()
    await file.close()


async def start(what: str, path: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.messaging.processes", what, path, cwd=ROOT, stdout=PIPE
    )


async def line(process: Process) -> list[str]:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()


async def test_p31_a_killed_holder_is_taken_over_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "aos.db") as bus:
        await bus.send([Parcel("m1", "a", b"1"), Parcel("m2", "a", b"2")])
        holder = await start("hold", tmp_path / "aos.db")
        assert await line(holder) == ["held", "a"]
        assert not await bus.accept(1, wait=0.2)
        holder.kill()
        loop = asyncio.get_running_loop()
        killed = loop.time()
        (session,) = await bus.accept(1, wait=9)
        assert loop.time() - killed < 3
        assert [(d.parcel.id, d.count) for d in await session.receive(10)] == [("m1", 2), ("m2", 2)]
        await holder.wait()


async def test_p31_a_killed_holder_is_taken_over_while_there_is_other_work(tmp_path: Path) -> None:
    """A bus that always finds something to do still looks now and then whether the others live."""
    async with opened(tmp_path / "aos.db") as bus:
        await bus.send([Parcel("m", "a", b"")])
        holder = await start("hold", tmp_path / "aos.db")
        await line(holder)
        holder.kill()
        accepted: set[str] = set()
        async with asyncio.timeout(5):
            while "a" not in accepted:
                await bus.send([Parcel("x", "busy", b"")])
                for session in await bus.accept(1):
                    accepted.add(session.name)
                    await session.complete(await session.receive(10))
                    await session.release()
        await holder.wait()


@pytest.mark.slow
async def test_two_processes_drain_in_order_with_one_holder_each(tmp_path: Path) -> None:
    async with opened(tmp_path / "aos.db") as bus:
        await bus.send([Parcel(f"{n}", f"s{n % 20}", b"") for n in range(250)])
        processes = [await start("drain", tmp_path / "aos.db") for _ in range(2)]
        assert [await line(process) for process in processes] == [["ready"], ["ready"]]
        for n in range(250, 500):
            await bus.send([Parcel(f"{n}", f"s{n % 20}", b"")])
        outputs = [(await asyncio.wait_for(process.communicate(), 30))[0].decode() for process in processes]
    assert all(output.count("\n") > 1 for output in outputs), "one process did everything"
    lines = sorted((int(words[0]), *words[1:]) for output in outputs for words in map(str.split, output.splitlines()))
    holds: dict[str, list[tuple[int, int]]] = defaultdict(list)
    received: dict[str, list[int]] = defaultdict(list)
    for when, session, identity, number in lines:
        if identity == "-":
            holds[session].append((int(number), int(when)))
        else:
            received[session].append(int(identity))
            assert number == "1", "delivered twice"
    assert received == {f"s{n}": list(range(n, 500, 20)) for n in range(20)}, "lost, doubled or out of order"
    for session, spans in holds.items():
        pairs = pairwise(sorted(spans))
        assert all(earlier[1] <= later[0] for earlier, later in pairs), f"{session} had two holders"
