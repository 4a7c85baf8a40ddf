"""P13: a batch is cut at 90 operations and 3 MB; what one event may write is limited, and larger fan-out goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.agent import Agent, Pending, on
from aos.kernel.context import Context
from aos.kernel.errors import Retry
from aos.testing import World
from tests.protocol.agents import Add, Backend, Counter, both, envelope, handled, reasons
from tests.protocol.rivals import batches, operations, told, weight

MOST_OPERATIONS = 90
MOST_BYTES = 3_000_000


class Written(BaseModel):
    events: int = 0


class Writer(Agent[Written], effects={"nothing": "read"}):
    """Writes as much as it is told."""

    @on("writer.rows")
    def rows(self, data: int, ctx: Context[Written]) -> None:
        ctx.state.events += 1
        for n in range(data):
            ctx.put("rows", f"{ctx.event.id if ctx.event else ''}.{n:03d}", n)

    @on("writer.history")
    def history(self, data: int, ctx: Context[Written]) -> None:
        ctx.state.events += 1
        for n in range(data):
            ctx.append(n)

    @on("writer.messages")
    def messages(self, data: int, ctx: Context[Written]) -> None:
        ctx.state.events += 1
        for n in range(data):
            ctx.send(f"counter/{n % 7}", "counter.add", Add(by=1))

    @on("writer.bytes")
    def bytes(self, data: int, ctx: Context[Written]) -> None:
        ctx.state.events += 1
        ctx.put("rows", "big", "x" * data)

    @on("writer.effects")
    async def effects(self, data: int, ctx: Context[Written]) -> None:
        ctx.state.events += 1
        for _ in range(data):
            await ctx.effect("nothing", nothing)

    @on("writer.forward")
    def forward(self, data: str, ctx: Context[Written]) -> None:
        ctx.send("reader/a", "news", data)

    @on("writer.result")
    async def result(self, data: int, ctx: Context[Written]) -> None:
        ctx.state.events += len(await ctx.effect("nothing", much, data)) // data

    @on("writer.asks")
    def asks(self, ctx: Context[Written]) -> Pending:
        return ctx.send("reader/never", "never", deadline=timedelta(days=9))

    @on("writer.end")
    def end(self, data: int, ctx: Context[Written]) -> None:
        self.rows(data, ctx)
        ctx.terminate()

    @on("writer.takes")
    def takes(self, data: str, ctx: Context[Written]) -> int:
        ctx.state.events += 1
        return len(data)


class Reader(Agent[Written]):
    @on("never")
    def never(self) -> None:
        raise Retry("not yet", after=timedelta(days=3))

    @on("news")
    def news(self, data: str, ctx: Context[Written]) -> None:
        ctx.state.events += 1


async def nothing() -> None:
    return None


async def much(data: int) -> str:
    return "x" * data


async def many(world: World, type: str, data: Any, n: int) -> None:
    await world.post(*(envelope("writer/a", type, data, id=str(i), at=world) for i in range(n)))
    await world.run()


@pytest.mark.parametrize(("type", "data"), [("writer.rows", 10), ("writer.history", 80), ("writer.effects", 5)])
async def test_a_turn_is_cut_at_90_operations(type: str, data: int) -> None:
    async with World(Writer) as world:
        committed = batches(world)
        await many(world, type, data, 40)
        assert max(operations(batch) for batch in committed) <= MOST_OPERATIONS
        assert handled(world, "writer/a") == [str(n) for n in range(40)], "all of them, in order"
        world.verify()


async def test_a_turn_is_cut_at_3_mb() -> None:
    async with World(Writer) as world:
        committed = batches(world)
        await many(world, "writer.takes", "x" * 900_000, 8)
        events = [sum(entry["k"] == "event.handled" for entry in r["entries"]) for r in world.records("writer/a")]
        assert sum(events) == 8
        assert max(events) * 900_000 <= MOST_BYTES
        assert max(weight(batch) for batch in committed) <= MOST_BYTES
        world.verify()


async def test_small_events_share_a_turn() -> None:
    async with World(Writer) as world:
        await many(world, "writer.takes", "x", 20)
        assert len(world.records("writer/a")) == 1


@both
@pytest.mark.parametrize(
    ("type", "most"),
    [("writer.rows", 80), ("writer.history", 80), ("writer.messages", 500), ("writer.bytes", 699_000)],
)
async def test_one_event_may_write_so_much(backend: Backend, type: str, most: int) -> None:
    async with World(Writer, Counter, backend=backend) as world:
        await world.send("writer/a", type, most)
        assert world.state("writer/a") == {"events": 1}
        assert reasons(world, "writer/a") == []
        world.verify()


@pytest.mark.parametrize(
    ("type", "most", "says"),
    [
        ("writer.rows", 80, "80 rows"),
        ("writer.history", 80, "80 rows"),
        ("writer.messages", 500, "500 messages"),
        ("writer.bytes", 700_000, "700,000 bytes"),
    ],
)
async def test_beyond_it_the_event_is_rejected_with_that_reason(type: str, most: int, says: str) -> None:
    async with World(Writer, Counter) as world:
        await world.send("writer/a", type, most + 1)
        (letter,) = world.dead_letters("writer/a")
        assert letter.reason == "rejected"
        assert says in letter.error
        assert world.state("writer/a") is None, "and nothing of it was written"
        assert world.state("counter/0") is None


async def test_the_effects_of_one_event_fit_its_transaction() -> None:
    """Their journal rows are removed by the commit, so they count as rows too."""
    async with World(Writer) as world:
        committed = batches(world)
        for n in (20, 30, 60, 200):
            await world.send("writer/a", "writer.effects", n)
        assert max(operations(batch) for batch in committed) <= MOST_OPERATIONS
        assert set(reasons(world, "writer/a")) == {"rejected"}


async def test_all_messages_of_a_turn_are_one_row_of_it() -> None:
    async with World(Writer, Counter) as world:
        committed = batches(world)
        await many(world, "writer.messages", 30, 3)
        first = committed[0]
        assert [write.key[:2] for write in first.writes].count("1o") == 1
        assert sum(world.state(f"counter/{n}")["total"] for n in range(7)) == 90


async def test_what_does_not_fit_a_row_is_delivered_all_the_same() -> None:
    async with World(Writer, Reader) as world:
        await world.send("writer/a", "writer.forward", "x" * 600_000)
        assert world.state("reader/a") == {"events": 1}
        world.verify()


# ------------------------------------------------------------------------- larger fan-out goes on by an event to itself


@pytest.mark.parametrize(("subscribers", "size"), [(450, 10), (150, 9_000), (1, 600_000), (130, 300_000)])
async def test_a_topic_serves_all_its_subscribers_once(subscribers: int, size: int) -> None:
    async with World(Reader) as world:
        agents = [f"reader/{n}" for n in range(subscribers)]
        sent = (
            envelope("topic/t", "topic.subscribe", {"agent": agent, "types": []}, id=agent, at=world)
            for agent in agents
        )
        await world.post(*sent)
        await world.send("topic/t", "topic.publish", {"type": "news", "data": "x" * size})
        assert reasons(world, "topic/t") == []
        assert {agent: world.state(agent) for agent in agents} == {agent: {"events": 1} for agent in agents}


# ------------------------------------------------------------------------------------ whatever the events come to


def adding(world: World, n: int, prefix: str) -> list[Any]:
    return [envelope("counter/a", "counter.add", {"by": 1}, id=f"{prefix}{i}", at=world) for i in range(n)]


async def test_a_backlog_that_drains_beside_new_events_keeps_within_the_limit() -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add(by=1))
        await world.command("counter/a", "aos.suspend")
        await world.post(*adding(world, 80, "waits"))
        await world.run()
        committed = batches(world)
        await world.post(*adding(world, 80, "new"))
        await world.command("counter/a", "aos.resume")
        assert world.state("counter/a")["total"] == 161
        assert max(operations(batch) for batch in committed) <= MOST_OPERATIONS


async def test_a_backlog_that_dies_with_its_agent_keeps_within_the_limit() -> None:
    async with World(Counter) as world:
        await world.send("counter/a", "counter.add", Add(by=1))
        await world.command("counter/a", "aos.suspend")
        await world.post(*adding(world, 80, "waits"))
        await world.run()
        committed = batches(world)
        await world.command("counter/a", "aos.terminate")
        await world.post(*adding(world, 64, "late"))
        await world.run()
        assert max(operations(batch) for batch in committed) <= MOST_OPERATIONS
        assert told(world, "counter/a", adding(world, 80, "waits")[-1].event.key).final


@pytest.mark.parametrize("by", ["command", "handler"])
async def test_terminating_an_agent_for_which_many_wait_keeps_within_the_limit(by: str) -> None:
    async with World(Writer, Reader) as world:
        sent = [envelope("writer/a", "writer.asks", id=str(n), at=world) for n in range(200)]
        await world.post(*sent)
        await world.run()
        committed = batches(world)
        if by == "command":
            await world.command("writer/a", "aos.terminate")
        else:
            await world.send("writer/a", "writer.end", 80)
        await world.advance(timedelta(days=10))
        assert world.life("writer/a") == "terminated"
        assert max(operations(batch) for batch in committed) <= MOST_OPERATIONS
        assert {told(world, "writer/a", message.event.key).final for message in sent} == {True}


@pytest.mark.parametrize("command", ["aos.suspend", "aos.terminate"])
async def test_big_events_that_are_not_run_keep_within_the_limit(command: str) -> None:
    async with World(Writer) as world:
        await world.command("writer/a", command)
        committed = batches(world)
        await many(world, "writer.takes", "x" * 200_000, 32)
        assert max(weight(batch) for batch in committed) <= MOST_BYTES


@pytest.mark.parametrize("type", ["writer.result", "writer.effects"])
async def test_a_journal_keeps_within_the_limit(type: str) -> None:
    async with World(Writer) as world:
        committed = batches(world)
        await world.send("writer/a", type, 5_000_000 if type == "writer.result" else 20)
        assert world.state("writer/a") == {"events": 1}
        assert max(weight(batch) for batch in committed) <= MOST_BYTES
        world.verify()


async def test_erasing_keeps_within_the_limit() -> None:
    async with World(Writer) as world:
        await many(world, "writer.history", 80, 6)
        committed = batches(world)
        first: int | None = 0
        while first is not None:
            first = (await world.command("writer/a", "aos.erase", {"first": first, "last": 5}))["next"]
        assert max(operations(batch) for batch in committed) <= MOST_OPERATIONS
        assert set(world.history("writer/a")) == {None}
        world.verify()
