"""P12: a journal row is written only for the first uncommitted event; what comes before it is committed first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.testing import FaultPoint, World, sweep
from tests.protocol.agents import Backend, Outside, Pay, Till, both, envelope, handled, reasons
from tests.protocol.rivals import another, dispatch, lost_answer, store_of


class Paid(BaseModel):
    paid: list[int] = []


class Payer(Agent[Paid], effects={"charge": "write", "look": "read"}):
    """Several effects in one event: one after the other, or all at the same time."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    @on("payer.row")
    async def row(self, data: list[int], ctx: Context[Paid]) -> None:
        for cents in data:
            ctx.state.paid.append(await ctx.effect("charge", self.outside.charge, cents))

    @on("payer.mixed")
    async def mixed(self, data: list[int], ctx: Context[Paid]) -> None:
        for n, cents in enumerate(data):
            got = await ctx.effect("charge", self.outside.charge, cents, idempotent=n % 2 == 0)
            ctx.state.paid.append(got)

    @on("payer.together")
    async def together(self, data: list[int], ctx: Context[Paid]) -> None:
        charges = (ctx.effect("charge", self.slow, cents, key=str(cents)) for cents in data)
        ctx.state.paid += await asyncio.gather(*charges)

    async def slow(self, cents: int, idempotency_key: str) -> int:
        got = await self.outside.charge(cents, idempotency_key)
        for _ in range(20):
            await asyncio.sleep(0)
        return got


def paying(world: World, id: str, cents: int = 1) -> Any:
    return envelope("till/a", "till.pay", {"cents": cents}, id=id, at=world)


def other(world: World, id: str) -> Any:
    return envelope("till/a", "till.other", id=id, at=world)


@both
async def test_the_events_before_an_effect_are_committed_before_it_runs(backend: Backend) -> None:
    outside, seen = Outside(), list[Any]()
    async with World(Till(outside), backend=backend) as world:

        async def look() -> None:
            seen.append((handled(world, "till/a"), world.state("till/a")))

        outside.then = [look]
        await world.post(other(world, "1"), other(world, "2"), paying(world, "3"), other(world, "4"))
        await world.run()
        assert seen == [(["1", "2"], {"cents": 0, "others": 2})]
        assert handled(world, "till/a") == ["1", "2", "3", "4"]
        assert world.state("till/a") == {"cents": 2, "others": 3}
        world.verify()


@both
async def test_an_effect_of_the_first_event_commits_nothing_before(backend: Backend) -> None:
    outside, seen = Outside(), list[Any]()
    async with World(Till(outside), backend=backend) as world:

        async def look() -> None:
            seen.append(world.records("till/a"))

        outside.then = [look]
        await world.send("till/a", "till.pay", Pay())
        assert seen == [[]]
        assert len(world.records("till/a")) == 1


@both
@pytest.mark.parametrize("hostile", [False, True])
async def test_a_journal_write_gives_the_version_that_the_next_write_expects(backend: Backend, hostile: bool) -> None:
    outside = Outside()
    async with World(Payer(outside), backend=backend, hostile=hostile) as world:
        await world.send("payer/a", "payer.row", [1, 2, 3])
        await world.send("payer/a", "payer.mixed", [4, 5, 6, 7])
        assert world.state("payer/a") == {"paid": [2, 4, 6, 8, 10, 12, 14]}
        assert len(set(outside.done)) == 7
        assert [cents for cents in outside.amounts if cents in (1, 2, 3, 5, 7)] == [1, 2, 3, 5, 7]
        assert [record["seq"] for record in world.records("payer/a")] == [0, 1]
        world.verify()


@both
async def test_effects_that_run_at_the_same_time_each_happen_once(backend: Backend) -> None:
    outside = Outside()
    async with World(Payer(outside), backend=backend) as world:
        await dispatch(
            another(world, store=store_of(world)), envelope("payer/a", "payer.together", [1, 2, 3, 4], at=world)
        )
        await world.run()
        assert reasons(world, "payer/a") == []
        assert sorted(outside.amounts) == [1, 2, 3, 4]
        assert world.state("payer/a") == {"paid": [2, 4, 6, 8]}
        world.verify()


async def test_no_effect_runs_when_the_events_before_it_could_not_be_committed() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:
        first, second = other(world, "1"), paying(world, "2")

        async def rival() -> None:
            assert outside.done == []
            await dispatch(another(world), first, second)

        await dispatch(another(world, store=store_of(world).before("commit", rival)), first, second)
        assert outside.amounts == [1]
        assert world.state("till/a") == {"cents": 2, "others": 1}
        assert handled(world, "till/a") == ["1", "2"]


async def test_an_effect_of_a_later_event_survives_a_lost_answer_to_the_commit_before_it() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:
        store = store_of(world).after("commit", lost_answer)
        await dispatch(another(world, store=store), other(world, "1"), paying(world, "2"), other(world, "3"))
        assert outside.amounts == [1]
        assert handled(world, "till/a") == ["1", "2", "3"]
        world.verify()


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_batch_with_effects_in_the_middle_survives_every_fault(processes: int) -> None:
    outside = Outside()

    async def scenario(world: World) -> None:
        outside.clear()
        await world.post(other(world, "1"), paying(world, "2"), other(world, "3"), paying(world, "4"))
        await world.run()
        unknown = reasons(world, "till/a").count("outcome_unknown")
        assert world.state("till/a") == {"cents": 2 * (2 - unknown), "others": 2}
        assert len(outside.done) == len(set(outside.done)) <= 2

    swept = await sweep(scenario, Till(outside), processes=processes)
    assert {FaultPoint.INTENT_DONE, FaultPoint.RESULT_AFTER, FaultPoint.COMMIT_AFTER}.isdisjoint(swept.missing)
