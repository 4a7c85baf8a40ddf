"""P14: where the store can't say what became of a write, the writer's own record or row decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import StoreUnavailable
from aos.kernel.ports import Unknown
from aos.testing import Fault, FaultPoint, World
from tests.protocol.agents import Add, Backend, Count, Counter, Outside, Pay, Till, both, envelope, handled, reasons
from tests.protocol.rivals import another, crash, dies, dispatch, lost_answer, outage, store_of

COMMITS = [FaultPoint.COMMIT_LOST, FaultPoint.COMMIT_DONE]
JOURNALS = [FaultPoint.INTENT_LOST, FaultPoint.INTENT_DONE, FaultPoint.RESULT_DONE]


class Teller(Agent[Count]):
    """Sends on what it gets."""

    @on("teller.tell")
    def tell(self, data: Add, ctx: Context[Count]) -> None:
        ctx.state.runs += 1
        ctx.send("counter/a", "counter.add", data)


def adding(world: World, id: str = "1", by: int = 1) -> Any:
    return envelope("counter/a", "counter.add", {"by": by}, id=id, at=world)


@both
@pytest.mark.parametrize("point", COMMITS)
async def test_a_commit_without_an_answer_happens_once(backend: Backend, point: FaultPoint) -> None:
    async with World(Teller, Counter, backend=backend, settle_together=False, fault=Fault(point)) as world:
        await world.send("teller/a", "teller.tell", Add(by=5))
        assert world.state("teller/a")["runs"] == 1
        assert world.state("counter/a")["total"] == 5
        assert len(world.records("teller/a")) == 1
        world.verify()


@pytest.mark.parametrize("point", [FaultPoint.SETTLE_LOST, FaultPoint.SETTLE_DONE])
async def test_so_does_one_together_with_its_messages_and_completions(point: FaultPoint) -> None:
    async with World(Teller, Counter, backend="sqlite", fault=Fault(point)) as world:
        await world.send("teller/a", "teller.tell", Add(by=5))
        assert world.state("teller/a")["runs"] == 1
        assert world.state("counter/a")["total"] == 5
        world.verify()


@both
@pytest.mark.parametrize("point", COMMITS)
async def test_an_ask_is_answered_in_spite_of_it(backend: Backend, point: FaultPoint) -> None:
    async with World(Counter, backend=backend, settle_together=False, fault=Fault(point)) as world:
        assert await world.ask("counter/a", "counter.add", Add(by=5)) == 5
        assert world.state("counter/a")["total"] == 5


@both
@pytest.mark.parametrize("point", JOURNALS)
async def test_for_a_journal_write_its_own_row_decides(backend: Backend, point: FaultPoint) -> None:
    outside = Outside()
    async with World(Till(outside), backend=backend, fault=Fault(point)) as world:
        await world.send("till/a", "till.pay", Pay(cents=3))
        assert outside.amounts == [3]
        assert world.state("till/a")["cents"] == 6
        world.verify()


async def test_a_result_that_is_not_there_is_an_unknown_outcome_and_no_second_run() -> None:
    outside = Outside()
    async with World(Till(outside), fault=Fault(FaultPoint.RESULT_LOST)) as world:
        await world.send("till/a", "till.pay", Pay(cents=3))
        assert outside.amounts == [3]
        assert reasons(world, "till/a") == ["outcome_unknown"]


async def test_a_committed_turn_is_known_by_its_record_when_others_went_on_since() -> None:
    async with World(Teller, Counter) as world:
        mine = envelope("teller/a", "teller.tell", {"by": 5}, id="mine", at=world)

        async def rival_goes_on() -> Unknown:
            await dispatch(another(world), envelope("teller/a", "teller.tell", {"by": 7}, id="theirs", at=world))
            return await lost_answer()

        await dispatch(another(world, store=store_of(world).after("commit", rival_goes_on)), mine)
        await world.run()
        assert handled(world, "teller/a") == ["mine", "theirs"]
        assert world.state("teller/a")["runs"] == 2
        assert world.state("counter/a")["total"] == 12, "its messages were sent"
        world.verify()


async def test_the_rest_of_a_batch_goes_on_from_what_others_committed_since() -> None:
    outside = Outside()
    async with World(Till(outside)) as world:

        async def rival_goes_on() -> Unknown:
            await dispatch(another(world), envelope("till/a", "till.other", id="theirs", at=world))
            return await lost_answer()

        store = store_of(world).after("commit", rival_goes_on)
        first = envelope("till/a", "till.other", id="1", at=world)
        second = envelope("till/a", "till.pay", {"cents": 4}, id="2", at=world)
        await dispatch(another(world, store=store), first, second)
        assert outside.amounts == [4]
        assert world.state("till/a") == {"cents": 8, "others": 2}
        world.verify()


async def test_an_intent_that_others_have_given_up_since_is_not_built_on() -> None:
    """Its row is there, but the head is not the one that the writer knows: writing it back would undo theirs."""
    outside = Outside()
    async with World(Till(outside)) as world:
        mine = envelope("till/a", "till.pay", {"cents": 4}, id="mine", at=world)

        async def rival_gives_it_up() -> Unknown:
            await dispatch(another(world), mine, envelope("till/a", "till.other", id="theirs", at=world), count=2)
            return await lost_answer()

        await dispatch(another(world, store=store_of(world).after("journal", rival_gives_it_up)), mine)
        assert reasons(world, "till/a") == ["outcome_unknown"]
        assert world.state("till/a") == {"cents": 0, "others": 1}
        assert outside.done == []
        world.verify()


@pytest.mark.parametrize("call", ["commit", "journal"])
async def test_not_being_able_to_look_is_not_an_answer(call: str) -> None:
    """A store that is away after an unknown outcome has not said no: the delivery comes again and finds out."""
    outside = Outside()
    async with World(Till(outside)) as world:
        message = envelope("till/a", "till.pay", {"cents": 4}, id="1", at=world)

        async def away_from_now_on() -> Unknown:
            store.before("load", *[outage] * 20)
            return await lost_answer()

        store = store_of(world).after(call, away_from_now_on)
        with pytest.raises(StoreUnavailable):
            await dispatch(another(world, store=store), message)
        await dispatch(another(world), message, count=2)
        await world.advance(timedelta(minutes=5))
        assert len(outside.amounts) == (1 if call == "commit" else 0)
        assert len(world.records("till/a")) == 1
        world.verify()


async def test_an_event_that_somebody_else_finishes_while_it_is_taken_up() -> None:
    """Head and journal are two reads: what the one names may be gone at the other."""
    outside = Outside()
    async with World(Till(outside)) as world:
        message = envelope("till/a", "till.pay", {"cents": 4}, id="1", at=world)
        await dies(another(world, store=store_of(world).before("commit", crash)), message)
        store = store_of(world).before("read", lambda: dispatch(another(world), message, count=2))
        await dispatch(another(world, store=store), message, count=2)
        assert outside.amounts == [4]
        assert handled(world, "till/a") == ["1"]


@pytest.mark.parametrize("point", COMMITS)
async def test_a_dead_letter_is_written_though_its_commit_had_no_answer(point: FaultPoint) -> None:
    async with World(Counter, fault=Fault(point, 2)) as world:
        await world.send("counter/a", "counter.add", Add(by=1), id="same")
        await world.send("counter/a", "counter.add", Add(by=2), id="same")
        assert reasons(world, "counter/a") == ["id_reused"]
        assert world.state("counter/a")["total"] == 1


async def test_a_dead_letter_is_written_though_its_commit_met_a_conflict() -> None:
    async with World(Counter) as world:
        await dispatch(another(world), adding(world, "same", 1))

        async def rival() -> None:
            await dispatch(another(world), adding(world, "other", 10))

        await dispatch(another(world, store=store_of(world).before("commit", rival)), adding(world, "same", 2))
        assert reasons(world, "counter/a") == ["id_reused"]
        assert world.state("counter/a")["total"] == 11


async def test_a_lost_answer_and_a_crash_right_after_it() -> None:
    async with World(Counter) as world:

        async def unknown_then_dead() -> Unknown:
            store.before("load", crash)
            return await lost_answer()

        store = store_of(world).after("commit", unknown_then_dead)
        await dies(another(world, store=store), adding(world))
        await dispatch(another(world), adding(world), count=2)
        assert world.state("counter/a")["total"] == 1
        assert len(world.records("counter/a")) == 1
