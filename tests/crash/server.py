"""Runs one scenario in a child process of its own, and kills it there: `python -m tests.crash.server` reads cases as
JSON lines and answers each with a line. It imports everything once and forks, because a start takes a second and a
sweep takes hundreds of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from aos.testing import Fault, FaultPoint, World
from tests.crash.kinds import KINDS, FileWitness, Worker


def kill(_: FaultPoint) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def scenario(case: dict[str, Any]) -> dict[str, int]:
    """Run it, to the end or to the fault; how often each point was passed."""
    witness = FileWitness(Path(case["witness"]))
    fault = Fault(FaultPoint[case["point"]], case["nth"]) if case.get("point") else None
    options: dict[str, Any] = {"settle_together": case["together"], "seed": case["seed"], "fault": fault, "die": kill}
    async with World(Worker(witness), backend="sqlite", path=Path(case["path"]), **options) as world:
        await KINDS[case["kind"]](world, witness)
        world.verify()
        return {point.name: n for point, n in world.faults.passed.items()}


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Fork, run, wait: `{"killed": bool}` or `{"passed": …}` or `{"error": …}`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            answer: dict[str, Any] = {"passed": asyncio.run(scenario(case))}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"killed": os.WTERMSIG(status) == signal.SIGKILL}
    return json.loads(said)


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
