"""LangGraph on AsyncSqliteSaver: a graph of one node that counts. Arguments: a folder, quick or full."""

import asyncio
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Literal, TypedDict

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

Durability = Literal["async", "sync"]
LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
RUNS = 5


class Count(TypedDict, total=False):
    total: int
    until: int


class Bench:
    def __init__(self, saver: AsyncSqliteSaver, steps: int) -> None:
        self.steps = steps
        graph = StateGraph(Count)
        graph.add_node("count", self.count)
        graph.add_edge(START, "count")
        graph.add_conditional_edges("count", self.on, ["count", END])
        self.graph = graph.compile(checkpointer=saver)

    async def count(self, state: Count) -> dict[str, int]:
        return {"total": state["total"] + 1}

    def on(self, state: Count) -> str:
        return "count" if state["total"] < state["until"] else END

    async def event(self, durability: Durability) -> list[float]:
        """A turn's equivalent: a thread that exists is given an input, loaded, run for one node, saved."""
        config: RunnableConfig = {"configurable": {"thread_id": f"events-{durability}"}}
        await self.graph.ainvoke({"total": 0, "until": 0}, config, durability=durability)
        times = []
        for _ in range(self.steps):
            start = time.perf_counter()
            await self.graph.ainvoke({"until": 0}, config, durability=durability)
            times.append(time.perf_counter() - start)
        total = (await self.graph.aget_state(config)).values["total"]
        assert total == self.steps + 1, total
        return times

    async def node(self, durability: Durability) -> list[float]:
        """A node of long runs: a run's time by its nodes, as what is written behind them counts too."""
        times = []
        for run in range(RUNS):
            nodes = self.steps // RUNS
            config: RunnableConfig = {
                "configurable": {"thread_id": f"run-{durability}-{run}"},
                "recursion_limit": nodes + 2,
            }
            start = time.perf_counter()
            done = await self.graph.ainvoke({"total": 0, "until": nodes}, config, durability=durability)
            times.append((time.perf_counter() - start) / nodes)
            assert done["total"] == nodes, done
        return times


def measure(name: str, times: list[float], note: str) -> dict[str, object]:
    tail = f"; p99 {quantiles(times, n=100)[98] * 1000:.2f} ms" if len(times) >= 100 else ""
    return {"name": name, "value": median(times) * 1000, "unit": "ms", "note": note + tail}


async def main(folder: Path, steps: int) -> list[dict[str, object]]:
    measures = []
    async with aiosqlite.connect(folder / "langgraph.db") as connection:
        saver = AsyncSqliteSaver(connection)
        await saver.setup()
        [(level,)] = await connection.execute_fetchall("PRAGMA synchronous")
        bench = Bench(saver, steps)
        node = f"a node of a run of {steps // RUNS}"
        default = f"{version('langgraph')}, its defaults: WAL, {LEVELS[level]}, durability=async"
        measures += [
            measure("an event: ainvoke of one node, p50", await bench.event("async"), default),
            measure(node, await bench.node("async"), default),
        ]
        await connection.execute("PRAGMA synchronous=FULL")
        like = "WAL, FULL, durability=sync"
        measures += [
            measure("an event, durable one by one, p50", await bench.event("sync"), like),
            measure(f"{node}, durable one by one", await bench.node("sync"), like),
        ]
    return measures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), 200 if sys.argv[2] == "quick" else 1_000))))
