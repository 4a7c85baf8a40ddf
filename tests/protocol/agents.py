"""The small agents of the protocol's tests, the world outside that they act on, and the backends they run on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on, query
from aos.kernel.context import Context, Query
from aos.kernel.event import Event, encode_data, new_event
from aos.kernel.message import Actor, Message
from aos.testing import World

Backend = Literal["memory", "sqlite"]

both = pytest.mark.parametrize("backend", ["memory", "sqlite"])
"""Where it may matter which store and bus there is."""

OUTSIDE = Actor("external", "test", "none")


class Add(BaseModel):
    by: int = 1


class Count(BaseModel):
    total: int = 0
    runs: int = 0


class Counter(Agent[Count]):
    """Nothing but state: whatever is handled twice shows."""

    @on("counter.add")
    def add(self, data: Add, ctx: Context[Count]) -> int:
        ctx.state.total += data.by
        ctx.append(data.by)
        return ctx.state.total

    @on("counter.other")
    def other(self, data: Any, ctx: Context[Count]) -> None:
        ctx.state.runs += 1

    @query
    def total(self, ctx: Query[Count]) -> int:
        return ctx.state.total


class Outside:
    """The world outside: what was really done there, whatever the records say. `then` are things that happen while the
    next calls are under way: they may raise, wait, or look at the agents."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.then: list[Callable[[], Coroutine[Any, Any, Any]]] = []

    def clear(self) -> None:
        self.done.clear()
        self.then.clear()

    @property
    def amounts(self) -> list[int]:
        return [cents for _, cents in self.done]

    async def charge(self, cents: int, idempotency_key: str) -> int:
        self.done.append((idempotency_key, cents))
        if self.then:
            await self.then.pop(0)()
        return cents * 2


class Pay(BaseModel):
    cents: int = 1


class Paid(BaseModel):
    cents: int = 0
    others: int = 0


class Till(Agent[Paid], effects={"charge": "write"}):
    """One effect for each `till.pay`; `till.other` touches nothing outside."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("till.pay")
    async def pay(self, data: Pay, ctx: Context[Paid]) -> int:
        got = await ctx.effect("charge", self.outside.charge, data.cents)
        ctx.state.cents += got
        return got

    @on("till.other")
    def other(self, ctx: Context[Paid]) -> int:
        ctx.state.others += 1
        return ctx.state.others

    @query
    def paid(self, ctx: Query[Paid]) -> int:
        return ctx.state.cents


class Depth(Agent[Count]):
    """Sends to itself until it is stopped: how often it ran tells at which hop it began."""

    @on("depth.down")
    def down(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1
        ctx.send(ctx.me, "depth.down")


class Desk(Agent[Count]):
    """Sends."""

    @on("desk.note")
    def note(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1

    @on("desk.tell")
    def tell(self, data: str, ctx: Context[Count]) -> str:
        ctx.send(data, "counter.add", Add(by=1))
        return "told"


def envelope(to: str, type: str, data: Any = None, *, id: str = "e", at: World | int = 0, **more: Any) -> Message:
    """A message as it lies on the bus, of an event from outside. `at`: a world (sent now) or ms since the epoch."""
    sent = at.clock.now() if isinstance(at, World) else at
    event = new_event(id, "test", type, data)
    return Message(**{"to": Address.parse(to), "event": event, "actor": OUTSIDE, "sent_at": sent, **more})


def internal(to: str, type: str, data: Any = None, *, id: str = "i", actor: Actor, at: World) -> Message:
    """A message of an internal type, which no ingress lets in."""
    event = Event(id=id, source="aos:test", type=type, body=encode_data(data))
    return Message(to=Address.parse(to), event=event, actor=actor, sent_at=at.clock.now())


def no_circles(world: World, draws: int = 5_000) -> None:
    """Fail instead of going on for ever: every cycle of an agent draws from the world's entropy."""
    draw, left = world.entropy.bytes, [draws]

    def counted(n: int) -> bytes:
        left[0] -= 1
        assert left[0] > 0, "the agents go round in a circle"
        return draw(n)

    world.entropy.bytes = counted  # type: ignore[method-assign]


def handled(world: World, agent: str) -> list[str]:
    """Ids of the events that were handled, in order, as the ledger has them."""
    return [entry["event"] for entry in world.entries(agent, "event.handled")]


def reasons(world: World, agent: str) -> list[str]:
    """Why the open dead letters of an agent are dead."""
    return sorted(letter.reason for letter in world.dead_letters(agent))
