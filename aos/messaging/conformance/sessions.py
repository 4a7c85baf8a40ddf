"""Order within a session, one holder of it, nobody starved."""

from __future__ import annotations

from aos.kernel.ports import Parcel
from aos.messaging.conformance.bench import Bench
from aos.messaging.conformance.tools import accept_one, ids, nothing, parcels, receive_all, same, true


async def delivers_in_the_order_of_sending(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 5))
    await bus.send(parcels("a", 5, first=5))
    session = await accept_one(bus)
    got = await receive_all(session)
    same(ids(got), [f"a{n}" for n in range(10)], "ids")
    same([delivery.parcel.body for delivery in got], [b"a%d" % n for n in range(10)], "bodies")
    same([delivery.parcel.session for delivery in got], ["a"] * 10, "sessions")
    same([delivery.count for delivery in got], [1] * 10, "counts")


async def tells_its_depth(bench: Bench) -> None:
    bus = await bench.open()
    true(await bus.depth() == 0, "an empty bus has a depth")
    await bus.send([*parcels("a", 3), Parcel("later", "b", b"", bench.now() + 60_000)])
    true(await bus.depth() == 4, "all that was sent counts")
    true(await bus.depth(bench.now()) == 3, "what is not due yet does not count")
    session = await accept_one(bus)
    got = await session.receive(10)
    true(await bus.depth(bench.now()) == 3, "what is in hand still counts")
    await session.complete(got[:2])
    true(await bus.depth(bench.now()) == 1, "what is completed does not")


async def keeps_sessions_apart(bench: Bench) -> None:
    bus = await bench.open()
    names = [f"tenant/order/{n}" for n in range(40)]
    await bus.send([Parcel(f"{name}.{n}", name, b"") for n in range(12) for name in names])
    seen: dict[str, list[str]] = {}
    while sessions := await bus.accept(7):
        true(len(sessions) <= 7, "accept gave more sessions than asked for")
        for session in sessions:
            got = await receive_all(session)
            seen.setdefault(session.name, []).extend(ids(got))
            await session.complete(got)
            await session.release()
    same(seen, {name: [f"{name}.{n}" for n in range(12)] for name in names}, "what was received")


async def gives_a_session_to_one_holder(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 3) + parcels("b", 3))
    held = await first.accept(1)
    others = await second.accept(10)
    same(len(held), 1, "sessions of the first client")
    same({session.name for session in [*held, *others]}, {"a", "b"}, "sessions of both clients")
    same(len(others), 1, "sessions of the second client")
    nothing(await first.accept(10), "a third accept")
    nothing(await second.accept(10), "a fourth accept")


async def hands_nothing_out_twice(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("a", 6))
    session = await accept_one(bus)
    first = await session.receive(2)
    same(ids(first), ["a0", "a1"], "the first two")
    rest = await receive_all(session)
    same(ids(rest), ["a2", "a3", "a4", "a5"], "the rest")
    await session.complete(rest)
    nothing(await session.receive(10), "what is left")
    await session.complete(first)
    nothing(await session.receive(10), "what is left at the end")


async def hands_the_holder_what_is_sent_meanwhile(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    await first.send(parcels("a", 1))
    session = await accept_one(first)
    await session.complete(await receive_all(session))
    await second.send(parcels("a", 2, first=1))
    nothing(await second.accept(1), "accept of a held session")
    got = await receive_all(session)
    same(ids(got), ["a1", "a2"], "sent while held")
    await session.complete(got)
    await session.release()
    nothing(await first.accept(1), "accept of an empty session")


async def starves_nobody(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send(parcels("hot", 200))
    await bus.send([Parcel(f"cold{n}", f"cold{n}", b"") for n in range(5)])
    accepted: list[str] = []
    for n in range(12):
        session = await accept_one(bus)
        accepted.append(session.name)
        await session.complete(await session.receive(10))
        await session.release()
        await bus.send(parcels("hot", 1, first=200 + n))
    true({f"cold{n}" for n in range(5)} <= set(accepted), f"a hot session starved others: {accepted}")
    true("hot" in accepted, "the hot session starved")
