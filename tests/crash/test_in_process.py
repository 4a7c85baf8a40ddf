"""Every fault point x every kind of event, in process: the world must come out right, and prove it."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from aos.testing import FaultPoint, World, sweep
from tests.crash.kinds import KINDS, ListWitness, Worker


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("backend", "settle_together", "processes"),
    [
        ("memory", False, 1),
        ("memory", False, 2),
        pytest.param("sqlite", True, 1, marks=pytest.mark.slow),
        pytest.param("sqlite", False, 1, marks=pytest.mark.slow),
    ],
)
async def test_a_fault_at_every_point_of_every_kind(
    kind: str, backend: Literal["memory", "sqlite"], settle_together: bool, processes: int
) -> None:
    witnesses: list[ListWitness] = []

    def agents() -> Any:
        witnesses.append(ListWitness())
        return Worker(witnesses[-1])

    async def scenario(world: World) -> None:
        await KINDS[kind](world, witnesses[-1])

    result = await sweep(scenario, agents=agents, backend=backend, settle_together=settle_together, processes=processes)
    assert len(result.faults) > 10


async def test_together_the_kinds_pass_every_fault_point() -> None:
    passed: set[FaultPoint] = set()
    for together in (True, False):
        for kind in KINDS.values():
            async with World(Worker(witness := ListWitness()), backend="sqlite", settle_together=together) as world:
                await kind(world, witness)
                passed |= set(world.faults.passed)
    assert passed == set(FaultPoint)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_hostile_worlds(kind: str, backend: Literal["memory", "sqlite"]) -> None:
    async with World(Worker(witness := ListWitness()), backend=backend, hostile=True, processes=2) as world:
        await KINDS[kind](world, witness)
        world.verify()
    assert world.crashes or world.faults.fired
