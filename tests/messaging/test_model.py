"""Generated sequences of everything that can be done to a bus, held against a model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aos.kernel.ports import Bus, Delivery, LockLost, Parcel, Session
from tests.messaging.benches import EmbeddedBench, HandMoved, MemoryBench
from tests.messaging.model import Hold, Model

CLIENTS = 2
client = st.integers(0, CLIENTS - 1)
which = st.integers(0, 3)
some = st.sets(st.integers(0, 3))
delay = st.sampled_from([0, 0, 0, 3000, 12_000])
step = st.one_of(
    st.tuples(st.just("send"), st.sampled_from("abc"), delay),
    st.tuples(st.just("send"), st.sampled_from("abc"), delay),
    st.tuples(st.just("accept"), client, st.integers(1, 3)),
    st.tuples(st.just("accept"), client, st.integers(1, 3)),
    st.tuples(st.just("receive"), which, st.integers(1, 4)),
    st.tuples(st.just("receive"), which, st.integers(1, 4)),
    st.tuples(st.just("complete"), which, some),
    st.tuples(st.just("abandon"), which, some, delay),
    st.tuples(st.just("release"), which),
    st.tuples(st.just("renew"), which),
    st.tuples(st.just("kill"), client),
    st.tuples(st.just("advance"), st.sampled_from([1, 4, 9, 11, 11])),
)
steps = st.lists(step, min_size=5, max_size=60)


class Run:
    """A bus and the model, side by side."""

    def __init__(self, bench: Any, *, shared_leases: bool) -> None:
        self._bench = bench
        self._start = bench.now()
        self._model = Model(period=int(HandMoved.period * 1000), shared_leases=shared_leases)
        self._clients: list[Bus] = []
        self._sessions: list[tuple[Hold, Session, list[Delivery]]] = []

    async def carry_out(self, script: list[tuple[Any, ...]]) -> None:
        self._clients = [await self._bench.open() for _ in range(CLIENTS)]
        for name, *arguments in script:
            await getattr(self, f"_{name}")(*arguments)
        await self._drain()

    async def _send(self, session: str, after: int) -> None:
        due = self._bench.now() + after if after else None
        await self._clients[0].send([Parcel(self._model.send(session, after), session, b"body", due)])

    async def _accept(self, number: int, limit: int) -> None:
        sessions = await self._clients[number].accept(limit)
        holds = self._model.accepted(number, limit, [session.name for session in sessions])
        self._sessions.extend((hold, session, []) for hold, session in zip(holds, sessions, strict=True))

    async def _receive(self, number: int, limit: int) -> None:
        async def receive(hold: Hold, session: Session, hand: list[Delivery]) -> None:
            deliveries = await session.receive(limit)
            self._model.received(hold, limit, deliveries)
            hand.extend(deliveries)

        await self._with(number, receive)

    async def _complete(self, number: int, picked: set[int]) -> None:
        async def complete(hold: Hold, session: Session, hand: list[Delivery]) -> None:
            chosen = [hand[i] for i in picked if i < len(hand)]
            await session.complete(chosen)
            self._model.completed(hold, [delivery.parcel.id for delivery in chosen])

        await self._with(number, complete)

    async def _abandon(self, number: int, picked: set[int], after: int) -> None:
        async def abandon(hold: Hold, session: Session, hand: list[Delivery]) -> None:
            chosen = [hand[i] for i in picked if i < len(hand)]
            await session.abandon(chosen, self._bench.now() + after if after else None)
            due = self._model.now + after if after else None
            self._model.abandoned(hold, [delivery.parcel.id for delivery in chosen], due)
            hand[:] = [delivery for delivery in hand if delivery not in chosen]

        await self._with(number, abandon)

    async def _renew(self, number: int) -> None:
        async def renew(hold: Hold, session: Session, _: list[Delivery]) -> None:
            await session.renew()
            self._model.renewed(hold)

        await self._with(number, renew)

    async def _release(self, number: int) -> None:
        if self._sessions:
            hold, session, _ = self._sessions.pop(number % len(self._sessions))
            await session.release()
            self._model.released(hold)

    async def _kill(self, number: int) -> None:
        await self._bench.kill(self._clients[number])
        self._model.killed(number)
        self._sessions = [held for held in self._sessions if held[0].client != number]
        self._clients[number] = await self._bench.open()
        for hold in self._model.holds:
            hold.client = -1 if hold.client == number else hold.client

    async def _advance(self, seconds: int) -> None:
        await self._bench.advance(seconds)
        self._model.now = self._bench.now() - self._start

    async def _with(self, number: int, act: Callable[..., Any]) -> None:
        """One of the sessions that were accepted, lost or not. A loss must be one that the model allows."""
        if not self._sessions:
            return
        held = self._sessions[number % len(self._sessions)]
        try:
            await act(*held)
        except LockLost:
            if not held[0].lost:
                self._model.lose(held[0])
            self._sessions.remove(held)
        else:
            assert not held[0].lost, f"{held[0].session} was lost and its holder did not learn it"

    async def _drain(self) -> None:
        """In the end everything that was not completed is delivered."""
        for _, session, _ in self._sessions:
            await session.release()
        for hold in self._model.holds:
            hold.lost = True
        await self._advance(30)
        left: list[str] = []
        while sessions := await self._clients[0].accept(10):
            for session in sessions:
                while deliveries := await session.receive(10):
                    left.extend(delivery.parcel.id for delivery in deliveries)
                    await session.complete(deliveries)
                await session.release()
        assert sorted(left) == sorted(self._model.pending())


@settings(max_examples=300, deadline=None)
@given(steps)
def test_memory(script: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        async with MemoryBench() as bench:
            await Run(bench, shared_leases=False).carry_out(script)

    asyncio.run(main())


@settings(max_examples=200, deadline=None)
@given(steps)
def test_embedded(script: list[tuple[Any, ...]]) -> None:
    async def main(folder: str) -> None:
        async with EmbeddedBench(Path(folder) / "aos.db") as bench:
            await Run(bench, shared_leases=True).carry_out(script)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
