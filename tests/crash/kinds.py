"""Every kind of event, each as a scenario that must come out right whatever dies on the way.

A scenario runs in a world, leaves its traces in a witness (who did what outside, how often) and says what must hold
afterwards. The same scenarios are swept in process and by real SIGKILL.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, Field

from aos import Agent, AosError, AskFailed, Context, Outcome, Pending, Reject, StillOpen, after, cron, on
from aos.testing import World


class Witness(Protocol):
    """The world outside: what really happened, and how often."""

    def saw(self, what: str) -> None: ...
    def counts(self) -> Counter[str]: ...


class ListWitness:
    """For crashes in process."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def saw(self, what: str) -> None:
        self._seen.append(what)

    def counts(self) -> Counter[str]:
        return Counter(self._seen)


class FileWitness:
    """For real ones: a line a thing, on disk before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def saw(self, what: str) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{what}\n".encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def counts(self) -> Counter[str]:
        return Counter(self._path.read_text().split()) if self._path.exists() else Counter()


class Desk(BaseModel):
    total: int = 0
    blob: str = ""
    seen: list[str] = Field(default_factory=list[str])


class Worker(Agent[Desk], type="worker", effects={"charge": "write", "look": "read"}):
    """Does everything that an agent can do."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness

    def charge(self, cents: int, idempotency_key: str = "") -> str:
        self.witness.saw(f"charge:{idempotency_key}")
        return f"receipt-{cents}"

    def look(self, idempotency_key: str = "") -> int:
        self.witness.saw(f"look:{idempotency_key}")
        return 7

    @on("plain")
    def plain(self, data: int, ctx: Context[Desk]) -> int:
        ctx.state.total += data
        ctx.append({"by": data})
        ctx.put("rows", f"k{data}", data)
        return ctx.state.total

    @on("charged")
    async def charged(self, data: int, ctx: Context[Desk]) -> str:
        receipt = await ctx.effect("charge", self.charge, data)
        ctx.state.total += data
        return receipt

    @on("charged.twice")
    async def charged_twice(self, data: int, ctx: Context[Desk]) -> str:
        first = await ctx.effect("charge", self.charge, data)
        second = await ctx.effect("charge", self.charge, data + 1)
        ctx.state.total += 1
        return f"{first},{second}"

    @on("looked")
    async def looked(self, ctx: Context[Desk]) -> int:
        ctx.state.total += await ctx.effect("look", self.look, idempotent=True)
        return ctx.state.total

    @on("sending")
    def sending(self, data: int, ctx: Context[Desk]) -> None:
        ctx.state.total += 1
        ctx.send("worker/other", "plain", data)
        ctx.publish("news", "plain", data)

    @on("timed")
    def timed(self, data: int, ctx: Context[Desk]) -> None:
        ctx.schedule("plain", data, key="later", after=timedelta(minutes=5))
        ctx.schedule("plain", 1000, key="never", after=timedelta(minutes=5))
        ctx.cancel("never")

    @on("asking")
    def asking(self, data: int, ctx: Context[Desk]) -> Pending:
        return ctx.send("worker/answerer", "plain", data)

    @on("delegating")
    def delegating(self, data: int, ctx: Context[Desk]) -> Pending:
        return ctx.send("worker/answerer", "looked")

    @after("plain")
    def answered(self, done: Outcome[int], ctx: Context[Desk]) -> str:
        ctx.state.seen.append(str(done.value))
        return f"answer {done.value}"

    @on("flaky")
    def flaky(self, ctx: Context[Desk]) -> int:
        """Fails until two minutes have passed."""
        if ctx.now.minute < 2:
            raise RuntimeError("not yet")
        ctx.state.total += 1
        return ctx.state.total

    @on("poison")
    def poison(self) -> None:
        raise Reject("never")

    @on("big")
    def big(self, ctx: Context[Desk]) -> None:
        ctx.state.blob = "x" * 600_000
        ctx.state.total += 1

    @cron("*/10 * * * *", key="clockwork")
    def tick(self, ctx: Context[Desk]) -> None:
        ctx.state.total += 1


Scenario = Callable[[World, Witness], Awaitable[None]]


async def ask(world: World, agent: str, type: str, data: Any = None) -> Any:
    """Ask with a fixed id, as a client that asks again after a crash; None where the outcome is honestly unknown."""
    try:
        answer = await world.ask(agent, type, data, id=f"{agent}:{type}:{data}")
    except StillOpen:
        await world.advance(timedelta(minutes=10))
        answer = await _again(world, agent, type, data)
    except AskFailed as error:
        assert error.reason == "outcome_unknown", error
        return None
    return answer


async def _again(world: World, agent: str, type: str, data: Any) -> Any:
    try:
        return await world.ask(agent, type, data, id=f"{agent}:{type}:{data}")
    except AskFailed as error:
        assert error.reason == "outcome_unknown", error
        return None


def at_most_once(witness: Witness) -> None:
    charges = {what: n for what, n in witness.counts().items() if what.startswith("charge:")}
    assert all(n == 1 for n in charges.values()), charges


async def plain(world: World, witness: Witness) -> None:
    assert await ask(world, "worker/a", "plain", 2) == 2
    assert await ask(world, "worker/a", "plain", 3) == 5
    assert world.state("worker/a")["total"] == 5
    assert world.history("worker/a") == [{"by": 2}, {"by": 3}]


async def sent(world: World, witness: Witness) -> None:
    for n in (2, 3):
        await world.send("worker/a", "plain", n, id=f"sent {n}")
    assert world.state("worker/a")["total"] == 5


async def effect(world: World, witness: Witness) -> None:
    answer = await ask(world, "worker/a", "charged", 5)
    at_most_once(witness)
    if answer is None:
        assert [d.reason for d in world.dead_letters("worker/a")] == ["outcome_unknown"]
        assert (world.state("worker/a") or {"total": 0})["total"] == 0
    else:
        assert (answer, sum(witness.counts().values()), world.state("worker/a")["total"]) == ("receipt-5", 1, 5)


async def effect_from_bus(world: World, witness: Witness) -> None:
    await world.send("worker/a", "charged", 5, id="charge 5")
    at_most_once(witness)
    letters = [d.reason for d in world.dead_letters("worker/a")]
    done = (world.state("worker/a") or {"total": 0})["total"]
    assert (letters, done) in (([], 5), (["outcome_unknown"], 0)), (letters, done)
    assert letters or sum(witness.counts().values()) == 1


async def two_effects(world: World, witness: Witness) -> None:
    await world.send("worker/a", "charged.twice", 5, id="charge 5 6")
    at_most_once(witness)
    letters = [d.reason for d in world.dead_letters("worker/a")]
    assert letters in ([], ["outcome_unknown"])
    assert letters or sum(witness.counts().values()) == 2


async def idempotent_effect(world: World, witness: Witness) -> None:
    assert await ask(world, "worker/a", "looked") == 7
    assert len(witness.counts()) == 1, "one operation id, however often it ran"
    assert world.state("worker/a")["total"] == 7


async def sending(world: World, witness: Witness) -> None:
    await world.send("topic/news", "topic.subscribe", {"agent": "worker/reader"}, id="s")
    await ask(world, "worker/a", "sending", 4)
    await world.advance(timedelta(minutes=5))
    assert world.state("worker/other")["total"] == 4
    assert world.state("worker/reader")["total"] == 4


async def timers(world: World, witness: Witness) -> None:
    await ask(world, "worker/a", "timed", 9)
    await world.advance(timedelta(minutes=20))
    assert world.state("worker/a")["total"] == 9


async def schedule(world: World, witness: Witness) -> None:
    for _ in range(7):
        await world.advance(timedelta(minutes=5))
    assert world.state("worker/clockwork")["total"] == 3


async def pending(world: World, witness: Witness) -> None:
    assert await ask(world, "worker/a", "asking", 6) == "answer 6"
    assert world.state("worker/a")["seen"] == ["6"]


async def delegated(world: World, witness: Witness) -> None:
    assert await ask(world, "worker/a", "delegating", 6) == 7


async def retried(world: World, witness: Witness) -> None:
    await world.send("worker/a", "flaky", id="flaky")
    await world.advance(timedelta(minutes=1))
    world.clock.move(timedelta(minutes=2))
    await world.advance(timedelta(minutes=20))
    state, letters = world.state("worker/a"), world.dead_letters("worker/a")
    assert (state is not None and state["total"] == 1) or [d.reason for d in letters] == ["max_attempts"]


async def dead(world: World, witness: Witness) -> None:
    try:
        await world.ask("worker/a", "poison", id="poison")
    except AosError as error:
        assert "rejected" in str(error), error
    assert [d.reason for d in world.dead_letters("worker/a")] == ["rejected"]


async def suspended(world: World, witness: Witness) -> None:
    await ask(world, "worker/a", "plain", 1)
    await world.command("worker/a", "aos.suspend", id="suspend")
    for n in (2, 3):
        await world.send("worker/a", "plain", n, id=f"sent {n}")
    assert world.state("worker/a")["total"] in (1, 6), (
        "nothing ran while suspended; all of it after an earlier run resumed"
    )
    await world.command("worker/a", "aos.resume", id="resume")
    await world.run()
    assert world.history("worker/a") == [{"by": 1}, {"by": 2}, {"by": 3}]


async def big_state(world: World, witness: Witness) -> None:
    await ask(world, "worker/a", "big")
    await ask(world, "worker/a", "plain", 1)
    assert world.state("worker/a")["total"] == 2


KINDS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        sent,
        effect,
        effect_from_bus,
        two_effects,
        idempotent_effect,
        sending,
        timers,
        schedule,
        pending,
        delegated,
        retried,
        dead,
        suspended,
        big_state,
    )
}
