"""Every bus does what the contract says."""

from __future__ import annotations

from pathlib import Path

import pytest

from aos.messaging.conformance import CHECKS, Check, run
from tests.messaging.benches import EmbeddedBench, MemoryBench, SharedFileBench

checks = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@checks
async def test_memory(check: Check) -> None:
    async with MemoryBench() as bench:
        await check(bench)


@checks
async def test_embedded(check: Check, tmp_path: Path) -> None:
    async with EmbeddedBench(tmp_path / "aos.db") as bench:
        await check(bench)


@checks
async def test_embedded_in_one_process(check: Check, tmp_path: Path) -> None:
    async with SharedFileBench(tmp_path / "aos.db") as bench:
        await check(bench)


async def test_runs_without_a_test_framework() -> None:
    await run(MemoryBench)
