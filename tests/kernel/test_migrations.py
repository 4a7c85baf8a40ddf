"""State schema versions: old states are migrated, newer ones wait for newer code, gaps are refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from aos import Agent, Context, migrate, on
from aos.kernel.errors import NewerState, RegistrationError
from aos.testing import World


class Old(BaseModel):
    cents: int = 0


class New(BaseModel):
    amount: int = 0
    currency: str = "EUR"


class OldTill(Agent[Old], type="till"):
    @on("pay")
    def pay(self, data: int, ctx: Context[Old]) -> int:
        ctx.state.cents += data
        return ctx.state.cents


class NewTill(Agent[New], type="till", version=3):
    @staticmethod
    @migrate(1)
    def renamed(state: dict[str, Any]) -> dict[str, Any]:
        return {"amount": state["cents"]}

    @staticmethod
    @migrate(2)
    def with_currency(state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "currency": "CHF"}

    @on("pay")
    def pay(self, data: int, ctx: Context[New]) -> int:
        ctx.state.amount += data
        return ctx.state.amount


async def test_an_old_state_is_migrated_step_by_step_and_that_is_on_record(tmp_path: Path) -> None:
    async with World(OldTill, backend="sqlite", path=tmp_path / "aos.db") as world:
        assert await world.ask("till/a", "pay", 5) == 5
    async with World(NewTill, backend="sqlite", path=tmp_path / "aos.db", seed="new") as world:
        assert await world.ask("till/a", "pay", 2) == 7
        assert world.state("till/a") == {"amount": 7, "currency": "CHF"}
        assert [(e["from"], e["to"]) for e in world.entries("till/a", "state.migrated")] == [(1, 3)]
        world.verify()


async def test_a_newer_state_waits_for_newer_code(tmp_path: Path) -> None:
    async with World(NewTill, backend="sqlite", path=tmp_path / "aos.db") as world:
        await world.ask("till/a", "pay", 5)
    async with World(OldTill, backend="sqlite", path=tmp_path / "aos.db", seed="old") as world:
        with pytest.raises(NewerState, match="version 3, this code knows 1"):
            await world.ask("till/a", "pay", 2)
        await world.send("till/a", "pay", 2, id="sent")
        await world.advance(timedelta(minutes=5))
        assert world.dead_letters("till/a") == []
    async with World(NewTill, backend="sqlite", path=tmp_path / "aos.db", seed="again") as world:
        await world.advance(timedelta(minutes=20))
        assert world.state("till/a")["amount"] == 7


async def test_after_the_deploy_window_it_is_a_dead_letter() -> None:
    async with World(OldTill) as world:
        await world.ask("till/a", "pay", 1)
        world.registry.types["till"] = type(world.registry)(world.registry.calendar).add(NewTill)
        await world.ask("till/a", "pay", 1)
        world.registry.types["till"] = type(world.registry)(world.registry.calendar).add(OldTill)
        await world.send("till/a", "pay", 1)
        await world.advance(timedelta(minutes=14))
        assert world.dead_letters("till/a") == []
        await world.advance(timedelta(minutes=5))
        assert [letter.reason for letter in world.dead_letters("till/a")] == ["newer_schema"]


def test_a_missing_migration_is_refused_when_the_class_is_registered() -> None:
    class Gap(Agent[New], type="gap", version=3):
        @staticmethod
        @migrate(1)
        def first(state: dict[str, Any]) -> dict[str, Any]:
            return state

    with pytest.raises(RegistrationError, match=r"no @migrate\(2\)"):
        World(Gap)
