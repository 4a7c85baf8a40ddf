"""P4: the same source and id with another type or other data is another event, and never passes for the first one."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from aos.app import AgentOperatingSystem
from aos.kernel.errors import IdReused, UnknownEventType
from aos.kernel.event import from_cloudevent, new_event
from aos.kernel.message import Actor
from aos.messaging.memory import MemoryBroker, MemoryBus
from aos.storage.memory import MemoryBlobs, MemoryStore
from aos.testing import Fault, FaultPoint, ManualClock, World, sweep
from tests.protocol.agents import Add, Backend, Counter, Desk, both, envelope, handled, internal, no_circles, reasons

OTHERS = {"other data": ("counter.add", {"by": 2}), "other type": ("counter.other", {"by": 1})}
others = pytest.mark.parametrize(("type", "data"), OTHERS.values(), ids=OTHERS)
OPERATOR = Actor("user", "op", "test")


async def first(world: World, id: str = "e") -> str:
    await world.post(envelope("counter/a", "counter.add", {"by": 1}, id=id, at=world))
    await world.run()
    return world.state("counter/a")["total"]


@both
@others
async def test_on_the_bus_it_is_a_dead_letter(backend: Backend, type: str, data: Any) -> None:
    async with World(Counter, backend=backend) as world:
        await first(world)
        await world.post(envelope("counter/a", type, data, at=world))
        await world.run()
        assert reasons(world, "counter/a") == ["id_reused"]
        assert world.state("counter/a") == {"total": 1, "runs": 0}


@both
@others
async def test_so_it_is_long_afterwards(backend: Backend, type: str, data: Any) -> None:
    """When the head has forgotten the key the receipt still knows."""
    async with World(Counter, backend=backend) as world:
        await first(world)
        for n in range(40):
            await world.post(envelope("counter/a", "counter.add", {"by": 0}, id=f"n{n}", at=world))
        await world.run()
        await world.post(envelope("counter/a", type, data, at=world))
        await world.run()
        assert reasons(world, "counter/a") == ["id_reused"]
        assert world.state("counter/a") == {"total": 1, "runs": 0}


@both
async def test_so_it_is_within_one_batch(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        await world.post(
            envelope("counter/a", "counter.add", {"by": 1}, at=world),
            envelope("counter/a", "counter.add", {"by": 2}, at=world),
            envelope("counter/a", "counter.add", {"by": 1}, at=world),
        )
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert reasons(world, "counter/a") == ["id_reused"]


@others
async def test_an_ask_is_told_and_leaves_no_trace(type: str, data: Any) -> None:
    async with World(Counter) as world:
        await first(world)
        records = len(world.records("counter/a"))
        with pytest.raises(IdReused, match="'e'"):
            await world.ask("counter/a", type, data, id="e")
        assert reasons(world, "counter/a") == []
        assert len(world.records("counter/a")) == records


@both
async def test_an_ask_is_told_long_afterwards_too(backend: Backend) -> None:
    async with World(Counter, backend=backend) as world:
        await first(world)
        for n in range(40):
            await world.ask("counter/a", "counter.add", Add(by=0), id=f"n{n}")
        with pytest.raises(IdReused):
            await world.ask("counter/a", "counter.add", Add(by=2), id="e")
        assert world.state("counter/a")["total"] == 1


async def test_the_way_in_of_the_system_says_so_when_it_runs_the_event() -> None:
    async with AgentOperatingSystem([Counter], **parts()) as system:
        event = new_event("e", "test", "counter.add", {"by": 1})
        event = dataclasses.replace(event, extensions={"agent": "counter/a"})
        await system.process_event(event, direct=True)
        with pytest.raises(IdReused):
            await system.process_event(dataclasses.replace(event, body=b'{"by":2}'), direct=True)


def parts() -> dict[str, Any]:
    clock = ManualClock()
    bus = MemoryBus(MemoryBroker(clock))
    return {"store": MemoryStore(), "blobs": MemoryBlobs(), "bus": bus, "clock": clock}


async def test_the_first_event_keeps_its_receipt_and_its_reply() -> None:
    async with World(Counter) as world:
        await first(world)
        answer = world.ask("counter/a", "counter.add", {"by": 1}, id="e")
        assert await answer == 1
        await world.post(envelope("counter/a", "counter.add", {"by": 2}, at=world))
        await world.run()
        again = world.ask("counter/a", "counter.add", {"by": 1}, id="e")
        assert await again == 1


async def test_the_same_event_said_otherwise_is_the_same_event() -> None:
    """What belongs to the producer (time, subject, extensions) is neither type nor data."""
    async with World(Counter) as world:
        value = {"specversion": "1.0", "id": "e", "source": "test", "type": "counter.add", "data": {"by": 1}}
        await world.event(from_cloudevent(value), to="counter/a")
        await world.event(from_cloudevent({**value, "subject": "s", "ext": 1}), to="counter/a")
        assert reasons(world, "counter/a") == []
        assert len(handled(world, "counter/a")) == 1


async def test_keys_of_data_in_another_order_are_the_same_data() -> None:
    async with World(Counter) as world:
        for data in ({"by": 1, "x": 2}, {"x": 2, "by": 1}):
            await world.send("counter/a", "counter.add", data, id="e")
        assert reasons(world, "counter/a") == []
        assert world.state("counter/a")["total"] == 1


async def test_bytes_are_other_data_than_the_text_of_their_base64() -> None:
    async with World(Counter) as world:
        value = {"specversion": "1.0", "id": "e", "source": "test", "type": "counter.other"}
        await world.event(from_cloudevent({**value, "data": "aGk="}), to="counter/a")
        await world.event(from_cloudevent({**value, "data_base64": "aGk="}), to="counter/a")
        assert reasons(world, "counter/a") == ["id_reused"]


# ------------------------------------------------------------------------------------------------- under all the faults


@both
async def test_each_other_event_under_the_id_is_kept_whatever_dies(backend: Backend) -> None:
    async def scenario(world: World) -> None:
        no_circles(world, 20_000)
        await first(world)
        await world.post(envelope("counter/a", "counter.add", {"by": 2}, at=world))
        await world.run()
        assert world.state("counter/a")["total"] == 1
        assert [(x.reason, x.message.event.data) for x in world.dead_letters("counter/a")] == [("id_reused", {"by": 2})]

    if backend == "memory":
        await sweep(scenario, Counter, processes=2)
    else:
        await sweep(scenario, Counter, backend=backend, each=1)


@both
async def test_a_lost_commit_does_not_lose_it(backend: Backend) -> None:
    point = FaultPoint.COMMIT_LOST if backend == "memory" else FaultPoint.SETTLE_LOST
    async with World(Counter, backend=backend, fault=Fault(point, 2)) as world:
        await first(world)
        await world.post(envelope("counter/a", "counter.add", {"by": 2}, at=world))
        await world.run()
        assert reasons(world, "counter/a") == ["id_reused"]


async def test_redelivered_it_is_one_dead_letter_and_another_one_is_another() -> None:
    async with World(Counter, hostile=True) as world:
        no_circles(world)
        await first(world)
        for by in (2, 2, 3, 2, 3):
            await world.post(envelope("counter/a", "counter.add", {"by": by}, at=world))
            await world.run()
        assert sorted(letter.message.event.data["by"] for letter in world.dead_letters("counter/a")) == [2, 3]
        world.verify()


async def test_beside_an_effect_that_aborts_the_turn_it_is_kept() -> None:
    """Two events of one batch: the dead letter is drafted, then the other event's turn has to start again."""
    async with World(Counter, fault=Fault(FaultPoint.COMMIT_LOST, 2), processes=2) as world:
        await first(world)
        await world.post(
            envelope("counter/a", "counter.add", {"by": 2}, at=world),
            envelope("counter/a", "counter.add", {"by": 10}, id="f", at=world),
        )
        await world.run()
        assert world.state("counter/a")["total"] == 11
        assert reasons(world, "counter/a") == ["id_reused"]


# ------------------------------------------------------------------------------------------------------------- commands


async def test_a_command_under_the_id_of_another_one_is_not_swallowed() -> None:
    async with World(Counter) as world:
        await first(world)
        await world.command("counter/a", "aos.suspend", id="c")
        with pytest.raises(IdReused):
            await world.command("counter/a", "aos.resume", id="c")
        assert world.life("counter/a") == "suspended"
        await world.command("counter/a", "aos.resume", id="d")
        assert world.life("counter/a") == "active"


async def test_on_the_bus_neither() -> None:
    async with World(Counter) as world:
        await first(world)
        await world.post(internal("counter/a", "aos.suspend", id="c", actor=OPERATOR, at=world))
        await world.run()
        await world.post(internal("counter/a", "aos.resume", id="c", actor=OPERATOR, at=world))
        await world.run()
        assert world.life("counter/a") == "suspended"
        assert reasons(world, "counter/a") == ["id_reused"]


# --------------------------------------------------------------------------------------------- beside others in a batch


async def test_a_refused_ask_leaves_no_trace_beside_one_that_sends() -> None:
    """Two asks in one batch: the copy that a turn puts on the bus before it commits is of an event that it holds."""
    async with AgentOperatingSystem([Counter, Desk], **parts()) as system:
        bus: Any = system.dispatcher.kernel.bus
        await system.ask("desk/a", "desk.note", id="e")
        refused, told = await asyncio.gather(
            system.ask("desk/a", "desk.none", id="x"),
            system.ask("desk/a", "desk.tell", "counter/b", id="f"),
            return_exceptions=True,
        )
        assert isinstance(refused, UnknownEventType)
        assert told == "told"
        reused, told = await asyncio.gather(
            system.ask("desk/a", "desk.tell", "counter/c", id="e"),
            system.ask("desk/a", "desk.tell", "counter/b", id="g"),
            return_exceptions=True,
        )
        assert isinstance(reused, IdReused)
        clock: Any = system.clock
        clock.move_to(clock.now() + 3_600_000)
        left = [delivery.parcel.body for s in await bus.accept(10) for delivery in await s.receive(100)]
        assert not [body for body in left if b"desk.none" in body or b"counter/c" in body], "refused, yet on the bus"
