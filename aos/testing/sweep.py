"""The sweep: a scenario run once for every passage of every fault point, in a world of its own each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aos.kernel.agent import Agent
from aos.testing.faults import Fault, FaultPoint
from aos.testing.world import World


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was injected, for the test to look at."""

    faults: tuple[Fault, ...]
    missing: frozenset[FaultPoint]
    """Points that the scenario never passes."""


async def sweep(
    scenario: Callable[[World], Awaitable[None]],
    *types: Agent[Any] | type[Agent[Any]],
    agents: Callable[[], Agent[Any] | Sequence[Agent[Any]]] | None = None,
    points: Iterable[FaultPoint] = tuple(FaultPoint),
    each: int = 3,
    **options: Any,
) -> Sweep:
    """Run the scenario without a fault to see what it passes, then again with a fault at each of the first `each`
    passages of each point. A fault that never fires is an error; so is a world that can't be verified afterwards.
    `agents` makes new agents for each world, where they hold something that must not be shared."""

    def fresh() -> Sequence[Agent[Any] | type[Agent[Any]]]:
        made = agents() if agents is not None else ()
        return (*types, *(made if isinstance(made, Sequence) else (made,)))

    async with World(*fresh(), **options) as world:
        await scenario(world)
        world.verify()
        passed = dict(world.faults.passed)
    wanted = tuple(points)
    faults = tuple(Fault(point, n) for point in wanted for n in range(1, min(each, passed.get(point, 0)) + 1))
    for fault in faults:
        async with World(*fresh(), fault=fault, **options) as world:
            try:
                await scenario(world)
                world.verify()
            except BaseException as error:
                error.add_note(f"with the fault {fault}")
                raise
    return Sweep(faults, frozenset(point for point in wanted if not passed.get(point)))
