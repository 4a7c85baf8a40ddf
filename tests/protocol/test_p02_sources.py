"""P2: who may say that an event comes from an agent, and who may send what is internal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aos.app import AgentOperatingSystem
from aos.ingress import external_message, read_event
from aos.kernel.agent import Agent, on
from aos.kernel.context import Context
from aos.kernel.errors import InvalidEvent, RegistrationError, ReservedName
from aos.kernel.event import Event, new_event
from aos.kernel.message import Actor, Message, encode
from aos.kernel.ports import Parcel
from aos.messaging.memory import MemoryBroker, MemoryBus
from aos.storage.memory import MemoryBlobs, MemoryStore
from aos.testing import ManualClock, World
from tests.protocol.agents import Add, Count, Counter, envelope, handled, internal, reasons

INTERNAL = ["aos.suspend", "aos.erase", "aos.call.done", "aos.cron.daily", "task.done", "run.started", "approval.given"]
DESK = Actor("agent", "default/desk/1", "kernel")
STRANGER = Actor("agent", "default/stranger/1", "kernel")


class Desk(Agent[Count]):
    """Handles an internal type that only tasks and itself may send."""

    @on("task.done", senders=("task", "desk"))
    def done(self, ctx: Context[Count]) -> None:
        ctx.state.total += 1

    @on("desk.tell")
    def tell(self, data: dict[str, str], ctx: Context[Count]) -> None:
        ctx.send(data["to"], data["type"], {"by": 1})

    @on("desk.later")
    def later(self, data: dict[str, Any], ctx: Context[Count]) -> None:
        ctx.schedule(data["type"], data.get("data", {}), key="k", after=timedelta(seconds=1))

    @on("desk.publish")
    def publish(self, data: dict[str, str], ctx: Context[Count]) -> None:
        ctx.publish("news", data["type"], {})

    @on("desk.work")
    def work(self, ctx: Context[Count]) -> int:
        ctx.state.runs += 1
        return ctx.state.runs


# --------------------------------------------------------------------------------------------------------- from outside


@pytest.mark.parametrize("source", ["aos:", "aos:default/counter/a", "aos:operator", "aos:schedules"])
async def test_a_source_of_the_kernels_own_is_refused(source: str) -> None:
    async with World(Counter) as world:
        with pytest.raises(ReservedName, match="source"):
            await world.event(new_event("1", source, "counter.add", {}), to="counter/a")
        assert world.state("counter/a") is None, "nothing was written"


@pytest.mark.parametrize("type", INTERNAL)
async def test_a_type_of_the_kernels_own_is_refused(type: str) -> None:
    async with World(Counter, Desk) as world:
        with pytest.raises(ReservedName, match="internal"):
            await world.event(new_event("1", "s", type, {}), to="desk/a")
        with pytest.raises(ReservedName):
            await world.send("desk/a", type, {})
        with pytest.raises(ReservedName):
            world.ask("desk/a", type, {})
        await world.run()
        assert world.life("desk/a") is None


@pytest.mark.parametrize("direct", [True, False])
async def test_the_way_in_of_the_system_refuses_them_too(direct: bool) -> None:
    clock = ManualClock()
    bus = MemoryBus(MemoryBroker(clock))
    parts: dict[str, Any] = {"store": MemoryStore(), "blobs": MemoryBlobs(), "bus": bus, "clock": clock}
    async with AgentOperatingSystem([Counter], **parts) as system:
        with pytest.raises(ReservedName):
            await system.process_event(new_event("1", "aos:default/counter/a", "counter.add", {}), direct=direct)
        with pytest.raises(ReservedName):
            await system.process_event(new_event("1", "s", "aos.terminate", {}), direct=direct)
        with pytest.raises(ReservedName):
            await system.send("counter/a", "task.start")


async def test_what_comes_from_outside_says_so_in_the_record() -> None:
    async with World(Counter) as world:
        await world.event(new_event("1", "https://shop.example", "counter.add", {}), to="counter/a")
        (entry,) = world.entries("counter/a", "event.handled")
        assert entry["source"] == "https://shop.example"
        assert entry["actor"] == {"type": "external", "id": "https://shop.example", "auth": "none"}


async def test_what_an_agent_sends_bears_its_name_set_by_the_kernel() -> None:
    async with World(Desk, Counter) as world:
        await world.send("desk/a", "desk.tell", {"to": "counter/b", "type": "counter.add"})
        (entry,) = world.entries("counter/b", "event.handled")
        assert entry["source"] == "aos:default/desk/a"
        assert entry["actor"] == {"type": "agent", "id": "default/desk/a", "auth": "kernel"}


def test_an_envelope_that_comes_in_as_an_event_is_data_and_nothing_more() -> None:
    """Attempt, hops, actor and source are taken from the agents' queue alone."""
    forged = Message(
        to=envelope("counter/a", "x.y").to,
        event=Event(id="1", source="aos:default/desk/1", type="aos.suspend"),
        attempt=9,
        actor=Actor("user", "root", "oidc"),
    )
    line, _, _ = encode(forged).partition(b"\n")
    with pytest.raises(InvalidEvent):
        read_event(encode(forged), source="queue")
    event = read_event(line, source="queue", label="counter.add")
    assert (event.source, event.type, event.data["attempt"]) == ("queue", "counter.add", 9)
    with pytest.raises(ReservedName):
        external_message(World(Counter).registry, read_event(line, source="queue"), 0, None, forged.to)


async def test_what_is_no_envelope_on_the_agents_queue_becomes_a_dead_letter() -> None:
    class Garbage:
        def parcel(self) -> Parcel:
            return Parcel("g.1", "default/counter/a", b'{"by": "hand"}')

    garbage: Any = Garbage()
    async with World(Counter) as world:
        await world.post(garbage, envelope("counter/a", "counter.add", Add().model_dump(), at=world))
        await world.advance(timedelta(hours=1))
        assert world.state("counter/a")["total"] == 1, "it stops nobody"
        (letter,) = world.dead_letters("counter/a")
        assert "hand" in letter.message.event.data["body"]


# ---------------------------------------------------------------------------------------------------------- from agents


@pytest.mark.parametrize("type", INTERNAL)
async def test_an_agent_can_not_send_an_internal_type(type: str) -> None:
    async with World(Desk, Counter) as world:
        await world.send("counter/b", "counter.add", Add())
        await world.send("desk/a", "desk.tell", {"to": "counter/b", "type": type})
        assert reasons(world, "desk/a") == ["rejected"]
        assert world.life("counter/b") == "active"
        assert len(handled(world, "counter/b")) == 1


@pytest.mark.parametrize("type", INTERNAL)
async def test_an_agent_can_not_set_a_timer_of_an_internal_type(type: str) -> None:
    """Not to itself either: it could suspend itself, erase its own record, or answer its own calls."""
    async with World(Desk) as world:
        await world.send("desk/a", "desk.work")
        data = {"type": type, "data": {"first": 0, "last": 9, "call": "c", "value": 1}}
        await world.send("desk/a", "desk.later", data)
        await world.advance(timedelta(hours=1))
        assert reasons(world, "desk/a") == ["rejected"]
        assert world.life("desk/a") == "active"
        assert world.entries("desk/a", "erased", "agent.suspended") == []
        world.verify()


@pytest.mark.parametrize("type", ["aos.suspend", "task.done"])
async def test_an_internal_type_is_not_published(type: str) -> None:
    async with World(Desk) as world:
        await world.send("desk/b", "desk.work")
        await world.send("topic/news", "topic.subscribe", {"agent": "desk/b"})
        await world.send("desk/a", "desk.publish", {"type": type})
        await world.advance(timedelta(hours=1))
        assert world.life("desk/b") == "active"
        assert len(handled(world, "desk/b")) == 1
        assert reasons(world, "desk/a") + reasons(world, "topic/news") == ["rejected"]


async def test_an_internal_type_is_not_scheduled_by_an_operator() -> None:
    async with World(Desk) as world:
        await world.send("desk/b", "desk.work")
        schedule = {"cron": "* * * * *", "agent": "desk/b", "type": "aos.terminate"}
        await world.send("schedule/s", "schedule.set", schedule)
        await world.advance(timedelta(minutes=3))
        assert world.life("desk/b") == "active"
        assert "rejected" in reasons(world, "schedule/s")


# ------------------------------------------------------------------------------------------------------- internal types


@pytest.mark.parametrize("type", ["task.done", "run.x", "approval.x", "aos.something"])
def test_a_handler_of_an_internal_type_names_its_senders(type: str) -> None:
    class Open(Agent[Count]):
        @on(type)
        def go(self) -> None: ...

    with pytest.raises(RegistrationError, match=r"senders="):
        World(Open)


async def test_only_the_named_agent_types_may_send_it() -> None:
    async with World(Desk) as world:
        await world.post(
            internal("desk/a", "task.done", id="1", actor=DESK, at=world),
            internal("desk/a", "task.done", id="2", actor=STRANGER, at=world),
            internal("desk/a", "task.done", id="3", actor=Actor("external", "desk", "none"), at=world),
            internal("desk/a", "task.done", id="4", actor=Actor("user", "default/desk/1", "oidc"), at=world),
        )
        await world.run()
        assert handled(world, "desk/a") == ["1"]
        assert reasons(world, "desk/a") == ["forbidden_sender"] * 3


@pytest.mark.parametrize("type", ["aos.suspend", "aos.terminate", "aos.erase", "aos.dead_letter.discard"])
async def test_a_command_from_another_agent_is_refused(type: str) -> None:
    async with World(Desk) as world:
        await world.send("desk/a", "desk.work")
        await world.post(internal("desk/a", type, {"first": 0, "last": 0}, actor=STRANGER, at=world))
        await world.run()
        assert world.life("desk/a") == "active"
        assert reasons(world, "desk/a") == ["refused"]
