"""Where a check runs, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Protocol, TypeAlias

from aos.kernel.ports import Blobs, Store


class Factory(Protocol):
    """Opens what is to be checked."""

    @property
    def durable(self) -> bool:
        """Whether anything survives `reopen`. Where not, `reopen` is not called."""
        ...

    async def open(self) -> tuple[Store, Blobs]:
        """A fresh, empty store."""
        ...

    async def reopen(self) -> tuple[Store, Blobs]:
        """The same store as a new process finds it after the old one was killed: without a goodbye."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


Check: TypeAlias = Callable[[Factory], Awaitable[None]]


class Checks(list[Check]):
    """The checks of one file, in the order in which they are written there."""

    def store(self, check: Callable[[Store], Awaitable[None]]) -> Check:
        """A check of a fresh store."""

        @wraps(check)
        async def run(factory: Factory) -> None:
            store, _ = await factory.open()
            try:
                await check(store)
            finally:
                await factory.close()

        self.append(run)
        return run

    def blobs(self, check: Callable[[Blobs], Awaitable[None]]) -> Check:
        """A check of fresh blobs."""

        @wraps(check)
        async def run(factory: Factory) -> None:
            _, blobs = await factory.open()
            try:
                await check(blobs)
            finally:
                await factory.close()

        self.append(run)
        return run

    def crash(self, check: Check) -> Check:
        """A check that reopens; it passes where nothing is promised to survive."""

        @wraps(check)
        async def run(factory: Factory) -> None:
            if not factory.durable:
                return
            try:
                await check(factory)
            finally:
                await factory.close()

        self.append(run)
        return run


def same(found: object, wanted: object, rule: str) -> None:
    """`AssertionError` that cites the rule, also where Python runs without its assert statements."""
    if found != wanted:
        raise AssertionError(f"{rule}: found {_short(found)}, wanted {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"
