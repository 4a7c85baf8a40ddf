"""Nothing before it is due, everything after."""

from __future__ import annotations

from aos.kernel.ports import Parcel
from aos.messaging.conformance.bench import Bench
from aos.messaging.conformance.tools import accept_one, drain, ids, nothing, parcels, receive_all, same


async def delivers_nothing_early(bench: Bench) -> None:
    bus = await bench.open()
    start = bench.now()
    await bus.send([Parcel("late", "a", b"", start + 10_000), Parcel("soon", "a", b"", start + 1000)])
    await bus.send([Parcel("other", "b", b"", start + 2000), Parcel("past", "c", b"", start - 1000)])
    same(await drain(bus), [("c", ["past"])], "at once")
    await bench.advance(0.9)
    nothing(await drain(bus), "after 0.9 s")
    await bus.send([Parcel("now", "a", b""), Parcel("now", "d", b"")])
    same(await drain(bus), [("a", ["now"]), ("d", ["now"])], "after 0.9 s, with something else to deliver")
    await bench.advance(0.2)
    same(await drain(bus), [("a", ["soon"])], "after 1.1 s")
    await bench.advance(5)
    same(await drain(bus), [("b", ["other"])], "after 6 s")
    await bench.advance(4)
    same(await drain(bus), [("a", ["late"])], "after 10 s")


async def hands_the_holder_what_becomes_due(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send([Parcel(f"timer{n}", "a", b"", bench.now() + 1000) for n in range(4)])
    await bus.send(parcels("a", 2))
    session = await accept_one(bus)
    same(ids(await receive_all(session)), ["a0", "a1"], "before the timers are due")
    await bench.advance(1.1)
    got = [(await session.receive(1))[0].parcel.id for _ in range(4)]
    same(got, [f"timer{n}" for n in range(4)], "after the timers are due")
    nothing(await session.receive(10), "what is left")


async def a_timer_holds_nothing_up(bench: Bench) -> None:
    bus = await bench.open()
    await bus.send([Parcel("timer", "a", b"", bench.now() + 3_600_000)])
    await bus.send(parcels("a", 2))
    session = await accept_one(bus)
    got = await receive_all(session)
    same(ids(got), ["a0", "a1"], "sent behind a timer")
    await session.complete(got)
    await session.release()
    nothing(await bus.accept(1), "accept with a far timer only")
