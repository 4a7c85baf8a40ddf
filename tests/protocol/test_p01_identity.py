"""P1: what an event is, what is only its envelope, and ids that never grow."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import timedelta
from typing import Any

import pytest

from aos.kernel.address import Address
from aos.kernel.agent import Agent, Outcome, Pending, after, on
from aos.kernel.context import Context
from aos.kernel.errors import InvalidEvent
from aos.kernel.event import Event, from_cloudevent, new_event
from aos.kernel.message import Actor, Message, ReplyTo, decode, encode
from aos.kernel.ports import Kind, Parcel
from aos.testing import World, sweep
from tests.protocol.agents import Add, Backend, Count, Counter, both, envelope, handled, no_circles, reasons

ID = "A234-1234-1234"


def test_the_key_is_the_sha256_of_source_line_feed_id() -> None:
    event = new_event(ID, "/sensors/1", "t.x", {"n": 1})
    assert event.key == hashlib.sha256(b"/sensors/1\nA234-1234-1234").hexdigest()
    assert event.key == new_event(ID, "/sensors/1", "other.type", "other data").key


@pytest.mark.parametrize("name", ["id", "source"])
@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\x85b", "\ud800", ""])
def test_no_two_pairs_of_source_and_id_have_one_key(name: str, text: str) -> None:
    parts = {"specversion": "1.0", "id": "i", "source": "s", "type": "t", name: text}
    with pytest.raises(InvalidEvent, match=name):
        from_cloudevent(parts)


def test_an_event_can_not_be_changed() -> None:
    value: dict[str, Any] = {
        "specversion": "1.0",
        "id": "1",
        "source": "s",
        "type": "t",
        "data": {"n": [1]},
        "ext": "x",
    }
    event = from_cloudevent(value)
    for field in dataclasses.fields(Event):
        with pytest.raises(AttributeError):
            setattr(event, field.name, None)
    event.data["n"].append(2)
    assert event.data == {"n": [1]}
    with pytest.raises(TypeError):
        event.extensions["ext"] = "changed"  # type: ignore[index]


async def test_what_a_handler_does_to_its_event_does_not_reach_the_next_attempt() -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []

    class Rude(Agent[Count]):
        @on("rude.go")
        def go(self, data: dict[str, Any], ctx: Context[Count]) -> None:
            assert ctx.event is not None
            seen.append((dict(data), dict(ctx.event.extensions)))
            data["n"] = 2
            extensions: Any = ctx.event.extensions
            extensions["trick"] = "changed"
            raise ValueError("again")

    event = dataclasses.replace(new_event("1", "test", "rude.go", {"n": 1}), extensions={"trick": "as sent"})
    async with World(Rude) as world:
        await world.event(event, to="rude/a")
        await world.advance(timedelta(hours=1))
    assert seen == [({"n": 1}, {"trick": "as sent"})] * 5


# --------------------------------------------------------------------------------------------------------- the envelope


@pytest.mark.parametrize(
    "other",
    [
        {"hops": 9},
        {"sent_at": 5},
        {"traceparent": "00-1-2-01"},
        {"reply_to": ReplyTo(Address.parse("counter/z"), "call")},
        {"actor": Actor("user", "eve", "oidc")},
        {"correlation": "c", "causation": "d"},
        {"deferred": 3},
        {"due": 7},
        {"attempt": 2},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_an_event_in_another_envelope_is_the_same_event(other: dict[str, Any]) -> None:
    async with World(Counter) as world:
        message = envelope("counter/a", "counter.add", {"by": 1}, at=world)
        await world.post(message)
        await world.run()
        await world.post(dataclasses.replace(message, **other))
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert reasons(world, "counter/a") == []
        assert len(handled(world, "counter/a")) == 1


def test_an_envelope_comes_back_from_its_bytes_as_it_was() -> None:
    event = from_cloudevent(
        {
            "specversion": "1.0",
            "id": "ä\u2028",
            "source": "s",
            "type": "t",
            "time": "2026-01-01T00:00:00Z",
            "subject": "x",
            "datacontenttype": "application/json",
            "dataschema": "d",
            "expirytime": "2027-01-01T00:00:00Z",
            "data": {"text": "line\nfeed", "n": 10**30},
            "ext": True,
        }
    )
    message = Message(
        to=Address.parse("counter/a"),
        event=event,
        attempt=3,
        hops=2,
        token="t:name",
        reply_to=ReplyTo(Address.parse("x/y"), "c"),
        sent_at=1,
        due=2,
        deferred=1,
        actor=Actor("user", "eve", "oidc"),
        correlation="a",
        causation="b",
        traceparent="c",
    )
    assert decode(encode(message)) == message


def test_the_bus_message_id_is_key_and_attempt() -> None:
    message = envelope("counter/a", "counter.add")
    key = message.event.key
    assert message.parcel().id == f"{key}.1"
    again = message.again(attempt=2, due=99)
    assert again.parcel().id == again.again(attempt=2, due=None).parcel().id == f"{key}.2"
    put_off = message.put_off(99).parcel().id
    assert put_off.startswith(f"{key}.1") and put_off != message.parcel().id, "or duplicate detection would eat it"


# ---------------------------------------------------------------------------------------------------- the time it is of


class Late(Agent[Count], max_attempts=9):
    """Of no type that is known: it is put off until its time of sending is too long ago."""

    @on("late.timer")
    def timer(self, ctx: Context[Count]) -> None:
        ctx.schedule("late.unknown", key="k", after=timedelta(days=2))


async def test_putting_an_event_off_does_not_renew_the_time_it_was_sent() -> None:
    async with World(Late) as world:
        await world.post(envelope("late/a", "late.unknown", at=world))
        await world.advance(timedelta(minutes=14))
        assert reasons(world, "late/a") == []
        await world.advance(timedelta(minutes=3))
        assert reasons(world, "late/a") == ["unknown_type"]


async def test_a_timer_is_of_the_time_at_which_it_is_due() -> None:
    async with World(Late) as world:
        await world.send("late/a", "late.timer")
        await world.advance(timedelta(days=2, minutes=14))
        assert reasons(world, "late/a") == []
        await world.advance(timedelta(minutes=3))
        assert reasons(world, "late/a") == ["unknown_type"]
        (letter,) = world.dead_letters("late/a")
        assert letter.message.sent_at == world.clock.now() - timedelta(minutes=17) // timedelta(milliseconds=1)


async def test_a_retry_is_of_the_time_of_its_first_attempt() -> None:
    class Flaky(Agent[Count], max_attempts=4):
        @on("flaky.go")
        def go(self) -> None:
            raise ValueError("no")

    async with World(Flaky) as world:
        sent = world.clock.now()
        await world.send("flaky/a", "flaky.go")
        await world.advance(timedelta(hours=1))
        (letter,) = world.dead_letters("flaky/a")
        assert (letter.message.attempt, letter.message.sent_at) == (4, sent)
        await world.command("flaky/a", "aos.dead_letter.redrive", {"key": letter.message.event.key})
        await world.advance(timedelta(hours=1))
        (letter,) = world.dead_letters("flaky/a")
        assert (letter.message.attempt, letter.message.sent_at) == (5, sent)


async def test_the_trace_goes_with_the_event_and_what_it_causes() -> None:
    class Relay(Agent[Count]):
        @on("relay.go")
        def go(self, ctx: Context[Count]) -> None:
            ctx.send("counter/b", "counter.add", Add(by=1))

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = dataclasses.replace(new_event("1", "test", "relay.go"), extensions={"traceparent": trace})
    async with World(Relay, Counter) as world:
        await world.event(event, to="relay/a")
        found = [world.entries(agent, "event.handled")[-1] for agent in ("relay/a", "counter/b")]
        assert [trace in entry.values() for entry in found] == [True, True]


# ------------------------------------------------------------------------------------------------------- ids never grow


class Nest(Agent[Count]):
    """Everything by which one event gives rise to another, nested."""

    @on("nest.go")
    def go(self, data: int, ctx: Context[Count]) -> None:
        if data:
            kind = data % 4
            if kind == 0:
                ctx.send("nest/b", "nest.go", data - 1)
            elif kind == 1:
                ctx.send(ctx.me, "nest.go", data - 1, after=timedelta(seconds=1))
            elif kind == 2:
                ctx.schedule("nest.go", data - 1, key="k", after=timedelta(seconds=1))
            else:
                ctx.send("nest/c", "nest.ask", data - 1)

    @on("nest.ask")
    def ask(self, data: int, ctx: Context[Count]) -> Pending:
        return ctx.send("nest/d", "nest.answer", data)

    @on("nest.answer")
    def answer(self, data: int) -> int:
        return data

    @after("nest.ask")
    def answered(self, out: Outcome[int], ctx: Context[Count]) -> None:
        assert out.value is not None
        ctx.send(ctx.me, "nest.go", out.value)


async def longest(depth: int) -> dict[str, int]:
    """How long ids and row keys got in a nest of that depth."""
    found: dict[str, int] = {}
    async with World(Nest) as world:
        no_circles(world, 50_000)
        await world.send("nest/a", "nest.go", depth)
        await world.advance(timedelta(minutes=30))
        runs = 0
        for agent in await world.partitions.store.agents():
            for kind in Kind:
                for row in await world.partitions.rows(agent, kind):
                    found["row"] = max(found.get("row", 0), len(row.key))
            for entry in world.entries(agent):
                runs += entry["k"] == "event.handled"
                for name in ("event", "key", "cause", "corr"):
                    if name in entry:
                        found[name] = max(found.get(name, 0), len(entry[name]))
        assert runs > depth
    return found


async def test_nested_ids_never_grow() -> None:
    assert await longest(60) == await longest(8)


async def test_ids_of_what_the_kernel_makes_are_fixed_length_hashes() -> None:
    async with World(Nest) as world:
        await world.send("nest/a", "nest.go", 4)
        sent = world.entries("nest/a", "message.sent")
        assert sent
        assert all(len(entry["event"]) == 64 and int(entry["event"], 16) for entry in sent)


class Sender(Agent[Count]):
    @on("sender.go")
    def go(self, ctx: Context[Count]) -> None:
        for _ in range(3):
            ctx.send("counter/b", "counter.add", Add(by=1))
        ctx.schedule("sender.later", key="k", after=timedelta(hours=1))

    @on("sender.later")
    def later(self, ctx: Context[Count]) -> None:
        ctx.state.runs += 1
        ctx.send("counter/b", "counter.add", Add(by=10))


@both
async def test_messages_keep_their_ids_however_often_the_turn_is_run(backend: Backend) -> None:
    """Ids follow from the event, not from the run: what is sent again is known again."""

    async def scenario(world: World) -> None:
        await world.send("sender/a", "sender.go", id="go")
        await world.advance(timedelta(hours=2))
        assert world.state("counter/b")["total"] == 13
        assert len(world.history("counter/b")) == 4
        assert world.state("sender/a")["runs"] == 1

    if backend == "memory":
        await sweep(scenario, Sender, Counter, processes=2)
    else:
        await sweep(scenario, Sender, Counter, backend=backend, each=1)


async def test_parcels_of_one_attempt_have_one_id_over_all_re_sends() -> None:
    parcels: list[Parcel] = []
    async with World(Sender, Counter, hostile=True) as world:
        note = world.note_due

        def watch(parcel: Parcel) -> None:
            parcels.append(parcel)
            note(parcel)

        world.note_due = watch  # type: ignore[method-assign]
        await world.crash()
        await world.send("sender/a", "sender.go", id="go")
        await world.advance(timedelta(hours=2))
        assert world.state("counter/b")["total"] == 13
    ids = {parcel.id for parcel in parcels}
    assert len(parcels) > len(ids) == 1 + 3 + 1 + 1
    for parcel in parcels:
        message = decode(parcel.body)
        assert parcel.id == f"{message.event.key}.{message.attempt}"
        assert parcel.session == message.to.log
