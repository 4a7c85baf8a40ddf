"""A worker process: `python -m tests.hosts.child HOME`. Says `ready`, then works until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from pydantic import BaseModel

from aos import Agent, AgentOperatingSystem, Context, on
from aos.hosts.worker import serve


class Count(BaseModel):
    total: int = 0
    by: dict[str, int] = {}


class Counter(Agent[Count], type="counter"):
    @on("count")
    async def count(self, data: int, ctx: Context[Count]) -> int:
        await asyncio.sleep(0)
        ctx.state.total += data
        ctx.state.by[str(os.getpid())] = ctx.state.by.get(str(os.getpid()), 0) + 1
        return ctx.state.total

    @on("slowly")
    async def slowly(self, data: float, ctx: Context[Count]) -> int:
        print("begun", flush=True)
        await asyncio.sleep(data)
        ctx.state.total += 1
        return ctx.state.total

    @on("blocking")
    def blocking(self, data: float, ctx: Context[Count]) -> None:
        print("begun", flush=True)
        time.sleep(data)
        ctx.state.total += 1


async def main(home: str) -> None:
    async with AgentOperatingSystem([Counter], home=home) as aos:
        print("ready", flush=True)
        await serve(aos, sessions=4)
    print("ended", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
