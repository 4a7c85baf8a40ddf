"""The suite that every store passes: each sentence of `Store` and `Blobs` in `aos.kernel.ports`, as a check.

    await check_store(factory)                              all of it, or
    @pytest.mark.parametrize("check", CHECKS)               one test a check

`Comparison` is for generated sequences: every step goes to the store and to a model, and both must agree.
"""

from __future__ import annotations

from typing import Final

from aos.storage.conformance import blobs, lists, rows, turns
from aos.storage.conformance.model import Comparison, Fate, Pick
from aos.storage.conformance.place import Check, Factory

CHECKS: Final[tuple[Check, ...]] = (*turns.CHECKS, *rows.CHECKS, *lists.CHECKS, *blobs.CHECKS)
"""In order from plain to strange. Each opens a fresh store and closes it."""


async def check_store(factory: Factory) -> None:
    """Run every check. The first `AssertionError` names the rule that does not hold."""
    for check in CHECKS:
        await check(factory)


__all__ = ["CHECKS", "Check", "Comparison", "Factory", "Fate", "Pick", "check_store"]
