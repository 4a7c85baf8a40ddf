"""All rules at once: generated schedules of events, commands, crashes, outages, lost answers and rivals.

Whatever happens in between, in the end every event is handled once or visibly unknown, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.address import Address
from aos.kernel.agent import Agent, Pending, on
from aos.kernel.context import Context
from aos.kernel.dispatcher import Dispatcher
from aos.kernel.errors import BusUnavailable, Retry, StoreUnavailable, Unavailable
from aos.kernel.item import Ended
from aos.kernel.limits import Limits
from aos.kernel.message import Actor, Message
from aos.kernel.ports import Delivery, Unknown
from aos.testing import Crash, World
from tests.protocol.agents import envelope, internal
from tests.protocol.rivals import another, bus_of, told, world_now

OPERATOR = Actor("user", "tester", "test")
SELF, PEER = "plain/a", "plain/peer"


class Done(BaseModel):
    names: list[str] = []


class Plain(Agent[Done], effects={"touch": "write", "look": "read"}, max_attempts=9):
    """Notes the name of whatever it has done. `fails`: how often a name fails first."""

    def __init__(self, touched: Counter[str], fails: Counter[str]) -> None:
        self.touched, self.fails = touched, fails

    @on("add")
    def add(self, data: str, ctx: Context[Done]) -> None:
        self._fail(data)
        ctx.state.names.append(data)
        ctx.append(data)
        ctx.put("rows", "latest", data)

    @on("pay")
    async def pay(self, data: str, ctx: Context[Done]) -> None:
        await ctx.effect("touch", self.touch, data)
        self._fail(data)
        await ctx.effect("look", self.look, idempotent=True)
        ctx.state.names.append(data)

    @on("both")
    async def both(self, data: str, ctx: Context[Done]) -> None:
        await asyncio.gather(*(ctx.effect("touch", self.touch, f"{data} {n}", key=str(n)) for n in range(2)))
        ctx.state.names.append(data)

    @on("tell")
    def tell(self, data: str, ctx: Context[Done]) -> None:
        ctx.send(PEER, "add", data)

    @on("ask")
    def ask(self, data: str, ctx: Context[Done]) -> Pending:
        return ctx.send(PEER, "add", data)

    @on("later")
    def later(self, data: str, ctx: Context[Done]) -> None:
        ctx.schedule("add", data, key=data, after=timedelta(seconds=5))

    async def touch(self, name: str) -> None:
        self.touched[name] += 1
        await asyncio.sleep(0)

    def look(self) -> int:
        return 1

    def _fail(self, name: str) -> None:
        if self.fails[name] > 0:
            self.fails[name] -= 1
            raise Retry("not yet", after=timedelta(seconds=3))


class Strict(Plain, type="strict", ordered=True, effects={"touch": "write", "look": "read"}, max_attempts=9):
    """The same, in order."""


class Chaos:
    """A port on which things go wrong: the process dies before or after a call, or gets no answer, or a wrong one."""

    def __init__(self, inner: Any, chance: random.Random, rate: float, away: type[Unavailable]) -> None:
        self._inner, self._chance, self._rate, self._away = inner, chance, rate, away
        self._dead = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._pause(4)
            wrong = self._chance.random() < self._rate and self._chance.choice(["die", "away", "late", "lost", "done"])
            if self._dead or wrong == "die":
                self._dead = True
                raise Crash(name)
            if wrong == "away" or (wrong and name not in ("commit", "journal", "send")):
                raise self._away("injected")
            if wrong == "lost":
                return _lost(name, self._away)
            value = await getattr(self._inner, name)(*args, **kwargs)
            await self._pause(3)
            if wrong == "late":
                self._dead = True
                raise Crash(name)
            return _lost(name, self._away) if wrong == "done" else value

        return call

    async def _pause(self, most: int) -> None:
        for _ in range(self._chance.randrange(most)):
            await asyncio.sleep(0)


def _lost(name: str, away: type[Unavailable]) -> Unknown:
    if name == "send":
        raise away("injected: the answer was lost")
    return Unknown("injected")


class Play:
    """A world in which the bus gives to several processes at a time, some of which don't survive it."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance

    def process(self, rate: float) -> Dispatcher:
        store = Chaos(self.world.partitions.store, self.chance, rate, StoreUnavailable)
        return another(self.world, store=store, bus=Chaos(bus_of(self.world), self.chance, rate, BusUnavailable))

    async def run(self, rate: float) -> None:
        """Until there is nothing more to do, ever."""
        due = self.world._due
        for _ in range(5000):
            sessions = await bus_of(self.world).accept(9)
            if sessions:
                await asyncio.gather(*(self._serve(session, rate) for session in sessions))
            elif due:
                self.world.clock.move_to(due.pop(due.index(min(due))))
            else:
                return
        raise AssertionError("it does not come to rest")

    async def _serve(self, session: Any, rate: float) -> None:
        agent = Address.parse(session.name)
        while deliveries := await session.receive(self.chance.choice([1, 2, 5, 32])):
            processes = [self.process(rate) for _ in range(1 + (self.chance.random() < 0.3))]
            took = [asyncio.create_task(self._take(process, agent, deliveries)) for process in processes]
            done = [await task for task in took]
            if done[0] is None:
                await session.abandon(deliveries)
            else:
                await session.complete(done[0])
        await session.release()

    async def _take(self, process: Dispatcher, agent: Address, deliveries: list[Delivery]) -> list[Delivery] | None:
        with suppress(Crash, Unavailable):
            return await process.dispatch(agent, deliveries)
        process.kill()
        return None


def events(world: World, chance: random.Random, agent: str, fails: Counter[str]) -> list[Message]:
    found: list[Message] = []
    for n in range(chance.randrange(4, 24)):
        type = chance.choice(["add", "add", "pay", "both", "tell", "ask", "later"])
        name = f"{type} {n}"
        fails[name] = chance.choice([0, 0, 0, 0, 1, 2])
        found.append(envelope(agent, type, name, id=name, at=world))
    return found


@pytest.mark.parametrize("agent", [SELF, "strict/a"])
@pytest.mark.parametrize("seed", range(12))
async def test_every_event_is_handled_once_or_visibly_unknown(agent: str, seed: int) -> None:
    chance, touched, fails = random.Random(seed), Counter[str](), Counter[str]()
    rate = chance.choice([0.0, 0.05, 0.1, 0.2])
    agents = Plain(touched, fails), Strict(touched, fails)
    async with World(*agents, seed=str(seed), limits=Limits(suspicious=10**6)) as world:
        play, sent = Play(world, chance), events(world, chance, agent, fails)
        middle = chance.randrange(len(sent) + 1)
        for n, part in enumerate((sent[:middle], sent[middle:])):
            again = [message for message in part if chance.random() < 0.3]
            await world.post(*part, *again)
            if n == 0 and chance.random() < 0.5:
                await world.post(internal(agent, "aos.suspend", {}, id="suspend", actor=OPERATOR, at=world))
            await play.run(rate)
        if world.life(agent) == "suspended":
            await world.command(agent, "aos.resume")
        await play.run(rate)
        await play.run(0)
        check(world, agent, sent, touched)


def check(world: World, agent: str, sent: list[Message], touched: Counter[str]) -> None:
    unknown = {letter.message.event.id for letter in world.dead_letters(agent)}
    assert {letter.reason for letter in world.dead_letters(agent)} <= {"outcome_unknown"}
    assert world.dead_letters(PEER) == []
    assert max(touched.values(), default=1) == 1, "no effect happens twice"
    done = Counter(name for at in (agent, PEER) for name in (world.state(at) or {"names": []})["names"])
    for message in sent:
        name = message.event.id
        assert told(world, agent, message.event.key).ended is (Ended.DEAD if name in unknown else Ended.HANDLED), name
        assert done[name] == (name not in unknown), name
    for at in (agent, PEER):
        head = world_now(world.partitions.load(Address.parse(at))).head
        assert head is None or (head.unfinished, head.waiting_for) == (None, None)
        assert head is None or head.backlog[0] == head.backlog[1]
    world.verify()
