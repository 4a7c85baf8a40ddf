"""An agent that counts, and goes on counting when it is started again."""

import asyncio

from pydantic import BaseModel

from aos import Agent, AgentOperatingSystem, Context, Query, on, query


class Count(BaseModel):
    total: int = 0


class Add(BaseModel):
    by: int


class Counter(Agent[Count]):
    @on("counter.add")
    def add(self, data: Add, ctx: Context[Count]) -> int:
        ctx.state.total += data.by
        return ctx.state.total

    @query
    def total(self, ctx: Query[Count]) -> int:
        return ctx.state.total


async def main() -> None:
    async with AgentOperatingSystem(agents=[Counter]) as aos:
        print("counter/a is at", await aos.ask("counter/a", "counter.add", Add(by=1)))


if __name__ == "__main__":
    asyncio.run(main())
