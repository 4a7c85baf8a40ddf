"""What the checks share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from aos.kernel.ports import Bus, Delivery, LockLost, Parcel, Session
from aos.messaging.conformance.bench import Bench


class Broken(AssertionError):
    """The bus does not do what the contract says."""


def parcels(session: str, number: int, *, first: int = 0) -> list[Parcel]:
    return [Parcel(f"{session}{n}", session, f"{session}{n}".encode()) for n in range(first, first + number)]


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.parcel.id for delivery in deliveries]


def counts(deliveries: Sequence[Delivery]) -> list[tuple[str, int]]:
    return [(delivery.parcel.id, delivery.count) for delivery in deliveries]


async def accept_one(bus: Bus) -> Session:
    sessions = await bus.accept(1)
    same(len(sessions), 1, "sessions accepted")
    return sessions[0]


async def receive_all(session: Session) -> list[Delivery]:
    """Until there is nothing more: a bus may hand out fewer than asked for."""
    received: list[Delivery] = []
    while more := await session.receive(100):
        received.extend(more)
    return received


async def drain(bus: Bus) -> list[tuple[str, list[str]]]:
    """Receive and complete all that is due: the ids of every session."""
    drained: list[tuple[str, list[str]]] = []
    while sessions := await bus.accept(1):
        got = await receive_all(sessions[0])
        await sessions[0].complete(got)
        await sessions[0].release()
        drained.append((sessions[0].name, ids(got)))
    return drained


async def loses(call: Awaitable[object], what: str) -> None:
    try:
        await call
    except LockLost:
        return
    raise Broken(f"{what} under a lost lock did not raise LockLost")


async def begins_to_wait(waiting: asyncio.Future[Sequence[Session]]) -> None:
    """Give an accept time to look and to begin to wait."""
    for _ in range(50):
        await asyncio.sleep(0)
    true(not waiting.done(), "accept did not wait")


async def while_time_passes(bench: Bench, call: Awaitable[Sequence[Session]]) -> Sequence[Session]:
    """Let time pass in small steps until the call returns."""
    waiting = asyncio.ensure_future(call)
    for _ in range(1000):
        await asyncio.wait((waiting,), timeout=0.0005)
        if waiting.done():
            return waiting.result()
        await bench.advance(0.02)
    waiting.cancel()
    raise Broken("accept does not return")


def same(got: object, expected: object, what: str) -> None:
    if got != expected:
        raise Broken(f"{what}: {got!r} instead of {expected!r}")


def nothing(got: Sequence[object], what: str) -> None:
    if got:
        raise Broken(f"{what}: {got!r} instead of nothing")


def true(condition: bool, message: str) -> None:
    if not condition:
        raise Broken(message)
