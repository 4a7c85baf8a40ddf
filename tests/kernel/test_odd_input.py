"""What nobody sends on purpose: refused or kept, never run as something else."""

from __future__ import annotations

from typing import Any

import pytest

from aos import Agent, AskFailed, Context, on
from aos.kernel.address import Address
from aos.kernel.errors import InvalidEvent
from aos.kernel.event import new_event
from aos.kernel.message import Message
from aos.kernel.ports import Delivery
from aos.testing import World


class Echo(Agent, type="echo"):
    @on("echo.say")
    def say(self, data: str) -> str:
        return data

    @on("echo.odd")
    def odd(self, data: str, ctx: Context[Any]) -> None:
        ctx.send("echo/b", data)


class Machine:
    def effect(self, name: str) -> None: ...


class Workshop(Agent, type="workshop"):
    @on("run")
    def run(self, ctx: Context[Any]) -> None:
        Machine().effect("boom")


@pytest.mark.parametrize("bounds", [(10**30, 10**30), (5, 9), (-1, 2), (3, 1)])
async def test_bounds_that_no_ledger_has_are_refused(bounds: tuple[int, int]) -> None:
    async with World(Echo) as world:
        await world.ask("echo/a", "echo.say", "x")
        with pytest.raises(InvalidEvent):
            await world.command("echo/a", "aos.erase", {"first": bounds[0], "last": bounds[1]})
        world.verify()


async def test_an_envelope_in_another_agents_session_is_kept_and_not_run() -> None:
    async with World(Echo) as world:
        message = Message(to=Address.parse("echo/b"), event=new_event("1", "test", "echo.say", "x"))
        parcel = message.parcel()._replace(session="default/echo/z")
        process = world._processes[0]  # a broker that mixes sessions up can't be had otherwise
        await process.dispatcher.dispatch(Address.parse("echo/z"), [Delivery(parcel, 1, None)])
        assert [letter.reason for letter in world.dead_letters("echo/z")] == ["unreadable"]
        assert world.state("echo/b") is None


async def test_an_event_type_that_is_none_is_not_sent() -> None:
    async with World(Echo) as world:
        with pytest.raises(AskFailed, match="rejected"):
            await world.ask("echo/a", "echo.odd", "no\nsuch type \x00")


def test_another_objects_method_called_effect_is_none_of_ours() -> None:
    World(Workshop)


async def test_an_address_that_is_none_gives_the_event_up_at_once() -> None:
    class Lost(Agent, type="lost"):
        @on("go")
        def go(self, ctx: Context[Any]) -> None:
            ctx.send("no address", "echo.say")

    async with World(Lost) as world:
        with pytest.raises(AskFailed, match="rejected"):
            await world.ask("lost/a", "go")
        (letter,) = world.dead_letters("lost/a")
        assert (letter.message.attempt, "neither type/key" in letter.error) == (1, True)
