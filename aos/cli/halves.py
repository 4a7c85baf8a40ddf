"""A big export is verified by two processes, half each: the second takes its first record on trust.

Where its half is whole and fits what the first process finds before it, both together prove what one would have
proved. Otherwise its work is thrown away and the first process goes on, so that there is one place that says what is
wrong.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aos.kernel.exported import Payloads, Walk, payload_of
from aos.kernel.strict import Malformed, Parser, Record
from aos.kernel.verify import Chain, Result

LEAST = 32 * 1024 * 1024
"""Bytes from which on a second process pays."""
MOST_LOGS = 10_000
"""Results that the second process may keep."""
BUFFER = 1024 * 1024
_NEAR = 64 * 1024


class Seam(NamedTuple):
    """Where the second half begins: at a record, and at the first payload that is not before it."""

    record: int
    payload: int


class Half(NamedTuple):
    """What the second process found, if all of it is well: the log of its first record, and the logs after it."""

    first: Record
    chain: Chain
    rest: list[Result]


Second = Callable[[Path, Path | None, Seam], AbstractContextManager[Callable[[], Half | None]]]
"""Begins to verify the second half; what it gives waits for the outcome."""


def verify(records: Path, payloads: Path | None) -> Iterator[Result]:
    """As `aos.kernel.exported.verify`, by two processes where that is quicker."""
    big = records.stat().st_size >= LEAST and (os.cpu_count() or 1) > 1
    return verify_halves(records, payloads, in_another_process if big else None)


def verify_halves(records: Path, payloads: Path | None, second: Second | None) -> Iterator[Result]:
    with _opened(records) as first_file, _opened(payloads or Path(os.devnull)) as second_file:
        walk = Walk(Payloads(second_file) if payloads else None)
        seam = find_seam(records, payloads) if second else None
        if second is not None and seam is not None:
            with second(records, payloads, seam) as outcome:
                yield from walk.over(first_file, seam.record)
                half = outcome()
            if half is not None and (yield from _joined(walk, half, seam)):
                yield from walk.end()
                yield from half.rest
                return
        yield from walk.over(first_file)
        yield from walk.end()


def find_seam(records: Path, payloads: Path | None) -> Seam | None:
    """A record in the middle of the file, and its place among the payloads."""
    with _opened(records) as file:
        file.seek(records.stat().st_size // 2)
        file.readline(BUFFER)
        at, line = file.tell(), file.readline(BUFFER)
    try:
        record = Parser().parse(line.removesuffix(b"\n"))
    except Malformed:
        return None
    return Seam(at, 0 if payloads is None else _find_payload(payloads, (record.log, record.seq)))


def verify_second(records: Path, payloads: Path | None, seam: Seam) -> Half | None:
    """Verify the second half, its first record taken on trust; None where anything is not well."""
    with _opened(records) as first_file, _opened(payloads or Path(os.devnull)) as second_file:
        first_file.seek(seam.record)
        first = Parser().parse(first_file.readline(BUFFER).removesuffix(b"\n"))
        first_file.seek(seam.record)
        second_file.seek(seam.payload)
        walk = Walk(Payloads(second_file) if payloads else None, Chain.trusting(first))
        chain = walk.chain
        results = list(islice(_results(walk, first_file), MOST_LOGS + 1))
    if len(results) > MOST_LOGS or any(result.exit for result in results):
        return None
    return Half(first, chain, results[1:])


@contextmanager
def in_another_process(records: Path, payloads: Path | None, seam: Seam) -> Generator[Callable[[], Half | None]]:
    """`verify_second` in a process of its own. `-P`: no code from the folder that the evidence lies in."""
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()", *map(str, seam), str(records)]
    command += [] if payloads is None else [str(payloads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        def outcome() -> Half | None:
            output, _ = process.communicate()
            return pickle.loads(output) if process.returncode == 0 else None

        try:
            yield outcome
        finally:
            process.kill()


def _joined(walk: Walk, half: Half, seam: Seam) -> Generator[Result, None, bool]:
    """Put the halves together, if nothing was left out between them."""
    if walk.payloads is not None and walk.payloads.position != seam.payload:
        return False
    if walk.chain.log != half.first.log:
        yield from walk.turn_to(half.first.log)
    if not walk.chain.adopt(half.first, half.chain):
        return False
    walk.payloads = None  # the second process has read the rest of them
    return True


def _results(walk: Walk, records: BinaryIO) -> Iterator[Result]:
    yield from walk.over(records)
    yield from walk.end()


def _opened(path: Path) -> BinaryIO:
    return path.open("rb", buffering=BUFFER)


def _find_payload(payloads: Path, place: tuple[str, int]) -> int:
    """Where the first payload begins that is not before this place, if the file is in order."""
    low, high = 0, payloads.stat().st_size
    with payloads.open("rb") as file:
        while high - low > _NEAR:
            middle = (low + high) // 2
            file.seek(middle)
            file.readline()
            at, line = file.tell(), file.readline()
            if line and payload_of(line, 0)[:2] < place:
                low = at
            else:
                high = middle
        file.seek(low)
        while (line := file.readline()) and payload_of(line, 0)[:2] < place:
            low = file.tell()
        return low


def main() -> None:
    """The second process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    at, payload_at, records, *payloads = sys.argv[1:]
    seam = Seam(int(at), int(payload_at))
    pickle.dump(verify_second(Path(records), Path(payloads[0]) if payloads else None, seam), sys.stdout.buffer)
