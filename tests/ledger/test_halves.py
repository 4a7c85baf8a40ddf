"""Two processes come to what one comes to, whatever is wrong and wherever the file is cut in two."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aos.cli import halves
from aos.cli.halves import Half, Seam, verify_halves, verify_second
from aos.kernel.address import Address
from aos.kernel.exported import payloads_beside
from tests.ledger.chains import ORDER, OTHER, Turn, chain, lines, payload_lines, verify, write

Lines = list[bytes]
LOGS = [Address.of("order", key) for key in "abcdefgh"]


@contextmanager
def in_this_process(records: Path, payloads: Path | None, seam: Seam) -> Generator[Callable[[], Half | None]]:
    yield lambda: verify_second(records, payloads, seam)


def erasing(first: int, last: int) -> dict[str, object]:
    return {"k": "erased", "first": first, "last": last, "payloads": 1}


def one_log() -> tuple[Lines, Lines]:
    turns = chain(length=20, extra={3: [{"k": "moon.landed"}], 15: [{"k": "moon.landed"}, {"k": "sun.set"}]})
    return lines(turns), payload_lines(ORDER, turns)


def many_logs() -> tuple[Lines, Lines]:
    made = [(log, chain(log, n + 1)) for n, log in enumerate(LOGS)]
    return [line for _, turns in made for line in lines(turns)], [
        line for log, turns in made for line in payload_lines(log, turns)
    ]


def erased() -> tuple[Lines, Lines]:
    """What is erased early is said late: in the other half."""
    turns = chain(length=20, extra={18: [erasing(0, 4), erasing(12, 13)]})
    gone = [Turn(t.record, [] if n < 5 or n in (12, 13) else t.payloads) for n, t in enumerate(turns)]
    return lines(turns), payload_lines(ORDER, gone)


EXPORTS = [one_log, many_logs, erased]


@pytest.mark.parametrize("export", EXPORTS)
def test_whole_exports(tmp_path: Path, export: Callable[[], tuple[Lines, Lines]]) -> None:
    records, payloads = export()
    path = write(tmp_path, records, payloads)
    joined = list(verify_halves(path, payloads_beside(path), in_this_process))
    assert joined == verify(records, payloads)
    assert all(result.exit == 0 for result in joined)
    assert list(verify_halves(path, None, in_this_process)) == verify(records)


def test_the_second_half_is_really_not_verified_again(tmp_path: Path) -> None:
    records, payloads = one_log()
    path = write(tmp_path, records, payloads)
    seam = halves.find_seam(path, payloads_beside(path))
    assert seam is not None
    half = verify_second(path, payloads_beside(path), seam)
    beginning = path.read_bytes()[: seam.record]

    @contextmanager
    def meanwhile(*arguments: object) -> Generator[Callable[[], Half | None]]:
        path.write_bytes(beginning + b"junk")
        yield lambda: half

    assert list(verify_halves(path, payloads_beside(path), meanwhile)) == verify(records, payloads)


CHANGES: dict[str, Callable[[Lines], Lines]] = {
    "deleted": lambda data: data[1:],
    "twice": lambda data: [data[0], *data],
    "swapped with the next": lambda data: [*data[1:2], data[0], *data[2:]],
    "junk before it": lambda data: [b"junk\n", *data],
    "changed": lambda data: [data[0].replace(b'"anna"', b'"anne"').replace(b'"data":"', b'"data":"x'), *data[1:]],
    "cut here": lambda data: data[:1],
    "torn here": lambda data: [data[0][:40]],
    "another log's": lambda data: [lines(chain(OTHER))[0], *data],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("export", EXPORTS)
def test_changed_exports(
    tmp_path: Path, export: Callable[[], tuple[Lines, Lines]], change: Callable[[Lines], Lines]
) -> None:
    """At every place of either file, so also at the seam and beside it."""
    records, payloads = export()
    for at in range(len(records)):
        changed = [*records[:at], *change(records[at:])]
        path = write(tmp_path, changed, payloads)
        assert list(verify_halves(path, payloads_beside(path), in_this_process)) == verify(changed, payloads)
    for at in range(len(payloads)):
        changed = [*payloads[:at], *change(payloads[at:])]
        path = write(tmp_path, records, changed)
        assert list(verify_halves(path, payloads_beside(path), in_this_process)) == verify(records, changed)


@pytest.mark.parametrize("records", [[], [b"junk\n"], [b"junk"], lines(chain(length=1)), lines(chain(length=2))])
def test_small_files(tmp_path: Path, records: Lines) -> None:
    path = write(tmp_path, records)
    assert list(verify_halves(path, None, in_this_process)) == verify(records)


def test_the_place_among_many_payloads(tmp_path: Path) -> None:
    """Found by halving as well, not only by looking at each."""
    turns = chain(length=2000)
    path = write(tmp_path, lines(turns), payload_lines(ORDER, turns))
    seam = halves.find_seam(path, payloads_beside(path))
    assert seam is not None
    assert payloads_beside(path).stat().st_size > 4 * 64 * 1024
    assert list(verify_halves(path, payloads_beside(path), in_this_process)) == verify(
        lines(turns), payload_lines(ORDER, turns)
    )
    seq = b'"seq":%d,' % path.read_bytes()[: seam.record].count(b"\n")
    assert seq in payloads_beside(path).read_bytes()[seam.payload :].splitlines()[0]


def test_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, payloads = many_logs()
    path = write(tmp_path, records, payloads)
    with halves.in_another_process(path, payloads_beside(path), Seam(0, 0)) as outcome:
        half = outcome()
    assert half is not None
    assert len(half.rest) == len(LOGS) - 1
    monkeypatch.setattr(halves, "LEAST", 0)
    assert list(halves.verify(path, payloads_beside(path))) == verify(records, payloads)
    changed = [*records[:-2], records[-1]]
    assert list(halves.verify(write(tmp_path, changed, payloads), None)) == verify(changed)


def test_another_process_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, _ = one_log()
    monkeypatch.setattr("sys.executable", "/bin/false")
    monkeypatch.setattr(halves, "LEAST", 0)
    assert list(halves.verify(write(tmp_path, records), None)) == verify(records)


def test_more_logs_than_the_second_process_may_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, payloads = many_logs()
    path = write(tmp_path, records, payloads)
    monkeypatch.setattr(halves, "MOST_LOGS", 1)
    assert verify_second(path, None, Seam(0, 0)) is None
    assert list(verify_halves(path, None, in_this_process)) == verify(records)
