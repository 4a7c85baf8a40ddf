"""Waiting for a session."""

from __future__ import annotations

import asyncio

from aos.kernel.ports import Parcel
from aos.messaging.conformance.bench import Bench
from aos.messaging.conformance.tools import accept_one, begins_to_wait, nothing, parcels, same, true, while_time_passes


async def accept_returns_at_once(bench: Bench) -> None:
    bus = await bench.open()
    before = bench.now()
    nothing(await bus.accept(10), "accept of nothing")
    same(bench.now() - before < 1000, True, "accept without wait took no time")


async def accept_gives_up(bench: Bench) -> None:
    bus = await bench.open()
    before = bench.now()
    nothing(await while_time_passes(bench, bus.accept(10, wait=2)), "accept of nothing")
    true(1900 <= bench.now() - before <= 5000, f"accept waited {bench.now() - before} ms instead of 2000")


async def accept_wakes_when_something_is_sent(bench: Bench) -> None:
    bus = await bench.open()
    waiting = asyncio.ensure_future(bus.accept(10, wait=600))
    await begins_to_wait(waiting)
    await bus.send(parcels("a", 1))
    sessions = await asyncio.wait_for(waiting, 10)
    same([session.name for session in sessions], ["a"], "sessions")


async def accept_wakes_when_another_client_sends(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    before = bench.now()
    waiting = asyncio.ensure_future(first.accept(10, wait=600))
    await begins_to_wait(waiting)
    await second.send(parcels("a", 1))
    same([session.name for session in await while_time_passes(bench, waiting)], ["a"], "sessions")
    true(bench.now() - before < 5000, "another client's message was noticed late")


async def accept_wakes_when_something_is_due(bench: Bench) -> None:
    bus = await bench.open()
    start = bench.now()
    await bus.send([Parcel("timer", "a", b"", start + 3000)])
    waiting = asyncio.ensure_future(bus.accept(10, wait=600))
    same([session.name for session in await while_time_passes(bench, waiting)], ["a"], "sessions")
    true(3000 <= bench.now() - start < 6000, f"a timer of 3000 ms was accepted after {bench.now() - start}")


async def accept_wakes_when_a_session_is_freed(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 1))
    session = await accept_one(bus)
    waiting = asyncio.ensure_future(bus.accept(10, wait=600))
    await begins_to_wait(waiting)
    await session.release()
    same([session.name for session in await asyncio.wait_for(waiting, 10)], ["a"], "sessions")
