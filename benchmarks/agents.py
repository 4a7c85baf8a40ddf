"""The agent that is measured, and the system that it is measured in."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from aos import Agent, AgentOperatingSystem, Context, on


class Count(BaseModel):
    total: int = 0
    ballast: str = ""


class Counter(Agent[Count], type="counter"):
    """Adds; carries ballast if told to."""

    @on("counter.add")
    def add(self, data: int, ctx: Context[Count]) -> int:
        ctx.state.total += data
        return ctx.state.total

    @on("counter.load")
    def load(self, data: int, ctx: Context[Count]) -> None:
        ctx.state.ballast = "x" * data

    @on("counter.note")
    def note(self, data: int, ctx: Context[Count]) -> None:
        for _ in range(data):
            ctx.append("a measurement of some forty characters….")


def system(folder: Path) -> AgentOperatingSystem:
    return AgentOperatingSystem([Counter], home=folder)
