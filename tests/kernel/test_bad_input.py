"""Bad input gets an error that names what is wrong, and nothing is lost or half done."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from aos import Agent, AskFailed, Context, on
from aos.ingress import external_message, read_event
from aos.kernel.address import Address
from aos.kernel.errors import (
    AgentTerminated,
    EventTooLarge,
    IdReused,
    InvalidAddress,
    InvalidEvent,
    ReservedName,
    UnknownAgentType,
    UnknownEventType,
)
from aos.testing import World


class Box(BaseModel):
    total: int = Field(0, ge=0)
    anything: Any = None
    text: str = ""


class Put(BaseModel):
    by: int


class Keeper(Agent[Box], type="keeper", timeout=timedelta(milliseconds=30), max_attempts=2):
    @on("put", key="data.keeper")
    def put(self, data: Put, ctx: Context[Box]) -> int:
        ctx.state.total += data.by
        return ctx.state.total

    @on("object")
    def object(self, ctx: Context[Box]) -> None:
        ctx.state.anything = object()

    @on("mistyped")
    def mistyped(self, ctx: Context[Box]) -> None:
        ctx.state.total = "many"  # type: ignore[assignment]  # what a careless handler does

    @on("unloadable")
    def unloadable(self, ctx: Context[Box]) -> None:
        ctx.state.total = -1

    @on("huge")
    def huge(self, data: int, ctx: Context[Box]) -> None:
        ctx.state.text = "x" * data

    @on("never")
    async def never(self) -> None:
        await asyncio.Event().wait()

    @on("replies.object")
    def replies_object(self) -> Any:
        return object()

    @on("circle")
    def circle(self, ctx: Context[Box]) -> None:
        ctx.state.total += 1
        ctx.send("keeper/b" if ctx.me.key == "a" else "keeper/a", "circle")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "malformed JSON"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("[" * 100_000, "malformed JSON"),
        ('{"specversion": "0.3", "id": "1"}', "specversion"),
        ('{"specversion": "1.0", "source": "s", "type": "put"}', "'id'"),
        ('{"specversion": "1.0", "id": "1", "source": "s", "type": "p t"}', "type 'p t'"),
        ('{"specversion": "1.0", "id": "1", "source": "s", "type": "put", "time": "noon"}', "'time'"),
        ('{"specversion": "1.0", "id": "1", "source": "s", "type": "put", "data": 1, "data_base64": ""}', "both data"),
        ('{"specversion": "1.0", "id": "1", "source": "s", "type": "put", "data_base64": "%"}', "not base64"),
        ('{"specversion": "1.0", "id": "1\\n2", "source": "s", "type": "put"}', "control character"),
        ('{"no": "type"}', "'type'"),
    ],
)
def test_what_is_no_event_is_refused_with_what_is_wrong(line: str, wrong: str) -> None:
    with pytest.raises(InvalidEvent, match=wrong):
        read_event(line, source="test")


def test_an_event_over_a_megabyte_is_refused() -> None:
    with pytest.raises(EventTooLarge, match="1,048,576"):
        read_event('{"type": "put", "text": "' + "x" * 1_100_000 + '"}', source="test")
    with pytest.raises(EventTooLarge):
        read_event('"' + "x" * 3_000_000 + '"', source="test", label="put")


@pytest.mark.parametrize(
    "key", ["", "a/b", "a\\b", "a#b", "a?b", "a|b", "a%2Fb", "a\nb", " a", "a ", "e\u0301", "x" * 120, "\ud800"]
)
def test_forbidden_addresses_are_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidAddress):
        Address.of("keeper", key)


@pytest.mark.parametrize("type", ["", "Keeper", "9keeper", "kee per", "k" * 65])
def test_forbidden_type_names_are_refused(type: str) -> None:
    with pytest.raises(InvalidAddress, match="does not match"):
        Address.of(type, "a")


async def test_what_nobody_handles_is_said_at_once() -> None:
    async with World(Keeper) as world:
        for agent, event, error in (
            ("nobody/a", "put", UnknownAgentType),
            ("keeper/a", "no.such", UnknownEventType),
            ("keeper/a", "aos.terminate", ReservedName),
        ):
            with pytest.raises(error):
                world.ask(agent, event)
        with pytest.raises(InvalidEvent, match=r"data\.keeper"):
            external_message(world.registry, read_event('{"type": "put", "by": 1}', source="t"), 0)
        assert world.state("keeper/a") is None


async def test_data_of_the_wrong_shape_is_a_dead_letter_that_names_the_field() -> None:
    async with World(Keeper) as world:
        with pytest.raises(AskFailed, match="invalid_data"):
            await world.ask("keeper/a", "put", {"by": "much"})
        (letter,) = world.dead_letters("keeper/a")
        assert "by: Input should be a valid integer" in letter.error
        assert "much" not in letter.error, "the value may be a secret"
        world.verify()


@pytest.mark.parametrize("event", ["object", "mistyped", "unloadable"])
async def test_a_state_that_can_not_be_kept_is_never_committed(event: str) -> None:
    async with World(Keeper) as world:
        await world.ask("keeper/a", "put", {"by": 2})
        with pytest.raises(AskFailed, match="not_serialisable"):
            await world.ask("keeper/a", event)
        assert await world.ask("keeper/a", "put", {"by": 3}) == 5
        world.verify()


async def test_a_reply_that_is_not_json_is_a_dead_letter() -> None:
    async with World(Keeper) as world:
        with pytest.raises(AskFailed, match="not_serialisable"):
            await world.ask("keeper/a", "replies.object")


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_a_state_may_be_large_but_not_without_bound(backend: Any) -> None:
    async with World(Keeper, backend=backend) as world:
        await world.ask("keeper/a", "huge", 3_000_000)
        with pytest.raises(AskFailed, match="rejected"):
            await world.ask("keeper/a", "huge", 5 * 1024 * 1024)
        (letter,) = world.dead_letters("keeper/a")
        assert "the limit is 4,194,304; keep what grows in rows or history" in letter.error
        assert len(world.state("keeper/a")["text"]) == 3_000_000
        world.verify()


async def test_a_handler_that_never_returns_is_stopped_and_tried_again_and_given_up() -> None:
    async with World(Keeper) as world:
        await world.send("keeper/a", "never")
        await world.advance(timedelta(minutes=5))
        (letter,) = world.dead_letters("keeper/a")
        assert (letter.reason, letter.message.attempt) == ("max_attempts", 2)
        assert "did not end in time" in letter.error


async def test_a_circle_of_sends_ends_visibly() -> None:
    async with World(Keeper) as world:
        await world.send("keeper/a", "circle")
        letters = world.dead_letters("keeper/a") + world.dead_letters("keeper/b")
        assert [letter.reason for letter in letters] == ["too_many_hops"]
        assert world.state("keeper/a")["total"] + world.state("keeper/b")["total"] == 65


async def test_an_id_used_for_something_else_and_a_terminated_agent_are_told_apart() -> None:
    async with World(Keeper) as world:
        await world.ask("keeper/a", "put", {"by": 1}, id="one")
        with pytest.raises(IdReused):
            await world.ask("keeper/a", "put", {"by": 2}, id="one")
        await world.command("keeper/a", "aos.terminate")
        with pytest.raises(AgentTerminated):
            await world.ask("keeper/a", "put", {"by": 1})
        await world.send("keeper/a", "put", {"by": 1}, id="late")
        assert [letter.reason for letter in world.dead_letters("keeper/a")] == ["terminated"]
