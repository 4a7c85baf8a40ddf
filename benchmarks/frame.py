"""What every benchmark shares: a Measure, percentiles, the table, the JSON."""

from __future__ import annotations

import math
import operator
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

HERE = Path(__file__).parent
LONE = "bare transaction, p50"
GROUPED = "bare transactions, 64 a commit"
_FLOOR_OF = {"ms": LONE, "/s": GROUPED}
_BOUNDS: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Measure:
    """One figure. `budget` is a bound such as "<= 0.3" or ">= 8000", in the unit of the value.

    `floor` names the measure it is divided by; None chooses by unit (ms: LONE, /s: GROUPED), "" is for
    figures that have no floor, such as a lag or a memory size.
    """

    name: str
    value: float
    unit: str
    budget: str | None = None
    note: str = ""
    floor: str | None = None

    def __post_init__(self) -> None:
        if self.budget is not None:
            _bound(self.budget)

    @property
    def within(self) -> bool | None:
        """Whether the budget is kept; None without a budget."""
        if self.budget is None:
            return None
        holds, limit = _bound(self.budget)
        return holds(self.value, limit)

    def ratio(self, floors: Mapping[str, float]) -> float | None:
        """How many times dearer than the floor: 1.0 is the floor, for times and for rates alike."""
        floor = floors.get(_FLOOR_OF.get(self.unit, "") if self.floor is None else self.floor)
        if not floor or not self.value:
            return None
        return floor / self.value if self.unit == "/s" else self.value / floor


def _bound(budget: str) -> tuple[Callable[[float, float], bool], float]:
    sign, _, limit = budget.partition(" ")
    try:
        return _BOUNDS[sign], float(limit)
    except (KeyError, ValueError):
        raise ValueError(f"a budget reads '<= 0.3' or '>= 8000', not {budget!r}") from None


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least `q` percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q / 100 * len(ordered)) - 1)]


def samples(action: Callable[[int], object], count: int) -> list[float]:
    """Milliseconds of each call of action(0), action(1), ... action(count - 1)."""
    times = []
    for n in range(count):
        start = time.perf_counter()
        action(n)
        times.append((time.perf_counter() - start) * 1000)
    return times


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, removed afterwards, on the disk of the checkout: the same for all that is compared."""
    home = HERE / ".scratch"
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        yield Path(folder)


def machine() -> dict[str, object]:
    """What a figure depends on besides the code."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def rows(measures: Mapping[str, Sequence[Measure]]) -> list[dict[str, object]]:
    """The measures of each benchmark as JSON objects, with their ratio to the floor and their verdict."""
    floors = {m.name: m.value for m in measures["floor"]}
    return [
        {"benchmark": benchmark, **asdict(m), "ratio": m.ratio(floors), "within": m.within}
        for benchmark, group in measures.items()
        for m in group
    ]


def table(measures: Mapping[str, Sequence[Measure]]) -> str:
    """The measures as aligned text, one block a benchmark."""
    floors = {m.name: m.value for m in measures["floor"]}
    head = ("", "value", "unit", "x floor", "budget", "", "note")
    blocks = [[_cells(m, floors) for m in group] for group in measures.values()]
    width = [max(map(len, column)) for column in zip(head, *chain.from_iterable(blocks), strict=True)]
    lines = [_line(head, width)]
    for benchmark, block in zip(measures, blocks, strict=True):
        lines += ["", benchmark, *(_line(cells, width) for cells in block)]
    return "\n".join(lines)


def figure(value: float) -> str:
    """A value with the digits worth reading."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cells(m: Measure, floors: Mapping[str, float]) -> tuple[str, ...]:
    ratio = m.ratio(floors)
    verdict = {None: "", True: "ok", False: "OVER"}[m.within]
    times = "" if ratio is None else f"{ratio:.2f}"
    return ("  " + m.name, figure(m.value), m.unit, times, m.budget or "", verdict, m.note)


def _line(cells: Sequence[str], width: Sequence[int]) -> str:
    align = (str.ljust, str.rjust, str.ljust, str.rjust, str.ljust, str.ljust, str.ljust)
    return "  ".join(put(cell, w) for put, cell, w in zip(align, cells, width, strict=True)).rstrip()
