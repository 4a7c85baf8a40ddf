"""python -m benchmarks: measures everything in one run, prints the table, writes the JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import floor, peer
from benchmarks.frame import GROUPED, HERE, LONE, Measure, figure, machine, rows, table

Run = Callable[[bool], list[Measure]]
LATEST = HERE / "results" / "latest.json"


def benchmarks() -> dict[str, Run]:
    """All but the floor, by name: AOS's own (`aos_*.py`, function `run`) first, then the peers."""
    ours: dict[str, Run] = {path.stem: partial(_ours, path.stem) for path in sorted(HERE.glob("aos_*.py"))}
    return ours | {name: partial(peer.run, name) for name in peer.names()}


def _ours(name: str, quick: bool) -> list[Measure]:
    measures: list[Measure] = importlib.import_module(f"benchmarks.{name}").run(quick)
    return measures


def middle(floors: Sequence[Sequence[Measure]]) -> list[Measure]:
    """The floor of the whole run: of each measure the median, and how far it moved meanwhile."""
    merged = []
    for same in zip(*floors, strict=True):
        values = [m.value for m in same]
        note = f"{figure(min(values))} to {figure(max(values))} during the run"
        merged.append(Measure(same[0].name, median(values), same[0].unit, note=note))
    return merged


def measure(chosen: dict[str, Run], quick: bool) -> tuple[dict[str, list[Measure]], list[str]]:
    """The measures by benchmark, the floor first, and the names of the benchmarks that failed."""
    floors = [floor.run(quick)]
    measured: dict[str, list[Measure]] = {}
    for name, run in chosen.items():
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            measured[name] = run(quick)
        except peer.PeerFailed as error:
            print(error, file=sys.stderr)
        except Exception:
            traceback.print_exc()
        floors.append(floor.run(quick))
    return {"floor": middle(floors)} | measured, [name for name in chosen if name not in measured]


def main() -> int:
    known = benchmarks()
    parser = argparse.ArgumentParser("python -m benchmarks", description="The floor is always measured.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--only", action="append", choices=["floor", *known], help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="smaller counts, not to be quoted")
    options = parser.parse_args()
    chosen = {name: run for name, run in known.items() if not options.only or name in options.only}

    about = machine() | {"quick": options.quick}
    measures, failed = measure(chosen, options.quick)
    document = json.dumps({"machine": about, "failed": failed, "measures": rows(measures)}, indent=2) + "\n"
    LATEST.parent.mkdir(exist_ok=True)
    for path in filter(None, [LATEST, options.json]):
        path.write_text(document)

    print("; ".join(f"{key} {value}" for key, value in about.items()))
    print(f"x floor: how many times dearer than '{LONE}' (ms) or '{GROUPED}' (/s)\n")
    print(table(measures))
    for name in failed:
        print(f"\n{name}: FAILED, see above")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
