"""P29: what is too big for a row lies in a blob of its agent's turn; it is read back as if it were in the row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import StoreUnavailable
from aos.testing import FaultPoint, World, sweep
from tests.protocol.agents import Backend, Outside, both, envelope, reasons
from tests.protocol.rivals import Between, another, dispatch, store_of, told

BIG = 600_000


class Kept(BaseModel):
    text: str = ""
    got: int = 0


class Big(Agent[Kept], effects={"charge": "write"}):
    def __init__(self, outside: Outside | None = None) -> None:
        self.outside = outside or Outside()

    @on("big.reply")
    def reply(self, data: str) -> str:
        return data

    @on("big.state")
    def state(self, data: str, ctx: Context[Kept]) -> int:
        ctx.state.text = data
        return len(data)

    @on("big.rows")
    def rows(self, data: str, ctx: Context[Kept]) -> None:
        ctx.put("rows", "a", data)

    @on("big.read")
    async def read(self, ctx: Context[Kept]) -> int:
        return len(await ctx.get("rows", "a"))

    @on("big.append")
    def append(self, data: str, ctx: Context[Kept]) -> None:
        ctx.append(data)

    @on("big.send")
    def send(self, data: str, ctx: Context[Kept]) -> None:
        ctx.send("big/other", "big.state", data)

    @on("big.pay")
    async def pay(self, data: str, ctx: Context[Kept]) -> None:
        ctx.state.got += await ctx.effect("charge", self.outside.charge, len(data))

    @on("big.spoil")
    def spoil(self, data: str, ctx: Context[Kept]) -> None:
        raise ValueError("spoilt")


async def blobs(world: World) -> list[str]:
    return list(await world.partitions.blobs.list(""))


@both
async def test_small_things_need_no_blob(backend: Backend) -> None:
    async with World(Big, backend=backend) as world:
        for type in ("big.reply", "big.state", "big.rows", "big.append", "big.send"):
            await world.send("big/a", type, "x" * 1000)
        assert await blobs(world) == []


@both
@pytest.mark.parametrize("type", ["big.reply", "big.state", "big.rows", "big.append", "big.send"])
async def test_big_things_are_named_after_agent_and_turn(backend: Backend, type: str) -> None:
    async with World(Big, backend=backend, settle_together=False) as world:
        await world.send("big/a", type, "x" * BIG)
        (turn,) = [record["turn"] for record in world.records("big/a")]
        mine = [name for name in await blobs(world) if name.startswith("default/big/a/")]
        assert mine
        assert all(name.startswith(f"default/big/a/{turn}/") for name in mine)
        assert all(name.rpartition("/")[2].isdigit() for name in mine)
        world.verify()


async def test_so_are_those_of_a_journal() -> None:
    outside, seen = Outside(), list[str]()
    async with World(Big(outside)) as world:

        async def look() -> None:
            seen.extend(await blobs(world))

        outside.then = [look]
        await world.send("big/a", "big.pay", "x" * BIG)
        assert seen
        for name in seen:
            *agent, turn, n = name.split("/")
            assert (agent, len(turn), n.isdigit()) == (["default", "big", "a"], 32, True)


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_they_are_read_back_whole(backend: Backend, hostile: bool) -> None:
    outside = Outside()
    async with World(Big(outside), backend=backend, hostile=hostile) as world:
        text = "é" * (BIG // 2)
        assert await world.ask("big/a", "big.reply", text) == text
        await world.send("big/a", "big.rows", text)
        assert await world.ask("big/a", "big.read") == len(text)
        await world.send("big/a", "big.append", text)
        assert world.history("big/a") == [text]
        await world.send("big/a", "big.send", text)
        assert world.state("big/other")["text"] == text
        await world.send("big/a", "big.state", text)
        assert world.state("big/a")["text"] == text
        await world.send("big/a", "big.pay", text)
        assert outside.amounts == [len(text)]
        world.verify()


async def test_a_duplicate_gets_the_same_bytes() -> None:
    async with World(Big) as world:
        sent = envelope("big/a", "big.reply", "x" * BIG, at=world)
        first = await another(world).ask(sent)
        again = await another(world).ask(sent)
        assert again.duplicate
        assert again.value == first.value == b'"' + b"x" * BIG + b'"'


async def test_a_big_dead_letter_is_redriven_whole() -> None:
    async with World(Big) as world:
        key = await world.send("big/a", "big.spoil", "x" * BIG)
        await world.advance(timedelta(hours=1))
        (letter,) = world.dead_letters("big/a")
        assert letter.message.event.data == "x" * BIG
        await world.command("big/a", "aos.dead_letter.redrive", {"key": key})
        assert reasons(world, "big/a") == ["max_attempts"]


async def test_a_big_event_waits_in_the_backlog() -> None:
    async with World(Big) as world:
        await world.command("big/a", "aos.suspend")
        await world.send("big/a", "big.state", "x" * BIG)
        await world.command("big/a", "aos.resume")
        assert len(world.state("big/a")["text"]) == BIG


@both
async def test_what_is_erased_is_in_no_blob_either(backend: Backend) -> None:
    async with World(Big, backend=backend) as world:
        answer = world.ask("big/a", "big.reply", "secret" * (BIG // 6))
        await answer
        await world.command("big/a", "aos.erase", {"first": 0, "last": 0})
        for name in await blobs(world):
            assert b"secret" not in (await world.partitions.blobs.get(name) or b""), name
        assert told(world, "big/a", answer.key).value is None
        world.verify()


@both
@pytest.mark.parametrize("type", ["big.send", "big.pay", "big.rows", "big.state", "big.spoil"])
async def test_nor_is_what_was_only_on_its_way(backend: Backend, type: str) -> None:
    """Outbox, journal, backlog and dead letter are gone when they are dealt with, whatever their size."""
    async with World(Big, backend=backend, settle_together=False) as world:
        text = "secret" * (BIG // 6)
        await world.command("big/a", "aos.suspend")
        key = await world.send("big/a", type, text)
        await world.command("big/a", "aos.resume")
        await world.advance(timedelta(hours=1))
        if type == "big.spoil":
            await world.command("big/a", "aos.dead_letter.discard", {"key": key})
        await world.send("big/a", "big.rows", "")
        for agent in ("big/a", "big/other"):
            if world.life(agent) is not None:
                await world.send(agent, "big.state", "")
                await world.command(agent, "aos.erase", {"first": 0, "last": 99})
        left = [name for name in await blobs(world) if b"secret" in (await world.partitions.blobs.get(name) or b"")]
        assert left == []
        world.verify()


async def test_a_state_that_is_replaced_leaves_no_blob_behind() -> None:
    async with World(Big) as world:
        for n in range(5):
            await world.send("big/a", "big.state", str(n) * BIG)
        states = [name for name in await blobs(world) if name.endswith("/0")]
        assert len(states) == 1


async def test_a_state_that_is_replaced_while_it_is_read_is_read_again() -> None:
    async with World(Big) as world:
        await world.send("big/a", "big.state", "old" * (BIG // 3))
        replaced = envelope("big/a", "big.state", "new" * (BIG // 3), id="new", at=world)
        reading = envelope("big/a", "big.reply", "here", id="reading", at=world)
        store = store_of(world).after("load", lambda: dispatch(another(world), replaced))
        assert (await another(world, store=store).ask(reading)).value == b'"here"'
        assert len(world.records("big/a")) == 3


async def test_two_agents_never_share_a_blob() -> None:
    async with World(Big) as world:
        for agent in ("big/a", "big/b"):
            await world.send(agent, "big.reply", "x" * BIG)
        names = await blobs(world)
        assert len(names) == len(set(names)) == 2
        assert {name.rsplit("/", 2)[0] for name in names} == {"default/big/a", "default/big/b"}


async def test_what_lost_a_conflict_is_tried_again_with_a_blob_of_its_own() -> None:
    async with World(Big) as world:
        mine = envelope("big/a", "big.state", "m" * BIG, id="mine", at=world)
        theirs = envelope("big/a", "big.reply", "t" * BIG, id="theirs", at=world)
        await dispatch(
            another(world, store=store_of(world).before("commit", lambda: dispatch(another(world), theirs))), mine
        )
        assert world.state("big/a")["text"] == "m" * BIG
        assert (await another(world).ask(theirs)).value == b'"' + b"t" * BIG + b'"'
        world.verify()


async def test_a_blob_that_can_not_be_read_is_not_an_empty_one() -> None:
    """Could not be read and there is none are different answers, and neither of them changes the agent."""
    async with World(Big) as world:
        await world.send("big/a", "big.state", "x" * BIG)
        (name, *_) = [name for name in await blobs(world) if name.endswith("/0")]
        data = await world.partitions.blobs.get(name)
        assert data is not None
        await world.partitions.blobs.delete(name)
        sent: Any = envelope("big/a", "big.read", at=world)
        with pytest.raises(StoreUnavailable, match="missing"):
            await dispatch(another(world), sent)
        await world.partitions.blobs.put(name, data)

        async def away() -> None:
            raise StoreUnavailable("injected")

        with pytest.raises(StoreUnavailable):
            await dispatch(another(world, blobs=Between(world.partitions.blobs).before("get", away)), sent)
        assert reasons(world, "big/a") == []
        assert len(world.state("big/a")["text"]) == BIG


async def test_a_blob_that_can_not_be_written_commits_nothing() -> None:
    async def away() -> None:
        raise StoreUnavailable("injected")

    async with World(Big) as world:
        sent = envelope("big/a", "big.state", "x" * BIG, at=world)
        with pytest.raises(StoreUnavailable):
            await dispatch(another(world, blobs=Between(world.partitions.blobs).before("put", away)), sent)
        assert world.records("big/a") == []
        await dispatch(another(world), sent, count=2)
        assert len(world.state("big/a")["text"]) == BIG


@both
async def test_big_things_survive_every_fault(backend: Backend) -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        await world.send("big/a", "big.state", "x" * BIG)
        await world.send("big/a", "big.send", "y" * BIG)
        await world.send("big/a", "big.pay", "z" * BIG)
        await world.advance(timedelta(minutes=5))
        assert len(world.state("big/a")["text"]) == BIG
        assert world.state("big/other")["text"] == "y" * BIG
        assert len(outside.done) <= 1
        assert world.state("big/a")["got"] == 2 * BIG or reasons(world, "big/a") == ["outcome_unknown"]

    calls = ("blob", "commit", "intent", "result") if backend == "memory" else ("blob", "settle")
    points = [point for point in FaultPoint if point.call in calls]
    await sweep(scenario, agents=lambda: Big(outside), each=2, points=points, backend=backend)
