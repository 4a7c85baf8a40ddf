"""Generated sequences on a store and on a model: stale versions, duplicates, lost answers, crash and reopen."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aos.kernel.address import Address
from aos.kernel.ports import IndexRow, Kind, Verb, Write
from aos.storage.conformance import Comparison, Factory, Fate, Pick
from tests.storage.places import MemoryFactory, SqliteFactory

AGENTS = st.sampled_from([Address.of("a", "1"), Address.of("a", "12"), Address.of("a", "1", "t")])
KINDS = st.sampled_from([Kind.OUTBOX, Kind.RECORD, Kind.RECEIPT, Kind.JOURNAL])
SUFFIXES = st.sampled_from(["", "0", "00", "1", "\uffef", "😀"])
BODIES = st.sampled_from([b"", b"x", b"y"])
WRITES = st.lists(
    st.builds(Write, st.sampled_from(Verb), st.builds("".join, st.tuples(KINDS, SUFFIXES)), BODIES),
    max_size=6,
    unique_by=lambda write: (write.key, write.verb is Verb.EXPECT),
)
INDEX_ROWS = st.builds(
    IndexRow, st.sampled_from(["l", "l|m"]), SUFFIXES.filter(bool), st.integers(0, 4), st.none() | BODIES
)
NAMES = st.builds("{}/{}".format, st.sampled_from(["a", "ab"]), SUFFIXES)


class Sequences(RuleBasedStateMachine):
    """One run: a fresh store and whatever Hypothesis thinks of."""

    def __init__(self, factory: Factory) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._both = Comparison(factory)

    @initialize()
    def open(self) -> None:
        self._runner.run(self._both.open())

    @rule(
        agent=AGENTS,
        pick=st.sampled_from([Pick.CURRENT, Pick.CURRENT, *Pick]),
        writes=WRITES,
        head=st.booleans(),
        fate=st.sampled_from([Fate.ANSWERED, *Fate]),
    )
    def commit(self, agent: Address, pick: Pick, writes: list[Write], head: bool, fate: Fate) -> None:
        self._runner.run(self._both.commit(agent, pick, writes, head=head, fate=fate))

    @rule(
        agent=AGENTS,
        kind=KINDS,
        span=st.tuples(SUFFIXES, st.none() | SUFFIXES),
        limit=st.integers(1, 4),
        reverse=st.booleans(),
    )
    def read(self, agent: Address, kind: Kind, span: tuple[str, str | None], limit: int, reverse: bool) -> None:
        self._runner.run(self._both.read(agent, kind, *span, limit, reverse=reverse))

    @rule(rows=st.lists(INDEX_ROWS, max_size=3))
    def index_put(self, rows: list[IndexRow]) -> None:
        self._runner.run(self._both.index_put(rows))

    @rule(name=NAMES, data=BODIES)
    def blob_put(self, name: str, data: bytes) -> None:
        self._runner.run(self._both.blob_put(name, data))

    @rule(name=NAMES)
    def blob_delete(self, name: str) -> None:
        self._runner.run(self._both.blob_delete(name))

    @rule()
    def crash(self) -> None:
        self._runner.run(self._both.crash())

    @invariant()
    def both_hold_the_same(self) -> None:
        self._runner.run(self._both.compare())

    def teardown(self) -> None:
        self._runner.run(self._both.factory.close())
        self._runner.close()


def run(factory: Callable[[], Factory], examples: int) -> None:
    class Machine(Sequences):
        def __init__(self) -> None:
            super().__init__(factory())

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_memory() -> None:
    run(MemoryFactory, 60)


def test_sqlite(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(lambda: SqliteFactory(tmp_path / str(next(numbers))), 25)


@pytest.mark.slow
def test_sqlite_for_longer(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(lambda: SqliteFactory(tmp_path / str(next(numbers))), 200)
