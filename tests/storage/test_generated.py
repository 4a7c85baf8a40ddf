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

# Few of everything, so that steps meet.
AGENTS = st.sampled_from([Address.of("a", "1"), Address.of("a", "12")])
KINDS = st.sampled_from([Kind.OUTBOX, Kind.JOURNAL])
SUFFIXES = st.sampled_from(["", "0", "00", "\uffef", "😀"])
BODIES = st.sampled_from([b"", b"x", b"y"])
VERBS = st.sampled_from([Verb.PUT, Verb.PUT, Verb.INSERT, Verb.INSERT, Verb.DELETE, Verb.EXPECT])
WRITES = st.lists(
    st.builds(Write, VERBS, st.builds("".join, st.tuples(KINDS, SUFFIXES)), BODIES),
    min_size=1,
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

    @rule(agent=AGENTS, pick=st.sampled_from([Pick.CURRENT, *Pick]), writes=WRITES, fate=st.sampled_from(Fate))
    def commit(self, agent: Address, pick: Pick, writes: list[Write], fate: Fate) -> None:
        self._runner.run(self._both.commit(agent, pick, writes, fate=fate))

    @rule(agent=AGENTS, writes=WRITES, fate=st.sampled_from([Fate.ANSWERED, *Fate]))
    def journal(self, agent: Address, writes: list[Write], fate: Fate) -> None:
        self._runner.run(self._both.commit(agent, Pick.CURRENT, writes, head=False, fate=fate))

    @rule(agent=AGENTS, rows=st.dictionaries(SUFFIXES, BODIES, min_size=2), kind=KINDS)
    def put_rows(self, agent: Address, rows: dict[str, bytes], kind: Kind) -> None:
        writes = [Write(Verb.PUT, kind + suffix, body) for suffix, body in rows.items()]
        self._runner.run(self._both.commit(agent, Pick.CURRENT, writes))

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

    @rule(name=NAMES, data=st.none() | BODIES)
    def blob(self, name: str, data: bytes | None) -> None:
        step = self._both.blob_delete(name) if data is None else self._both.blob_put(name, data)
        self._runner.run(step)

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
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_memory() -> None:
    run(MemoryFactory, 150)


def test_sqlite(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(lambda: SqliteFactory(tmp_path / str(next(numbers))), 50)


@pytest.mark.slow
def test_sqlite_for_longer(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(lambda: SqliteFactory(tmp_path / str(next(numbers))), 200)
