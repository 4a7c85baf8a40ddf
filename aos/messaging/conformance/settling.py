"""Completing, abandoning, releasing; what is carried."""

from __future__ import annotations

from aos.kernel.ports import Parcel
from aos.messaging.conformance.bench import Bench
from aos.messaging.conformance.tools import accept_one, counts, ids, nothing, parcels, receive_all, same, true


async def completed_is_gone(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 3))
    session = await accept_one(first)
    got = await receive_all(session)
    await session.complete(got[:2])
    await session.release()
    again = await receive_all(await accept_one(second))
    same(ids(again), ["a2"], "what was not completed")


async def abandoned_comes_again(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 3))
    session = await accept_one(bus)
    got = await receive_all(session)
    await bus.send(parcels("a", 1, first=3))
    await session.abandon(got[:1])
    again = await receive_all(session)
    same(counts(again), [("a0", 2), ("a3", 1)], "the abandoned message while others are in hand")
    await session.abandon([*got[1:], *again])
    expected = [("a0", 3), ("a1", 2), ("a2", 2), ("a3", 2)]
    same(counts(await receive_all(session)), expected, "all abandoned, in order")


async def abandoned_until_later(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 2))
    session = await accept_one(bus)
    got = await receive_all(session)
    await session.abandon(got[:1], bench.now() + 5000)
    await session.complete(got[1:])
    await session.release()
    await bench.advance(4.9)
    nothing(await bus.accept(1), "accept before it is due")
    await bench.advance(0.2)
    session = await accept_one(bus)
    same(counts(await session.receive(10)), [("a0", 2)], "after it is due")


async def release_leaves_the_count(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 2))
    session = await accept_one(first)
    await session.receive(10)
    await session.release()
    same(counts(await receive_all(await accept_one(second))), [("a0", 1), ("a1", 1)], "after release")


async def delivers_the_same_id_as_often_as_sent(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send([Parcel("x", "a", b"1"), Parcel("x", "a", b"2")])
    await bus.send([Parcel("x", "a", b"3")])
    got = await receive_all(await accept_one(bus))
    same([delivery.parcel for delivery in got], [Parcel("x", "a", body) for body in (b"1", b"2", b"3")], "parcels")


async def carries_a_megabyte(bench: Bench) -> None:
    bus = await bench.open()
    bodies = [bytes([n]) * (1 << 20) for n in range(3)]
    await bus.send([Parcel(f"big{n}", "a", body) for n, body in enumerate(bodies)])
    session = await accept_one(bus)
    got = await receive_all(session)
    true([delivery.parcel.body for delivery in got] == bodies, "a body of 1 MiB was changed")
    await session.complete(got)


async def carries_any_name(bench: Bench) -> None:
    bus = await bench.open()
    names = ["default/order/" + "4" * 100, "ä/ö/ü€😀", "a'b\"c%_*", "A", "a"]
    await bus.send([Parcel("i" * 64 + ".1", name, b"\x00\xff") for name in names])
    same(sorted(session.name for session in await bus.accept(10)), sorted(names), "names")
