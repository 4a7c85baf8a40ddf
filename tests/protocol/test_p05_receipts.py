"""P5: what a receipt holds, when it is written, and which deliveries are duplicates by it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.address import Address
from aos.kernel.agent import Agent, Outcome, Pending, after, on
from aos.kernel.context import Context
from aos.kernel.errors import Reject, Retry
from aos.kernel.event import from_cloudevent
from aos.kernel.item import Ended
from aos.kernel.ports import Kind
from aos.kernel.receipt import Receipt, Status
from aos.testing import World, sweep
from tests.protocol.agents import Backend, Count, Counter, both, envelope, handled, no_circles, reasons

JOB = Address.parse("job/a")


class Job(Agent[Count], max_attempts=4):
    """`fails`: what the next attempts come to."""

    def __init__(self, *fails: BaseException) -> None:
        self.fails: list[BaseException] = [*fails]

    @on("job.do")
    def do(self, data: Any, ctx: Context[Count]) -> str:
        ctx.state.runs += 1
        self.count += 1
        if self.fails:
            raise self.fails.pop(0)
        return f"done {data}"

    count = 0

    @on("job.ask")
    def ask(self, ctx: Context[Count]) -> Pending:
        return ctx.send("counter/c", "counter.add", {"by": 5}, after=timedelta(minutes=5))

    @after("counter.add")
    def answered(self, out: Outcome[int], ctx: Context[Count]) -> str:
        return f"got {out.value}"


async def receipt(world: World, key: str) -> Receipt:
    found = await world.partitions.receipt(JOB, key)
    assert found is not None
    return found


def record_of(world: World, kind: str) -> dict[str, Any]:
    (record,) = [r for r in world.records("job/a") if any(entry["k"] == kind for entry in r["entries"])]
    return record


@both
async def test_of_a_handled_event_it_says_so_and_refers_to_the_reply(backend: Backend) -> None:
    async with World(Job(), backend=backend) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.run()
        found = await receipt(world, sent.event.key)
        record = record_of(world, "event.handled")
        assert (found.status, found.attempt) == (Status.HANDLED, 1)
        assert (found.turn, found.seq) == (record["turn"], record["seq"])
        assert found.request == sent.event.request_hash
        _, payloads = await world.partitions.record(JOB, found.seq) or (b"", [])
        assert found.reply is not None and payloads[found.reply].data == b'"done x"'
        rows = await world.partitions.rows(JOB, Kind.RECEIPT)
        assert [row.key for row in rows] == [f"i{sent.event.key}"]


@both
async def test_of_a_failed_event_it_is_open_for_the_next_attempt(backend: Backend) -> None:
    async with World(Job(ValueError("no")), backend=backend) as world:
        key = await world.send("job/a", "job.do", "x")
        found = await receipt(world, key)
        assert (found.status, found.attempt) == (Status.OPEN, 2)
        assert found.turn == record_of(world, "event.failed")["turn"]
        answer = world.receipt("job/a", key)
        assert answer is not None and answer.ended is Ended.RETRY and not answer.final
        await world.advance(timedelta(minutes=1))
        found = await receipt(world, key)
        assert (found.status, found.attempt) == (Status.HANDLED, 2)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("an exception that can't even say what it is")


FAILURES = {
    "a lone surrogate": ValueError("no such file: \udcff"),
    "a control character": ValueError("\0\x1b[31m"),
    "very much": ValueError("x" * 3_000_000),
    "nothing at all": Mute(),
    "a cancelled task": asyncio.CancelledError(),
    "a group": ExceptionGroup("two", [ValueError("1"), ValueError("2")]),
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
async def test_whatever_a_failure_says_its_receipt_is_written(error: Exception) -> None:
    async with World(Job(error)) as world:
        no_circles(world)
        key = await world.send("job/a", "job.do", "x")
        found = await receipt(world, key)
        assert (found.status, found.attempt) == (Status.OPEN, 2)
        assert len(world.entries("job/a", "event.failed")) == 1
        await world.advance(timedelta(minutes=1))
        assert handled(world, "job/a")


@both
@pytest.mark.parametrize("why", ["rejected", "max_attempts"])
async def test_of_a_dead_event_it_says_why(backend: Backend, why: str) -> None:
    fails = [Reject("never")] if why == "rejected" else [ValueError("no")] * 9
    async with World(Job(*fails), backend=backend) as world:
        key = await world.send("job/a", "job.do", "x")
        await world.advance(timedelta(hours=1))
        found = await receipt(world, key)
        assert (found.status, found.reason) == (Status.DEAD, why)
        assert found.attempt == (1 if why == "rejected" else 4)
        assert found.turn == record_of(world, "event.dead_lettered")["turn"]


async def test_of_an_expired_event_it_is_discarded() -> None:
    async with World(Job()) as world:
        event = from_cloudevent(
            {
                "specversion": "1.0",
                "id": "e",
                "source": "test",
                "type": "job.do",
                "expirytime": "2026-01-01T00:00:00Z",
            }
        )
        key = await world.event(event, to="job/a")
        found = await receipt(world, key)
        assert (found.status, found.reason) == (Status.DISCARDED, "expired")
        assert world.entries("job/a", "event.expired")[0]["event"] == "e"


class _Never:
    async def decide(self, request: Any) -> Any:
        raise RuntimeError("no gate")


async def test_of_a_denied_event_it_is_discarded() -> None:
    async with World(Job(), gate=_Never()) as world:
        key = await world.send("job/a", "job.do", "x")
        found = await receipt(world, key)
        assert (found.status, found.reason) == (Status.DISCARDED, "denied")


@both
async def test_it_stays_open_until_the_answer_is_there(backend: Backend) -> None:
    async with World(Job(), Counter, backend=backend) as world:
        key = await world.send("job/a", "job.ask")
        found = await receipt(world, key)
        assert (found.status, found.attempt, found.reply) == (Status.OPEN, 1, None)
        await world.advance(timedelta(minutes=6))
        found = await receipt(world, key)
        assert found.status is Status.HANDLED
        answer = world.receipt("job/a", key)
        assert answer is not None and answer.value == b'"got 5"'


# ------------------------------------------------------------------------------------------------------- lower attempts


@both
async def test_an_earlier_attempt_than_the_receipts_is_a_duplicate(backend: Backend) -> None:
    job = Job(ValueError("1"), ValueError("2"), Retry("3", after=timedelta(days=1)))
    async with World(job, backend=backend) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.advance(timedelta(hours=1))
        assert (job.count, (await receipt(world, sent.event.key)).attempt) == (3, 4)
        for attempt in (1, 2, 3, 1):
            await world.post(sent.again(attempt=attempt, due=None))
            await world.run()
        assert job.count == 3
        await world.advance(timedelta(days=1))
        assert (job.count, handled(world, "job/a")) == (4, ["e"])


@both
async def test_so_it_is_when_the_head_has_forgotten_it(backend: Backend) -> None:
    job = Job(Retry("1", after=timedelta(days=1)))
    async with World(job, backend=backend) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.run()
        for n in range(40):
            await world.post(envelope("job/a", "job.do", n, id=f"n{n}", at=world))
        await world.run()
        runs = world.state("job/a")["runs"]
        await world.post(sent)
        await world.run()
        assert world.state("job/a")["runs"] == runs == 40
        assert len(world.entries("job/a", "event.failed")) == 1
        await world.advance(timedelta(days=1))
        assert world.state("job/a")["runs"] == 41


@both
@pytest.mark.parametrize("attempt", [1, 2, 3])
async def test_after_the_end_every_attempt_is_a_duplicate(backend: Backend, attempt: int) -> None:
    async with World(Job(), backend=backend) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.run()
        await world.post(sent.again(attempt=attempt, due=None))
        await world.run()
        assert world.state("job/a")["runs"] == 1


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_dead_event_does_not_come_back_by_itself(attempt: int) -> None:
    job = Job(Reject("never"))
    async with World(job) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.run()
        await world.post(sent.again(attempt=attempt, due=None))
        await world.run()
        assert job.count == 1
        assert len(world.dead_letters("job/a")) == 1


async def test_a_retry_that_was_sent_twice_is_handled_once() -> None:
    job = Job(Retry("1", after=timedelta(minutes=5)))
    async with World(job) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.run()
        again = sent.again(attempt=2, due=None)
        await world.post(again, again)
        await world.run()
        await world.advance(timedelta(hours=1))
        assert (job.count, world.state("job/a")["runs"]) == (2, 1)


async def test_an_earlier_attempt_than_a_redrive_is_a_duplicate() -> None:
    job = Job(Reject("never"))
    async with World(job) as world:
        sent = envelope("job/a", "job.do", "x", at=world)
        await world.post(sent)
        await world.run()
        await world.command("job/a", "aos.suspend")
        await world.command("job/a", "aos.dead_letter.redrive", {"key": sent.event.key})
        await world.post(sent, sent)
        await world.run()
        await world.command("job/a", "aos.resume")
        await world.run()
        assert world.state("job/a")["runs"] == 1
        found = await receipt(world, sent.event.key)
        assert (found.status, found.attempt) == (Status.HANDLED, 2)


# ----------------------------------------------------------------------------------------------------- under all faults


@both
async def test_every_event_has_its_receipt_whatever_dies(backend: Backend) -> None:
    job = Job()

    async def scenario(world: World) -> None:
        no_circles(world, 20_000)
        job.fails[:] = [ValueError("no")]
        job.count = 0
        await world.post(
            envelope("job/a", "job.do", "fails", id="1", at=world),
            envelope("job/a", "job.do", "goes well", id="2", at=world),
            envelope("job/a", "job.do", "goes too deep", id="3", at=world, hops=99),
        )
        await world.advance(timedelta(minutes=5))
        rows = await world.partitions.rows(JOB, Kind.RECEIPT)
        found = sorted(Receipt.decode(row.body).status.value for row in rows)
        assert found == ["dead", "handled", "handled"]
        assert reasons(world, "job/a") == ["too_many_hops"]
        assert world.state("job/a")["runs"] == 2

    if backend == "memory":
        await sweep(scenario, job, processes=2)
    else:
        await sweep(scenario, job, backend=backend, each=1)
