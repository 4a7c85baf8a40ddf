"""The second file of an export: payloads changed, missing, erased, foreign, out of place, or no payloads at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.kernel import ledger
from aos.kernel.exported import payload_line, payloads_beside
from aos.kernel.ledger import Payload
from tests.ledger.chains import ORDER, OTHER, Turn, chain, lines, one, payload, payload_lines, record, verify

LENGTH = 6


def export(turns: list[Turn]) -> tuple[list[bytes], list[bytes]]:
    return lines(turns), payload_lines(ORDER, turns)


def erasing(first: int, last: int) -> list[dict[str, Any]]:
    return [{"k": "erased", "first": first, "last": last, "payloads": 2}]


def test_all_payloads() -> None:
    result = one(*export(chain()))
    assert (result.exit, result.payloads, result.erased) == (0, 2 * LENGTH, 0)


@given(st.integers(0, 2 * LENGTH - 1), st.integers(0), st.integers(1, 255))
def test_a_byte_of_a_payload_changed(n: int, at: int, by: int) -> None:
    records, payloads = export(chain())
    changed = bytearray(payloads[n])
    changed[at % (len(changed) - 1)] ^= by
    payloads[n] = bytes(changed)
    result = next(r for r in verify(records, payloads) if r.log == ORDER.log)
    if b'"log":"' in changed and json_or_none(changed) == json_or_none(payload_lines(ORDER, chain())[n]):
        assert result.exit == 0, "hexadecimal digits may be written in either case"
    else:
        assert max(r.exit for r in verify(records, payloads)) == 1 or result.exit == 2
        assert result.records == LENGTH, "the chain itself is whole"


@pytest.mark.parametrize("n", range(2 * LENGTH))
@pytest.mark.parametrize("field", ["h", "salt", "data"])
def test_a_payload_changed_is_named_by_its_record(n: int, field: str) -> None:
    records, payloads = export(chain())
    line = json.loads(payloads[n])
    line[field] = "0" * 64 if field != "data" else "other"
    payloads[n] = json.dumps(line).encode() + b"\n"
    result = one(records, payloads)
    assert (result.exit, result.bad and result.bad.seq) == (1, n // 2)


def test_a_line_that_can_not_be_read_is_named_by_its_record() -> None:
    records, payloads = export(chain())
    payloads[5] = payloads[5].replace(b'"salt"', b'"salt')
    result = one(records, payloads)
    assert result.bad == (2, "line 6 of the payloads can't be read")
    assert result.payloads == 2 * LENGTH - 1


@pytest.mark.parametrize("n", range(2 * LENGTH))
def test_a_payload_missing(n: int) -> None:
    records, payloads = export(chain())
    del payloads[n]
    result = one(records, payloads)
    assert (result.exit, result.bad, result.payloads) == (2, None, 2 * LENGTH - 1)
    assert result.incomplete == (f"1 payloads are missing and no `erased` entry says so, the first of record {n // 2}",)


def test_all_payloads_missing() -> None:
    result = one(lines(chain()), [])
    assert (result.exit, result.payloads) == (2, 0)


def test_erased_payloads_are_accepted_and_said() -> None:
    turns = chain(extra={4: erasing(0, 2)})
    records, payloads = export(turns)
    result = one(records, payloads[6:])
    assert (result.exit, result.payloads, result.erased) == (0, 2 * LENGTH - 6, 6)


def test_an_erasure_explains_only_the_records_that_it_names_and_that_came_before() -> None:
    records, payloads = export(chain(extra={2: erasing(1, 100)}))
    result = one(records, payloads[:2])
    assert (result.exit, result.erased) == (2, 2)
    assert result.incomplete[0].startswith("8 payloads are missing")


def test_erasures_in_any_order_and_overlapping() -> None:
    extra = {3: erasing(2, 2), 4: erasing(0, 1), 5: [*erasing(0, 2), {"k": "erased", "first": "x"}]}
    records, payloads = export(chain(extra=extra))
    assert one(records, payloads[6:]).erased == 6


def test_a_payload_that_no_record_commits_to() -> None:
    records, payloads = export(chain())
    payloads.insert(4, payload_line(ORDER.log, 2, bytes(32), b"forged"))
    result = one(records, payloads)
    assert (result.exit, result.bad and result.bad.seq) == (1, 2)


def test_a_payload_twice_or_out_of_place() -> None:
    records, payloads = export(chain())
    assert one(records, [*payloads[:3], payloads[2], *payloads[3:]]).exit == 1
    assert one(records, [*payloads[:8], payloads[0], *payloads[8:]]).bad == (
        0,
        "there is a payload that it does not commit to, or that stands out of place",
    )


def test_payloads_beyond_the_last_record_show_that_the_tail_was_cut() -> None:
    records, payloads = export(chain())
    result = one(records[:4], payloads)
    assert (result.exit, result.bad and result.bad.seq) == (1, 4)
    assert result.bad and "the tail was cut" in result.bad.what


def test_payloads_of_a_broken_chain_say_nothing_more() -> None:
    records, payloads = export(chain())
    del records[3]
    result = one(records, payloads)
    assert (result.bad and result.bad.seq, result.more, result.incomplete) == (3, 0, ())


def test_payloads_of_logs_that_are_not_here() -> None:
    other = chain(OTHER)
    records, payloads = export(chain())
    results = verify(records, [*payloads, *payload_lines(OTHER, other)])
    assert [(r.log, r.exit) for r in results] == [(ORDER.log, 0), (OTHER.log, 2)]
    results = verify(lines(other), [*payloads, *payload_lines(OTHER, other)])
    assert sorted((r.log, r.exit) for r in results) == [(ORDER.log, 2), (OTHER.log, 0)]


def test_several_logs_with_their_payloads() -> None:
    first, second = chain(ORDER), chain(OTHER)
    payloads = [*payload_lines(ORDER, first), *payload_lines(OTHER, second)]
    results = verify([*lines(first), *lines(second)], payloads)
    assert [(r.exit, r.payloads) for r in results] == [(0, 2 * LENGTH), (0, 2 * LENGTH)]


@pytest.mark.parametrize("data", [b"", b"\xff\x00", b"\xed\xa0\x80", "é\u2028\n".encode(), b"x" * 2_000_000])
def test_any_bytes_survive_the_export(data: bytes) -> None:
    given = payload(data)
    entry = {"k": "event.handled", "data": given.commitment()}
    data_record = record(ORDER, 0, ledger.genesis(ORDER), [entry])
    line = payload_line(ORDER.log, 0, *given_of(given))
    assert line.count(b"\n") == 1
    assert one([data_record + b"\n"], [line]).payloads == 1


def test_a_commitment_of_another_type_does_not_pass() -> None:
    """`true == 1`, but not in a record."""
    given = payload(b"x")
    for n in (True, None, "1", 2):
        entry = {"k": "event.handled", "data": {**given.commitment(), "n": n}}
        data_record = record(ORDER, 0, ledger.genesis(ORDER), [entry])
        assert one([data_record + b"\n"], [payload_line(ORDER.log, 0, *given_of(given))]).exit == 1


def test_bytes_may_not_move_between_salt_and_payload() -> None:
    given = payload(b"xyz")
    data_record = record(ORDER, 0, ledger.genesis(ORDER), [{"k": "event.handled", "data": given.commitment()}])
    moved = {"log": ORDER.log, "seq": 0, "h": given.commitment()["h"], "salt": (given.salt + b"x").hex(), "data": "yz"}
    assert one([data_record + b"\n"], [json.dumps(moved, separators=(",", ":")).encode() + b"\n"]).exit == 1


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b"junk\n", b'{"log":1}\n', b"\xff\n", b"[" * 99_999 + b"\n"])
def test_lines_that_are_no_payloads(line: bytes) -> None:
    """What does not say where it belongs is no log's."""
    records, payloads = export(chain())
    for at in (0, 5, len(payloads)):
        results = verify(records, [*payloads[:at], line, *payloads[at:]])
        assert [(r.log, r.exit) for r in results] == [(ORDER.log, 0), ("(payloads)", 1)]
        assert results[1].bad == (None, f"line {at + 1} of the payloads can't be read")


def test_where_payloads_lie(tmp_path: Any) -> None:
    assert payloads_beside(tmp_path / "audit.jsonl") == tmp_path / "audit.payloads.jsonl"
    assert payloads_beside(tmp_path / "audit") == tmp_path / "audit.payloads"


def given_of(given: Payload) -> tuple[bytes, bytes]:
    assert given.data is not None
    return given.salt, given.data


def json_or_none(line: bytes | bytearray) -> Any:
    try:
        found = json.loads(line)
        return {**found, "salt": found["salt"].lower()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
