"""Exports out of a store: the exact bytes, in order, and all or nothing."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import pytest

from aos.audit import all_agents, export
from aos.kernel import exported, layout, ledger
from aos.kernel.address import Address
from aos.kernel.errors import StoreUnavailable
from aos.testing import World
from tests.ledger.desk import DESK, Desk, audit, put, replace, row, work

TURNS = 5


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with World(Desk, backend=request.param) as world:
        await work(world, TURNS)
        yield world


@pytest.fixture
async def desk() -> AsyncIterator[World]:
    async with World(Desk) as world:
        await work(world, TURNS)
        yield world


async def written(world: World, agents: list[Address] | None = None) -> tuple[io.BytesIO, io.BytesIO]:
    records, payloads = io.BytesIO(), io.BytesIO()
    await export(world.partitions.store, world.partitions.blobs, agents, records, payloads)
    records.seek(0)
    payloads.seek(0)
    return records, payloads


async def test_an_export_verifies(world: World) -> None:
    other = Address.of("desk", "0")
    await work(world, 2, other)
    await world.command(DESK, "aos.erase", {"first": 0, "last": 1})
    results = list(exported.verify(*await written(world)))
    assert [(r.log, r.exit, r.records) for r in results] == [(other.log, 0, 2), (DESK.log, 0, TURNS + 1)]
    assert results[1].head == (await audit(world)).head
    assert results[1].erased == 4, "history is not in an export"


async def test_an_export_of_chosen_agents_is_in_order(world: World) -> None:
    agents = [Address.of("desk", key) for key in ("c", "a", "b")]
    for agent in agents:
        await work(world, 1, agent)
    records, payloads = await written(world, agents)
    assert [json.loads(line)["log"][-1] for line in records.getvalue().splitlines()] == ["a"] * 6 + ["b", "c"]
    assert all(r.exit == 0 for r in exported.verify(records, payloads))


async def test_an_export_holds_the_exact_bytes(desk: World) -> None:
    records, _ = await written(desk)
    lines = records.getvalue().splitlines()
    for n, line in enumerate(lines):
        assert ledger.unpack((await row(desk, layout.record(n))).body)[0] == line


async def test_a_tampered_store_is_exported_as_it_is(desk: World) -> None:
    await replace(desk, layout.record(2), b'{"by":1', b'{"by":2')
    (result,) = exported.verify(*await written(desk))
    assert (result.exit, result.bad and result.bad.seq) == (1, 2)


async def test_what_can_not_be_read_is_not_exported_by_halves(desk: World) -> None:
    await put(desk, layout.record(2), b"@nowhere")
    with pytest.raises(StoreUnavailable, match=r"desk/a: record 0+2 can't be read"):
        await written(desk)


async def test_all_agents_page_by_page(desk: World) -> None:
    found = [agent async for agent in all_agents(desk.partitions.store)]
    assert found == [DESK]
