"""What you test your own agents with: a world with a clock that you move and crashes that you choose.

    async with World(Counter, hostile=True) as world:
        assert await world.ask("counter/a", "counter.add", Add(by=1)) == 1
        await world.advance(timedelta(days=2))
        world.verify()

Works in plain pytest, without a server and without waiting. No production module imports this package.
"""

from aos.testing.clock import ManualClock, SeededEntropy
from aos.testing.faults import Boundary, Crash, Fault, FaultPoint
from aos.testing.sweep import Sweep, sweep
from aos.testing.world import Answer, World

__all__ = [
    "Answer",
    "Boundary",
    "Crash",
    "Fault",
    "FaultPoint",
    "ManualClock",
    "SeededEntropy",
    "Sweep",
    "World",
    "sweep",
]
