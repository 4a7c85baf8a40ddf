"""docs/verify_export.py: forty lines by which a stranger comes to the same verdict."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ledger.chains import ORDER, OTHER, chain, lines, payload_lines, relinked, verify, write
from tests.ledger.test_canonical import NOT_CANONICAL
from tests.ledger.test_tampering import FORMS, edited

SCRIPT = Path(__file__).parent.parent.parent / "docs" / "verify_export.py"
GOLDEN = Path(__file__).parent / "golden"

Lines = list[bytes]


def script(*arguments: Path) -> int:
    command = [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode


def agree(folder: Path, records: Lines, payloads: Lines | None = None) -> int:
    """The exit code that both give."""
    path = write(folder, records, payloads)
    mine = max((r.exit for r in verify(records, payloads)), key=[0, 2, 1].index, default=2)
    assert script(path, *([] if payloads is None else [folder / "audit.payloads.jsonl"])) == mine
    return mine


def test_it_is_short_and_needs_nothing_but_python() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 40
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imported}
    assert names <= sys.stdlib_module_names


def test_golden_records() -> None:
    assert script(GOLDEN / "v1.jsonl", GOLDEN / "v1.payloads.jsonl") == 0
    assert script(GOLDEN / "v1.jsonl") == 0


def swapped(data: Lines) -> Lines:
    return [*data[:2], data[3], data[2], *data[4:]]


RECORDS: dict[str, tuple[Callable[[Lines], Lines], int]] = {
    "whole": (lambda d: d, 0),
    "nothing": (lambda d: [], 2),
    "the tail cut": (lambda d: d[:3], 0),
    "a byte": (lambda d: [*d[:2], d[2].replace(b'"ms":2', b'"ms":3'), *d[3:]], 1),
    "deleted": (lambda d: [*d[:2], *d[3:]], 1),
    "the first deleted": (lambda d: d[1:], 1),
    "swapped": (swapped, 1),
    "twice": (lambda d: [*d[:3], d[2], *d[3:]], 1),
    "another log": (lambda d: [*d[:3], lines(chain(OTHER))[3], *d[4:]], 1),
    "two logs": (lambda d: [*d, *lines(chain(OTHER))], 0),
    "two logs out of order": (lambda d: [*lines(chain(OTHER)), *d], 1),
    "rewritten": (lambda d: [r + b"\n" for r in relinked(ORDER, [x.replace(b"anna", b"eve") for x in d])], 0),
    "unknown kinds": (lambda d: lines(chain(extra={1: [{"k": "moon.landed"}]})), 0),
    "a colon in front": (lambda d: lines(chain(extra={1: [{"k": "note", "list": ["a", ":b", '"h":{"n":']}]})), 0),
    "junk": (lambda d: [*d[:2], b"junk\n", *d[2:]], 1),
    "no last line feed": (lambda d: [*d[:-1], d[-1][:-1]], 0),
}


@pytest.mark.parametrize(("change", "code"), RECORDS.values(), ids=RECORDS.keys())
def test_the_same_verdict_on_records(tmp_path: Path, change: Callable[[Lines], Lines], code: int) -> None:
    assert agree(tmp_path, change(lines(chain()))) == code


PAYLOADS: dict[str, tuple[Callable[[Lines], Lines], int]] = {
    "whole": (lambda p: p, 0),
    "one missing": (lambda p: [*p[:3], *p[4:]], 2),
    "none": (lambda p: [], 2),
    "changed": (lambda p: [*p[:3], p[3].replace(b'"data":"1"', b'"data":"2"'), *p[4:]], 1),
    "another hash": (lambda p: [*p[:3], p[3].replace(b'"h":"', b'"h":"0'), *p[4:]], 1),
    "of no record": (lambda p: [*p, p[-1].replace(b'"seq":5', b'"seq":6')], 1),
}


@pytest.mark.parametrize(("change", "code"), PAYLOADS.values(), ids=PAYLOADS.keys())
def test_the_same_verdict_on_payloads(tmp_path: Path, change: Callable[[Lines], Lines], code: int) -> None:
    turns = chain()
    assert agree(tmp_path, lines(turns), change(payload_lines(ORDER, turns))) == code


def test_the_same_verdict_on_erased_payloads(tmp_path: Path) -> None:
    for first, last, code in ((0, 1, 0), (1, 1, 2), (0, 99, 0)):
        turns = chain(extra={4: [{"k": "erased", "first": first, "last": last, "payloads": 4}]})
        assert agree(tmp_path, lines(turns), payload_lines(ORDER, turns)[4:]) == code


@pytest.mark.parametrize("changes", FORMS.values(), ids=FORMS.keys())
def test_it_refuses_no_less_where_a_link_depends_on_it(tmp_path: Path, changes: dict[str, object]) -> None:
    """It does not look into host, state, turn and entries; nothing that it proves hangs on them."""
    unlooked = {"host", "state", "turn", "entries"}
    if not unlooked & changes.keys() and changes.keys() != {"log"} and changes not in ({"seq": -1}, {"ts": -1}):
        assert agree(tmp_path, [edited(**changes) + b"\n"]) == 1


@pytest.mark.parametrize("text", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_it_refuses_what_is_not_canonical(tmp_path: Path, text: bytes) -> None:
    good = chain(length=1)[0].record
    head = b'{"entries":[{"k":"note","x":'
    assert good.startswith(b'{"entries":[{')
    bad = head + text + b"},{" + good.removeprefix(b'{"entries":[{') + b"\n"
    assert agree(tmp_path, [bad]) == 1
