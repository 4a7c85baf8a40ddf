"""Locks end when their holder does, and not before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aos.messaging.conformance.bench import Bench
from aos.messaging.conformance.tools import accept_one, counts, ids, loses, nothing, parcels, receive_all, same


async def a_dead_holder_loses_its_lock(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 3))
    session = await accept_one(first)
    got = await session.receive(10)
    await session.complete(got[:1])
    await bench.kill(first)
    await bench.advance(bench.period + 0.1)
    again = await receive_all(await accept_one(second))
    expected = [(delivery.parcel.id, 2) for delivery in got[1:]]
    same(counts(again)[: len(expected)], expected, "what the dead holder had in hand")
    same(ids(again), ["a1", "a2"], "what the dead holder had not completed")


async def a_lock_ends_when_nobody_renews(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 1))
    await (await accept_one(first)).receive(1)
    await bench.advance(bench.period - 0.5)
    nothing(await second.accept(1), "accept before the period is over")
    await bench.advance(1)
    same(counts(await (await accept_one(second)).receive(1)), [("a0", 2)], "after the period")


async def renewal_prolongs(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 1))
    session = await accept_one(first)
    for _ in range(3):
        await bench.advance(bench.period * 0.7)
        await session.renew()
        nothing(await second.accept(1), "accept of a renewed session")
    same(counts(await session.receive(1)), [("a0", 1)], "what its holder receives")
    await bench.advance(bench.period + 0.1)
    same((await accept_one(second)).name, "a", "a session that is not renewed any more")


async def a_stale_holder_can_do_nothing(bench: Bench) -> None:
    """Each verb by itself: a holder that has learned of its loss is a different case."""
    for verb in ("receive", "complete", "abandon", "abandon until later", "renew", "release"):
        first, second = await bench.open(), await bench.open()
        await first.send(parcels(verb, 3))
        stale = await accept_one(first)
        got = await stale.receive(2)
        await bench.advance(bench.period + 0.1)
        session = await accept_one(second)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "receive": partial(stale.receive, 1),
            "complete": partial(stale.complete, got),
            "abandon": partial(stale.abandon, got),
            "abandon until later": partial(stale.abandon, got, bench.now() + 1000),
            "renew": stale.renew,
        }
        if verb == "release":
            await stale.release()
        else:
            await loses(calls[verb](), verb)
        await loses(stale.receive(1), f"receive after {verb}")
        nothing(await first.accept(1), f"accept after a stale holder's {verb}")
        again = await receive_all(session)
        same(ids(again), [f"{verb}{n}" for n in range(3)], f"what is there after a stale holder's {verb}")
        await session.complete(again)
        await session.release()


async def every_lock_lasts_a_period(bench: Bench) -> None:
    """Also the lock of a client that has had another one for a while."""
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 1))
    await accept_one(first)
    await bench.advance(bench.period - 1)
    await first.send(parcels("b", 1))
    late = await accept_one(first)
    await bench.advance(bench.period - 1)
    same("b" in [session.name for session in await second.accept(2)], False, "the second lock was taken early")
    same(counts(await late.receive(1)), [("b0", 1)], "what its holder receives")


async def a_client_can_lose_a_lock_to_itself(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 3))
    stale = await accept_one(bus)
    got = await stale.receive(1)
    await bench.advance(bench.period + 0.1)
    session = await accept_one(bus)
    await loses(stale.receive(1), "receive")
    await loses(stale.complete(got), "complete")
    same(ids(await receive_all(session)), ["a0", "a1", "a2"], "what the new holder receives")


async def a_stale_holder_finds_out_before_it_receives(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 1))
    stale = await accept_one(first)
    await bench.advance(bench.period + 0.1)
    session = await accept_one(second)
    await session.complete(await session.receive(1))
    await session.release()
    await loses(stale.receive(1), "receive")


async def released_is_lost(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 1))
    session = await accept_one(bus)
    got = await session.receive(1)
    await session.release()
    await session.release()
    await loses(session.receive(1), "receive")
    await loses(session.complete(got), "complete")
    await loses(session.abandon(got), "abandon")
    await loses(session.renew(), "renew")
    same(counts(await (await accept_one(bus)).receive(1)), [("a0", 1)], "after release")


async def a_clock_set_back_frees_nothing_and_freezes_nothing(bench: Bench) -> None:
    """A client that comes after the correction can't know how late it was: it may take a period to find out."""
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 1) + parcels("b", 1))
    held = await accept_one(first)
    await bench.set_back(3600)
    third = await bench.open()
    other = await accept_one(second)
    same({held.name, other.name}, {"a", "b"}, "sessions of both clients")
    await bench.advance(bench.period - 1)
    nothing(await third.accept(2), "accept before the period is over")
    for _ in range(3):
        await held.renew()
        await bench.advance(bench.period * 0.7)
    same([session.name for session in await third.accept(2)], [other.name], "the session that was not renewed")
    await bench.advance(bench.period * 2)
    same([session.name for session in await second.accept(2)][:1], [held.name], "what was renewed, a period later")
