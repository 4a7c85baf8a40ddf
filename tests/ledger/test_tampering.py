"""What was done to an export, and what the verifier says of it: the first bad sequence, and what is wrong there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.kernel import ledger
from aos.kernel.canonical import canonical
from tests.ledger.chains import HOST, ORDER, OTHER, chain, lines, one, record, relinked, verify

LENGTH = 6


def test_a_whole_chain() -> None:
    turns = chain()
    result = one(lines(turns))
    assert (result.exit, result.records, result.bad) == (0, LENGTH, None)
    assert result.head == ledger.leaf(turns[-1].record)


def test_nothing_at_all() -> None:
    assert verify([]) == []


@given(st.integers(0, LENGTH - 3), st.integers(0), st.integers(1, 255))
def test_a_byte_changed(seq: int, at: int, by: int) -> None:
    """Whichever byte it is: the record that it is in is the first bad one, because the one after the next vouches."""
    data = lines(chain())
    changed = bytearray(data[seq])
    changed[at % (len(changed) - 1)] ^= by
    data[seq] = bytes(changed)
    results = {result.log: result for result in verify(data)}
    assert max(result.exit for result in results.values()) == 1
    assert found(results[ORDER.log]) == seq


@pytest.mark.parametrize("seq", [0, 2, LENGTH - 2])
def test_every_byte_of_a_record_changed(seq: int) -> None:
    data = lines(chain())
    link = data[seq].index(b'"prev":"') + 8
    for at in range(len(data[seq]) - 1):
        changed = bytearray(data[seq])
        changed[at] ^= 1
        results = {r.log: r for r in verify([*data[:seq], bytes(changed), *data[seq + 1 :]])}
        # Nothing vouches for the last record's link, so a change in it, or in the one before, can't be told apart.
        ambiguous = seq == LENGTH - 2 and link <= at < link + 64
        assert found(results[ORDER.log]) in ((seq, seq - 1) if ambiguous else (seq,)), at


def test_the_last_record_changed_is_not_noticed_but_its_head_differs() -> None:
    """No later record vouches for it; the documentation says so."""
    turns = chain()
    changed = turns[-1].record.replace(b'"ms":5', b'"ms":6')
    result = one([*lines(turns[:-1]), changed + b"\n"])
    assert result.exit == 0
    assert result.head != one(lines(turns)).head


def test_the_last_link_changed() -> None:
    turns = chain()
    last = turns[-1].record.replace(b'"prev":"', b'"prev":"0', 1).replace(b'","seq"', b'"seq"', 1)
    changed = turns[-1].record
    at = changed.index(b'"prev":"') + 8
    changed = changed[:at] + (b"0" if changed[at : at + 1] != b"0" else b"1") + changed[at + 1 :]
    result = one([*lines(turns[:-1]), changed + b"\n"])
    assert found(result) == LENGTH - 2
    assert "nothing tells which of the two was changed" in what(result)
    assert one([*lines(turns[:-1]), last + b"\n"]).exit == 1


@pytest.mark.parametrize("seq", range(LENGTH - 1))
def test_a_record_deleted(seq: int) -> None:
    data = lines(chain())
    del data[seq]
    result = one(data)
    assert (result.exit, found(result), result.records) == (1, seq, seq)
    assert what(result) == f"it is missing; the record that comes next is {seq + 1}"


@pytest.mark.parametrize("seq", range(LENGTH - 1))
def test_two_records_swapped(seq: int) -> None:
    data = lines(chain())
    data[seq], data[seq + 1] = data[seq + 1], data[seq]
    assert found(one(data)) == seq


@pytest.mark.parametrize("seq", range(LENGTH))
def test_a_record_twice(seq: int) -> None:
    data = lines(chain())
    data.insert(seq, data[seq])
    result = one(data)
    assert found(result) == seq + 1
    assert what(result) == f"record {seq}, which has been before, stands in its place"


def test_the_tail_cut_can_not_be_seen_but_the_head_can() -> None:
    turns = chain()
    whole, cut = one(lines(turns)), one(lines(turns[:4]))
    assert (cut.exit, cut.records) == (0, 4)
    assert cut.head == ledger.leaf(turns[3].record) != whole.head


def test_a_full_rewrite_can_not_be_seen_but_the_head_can() -> None:
    turns = chain()
    data = [turn.record.replace(b'"anna"', b'"eve"') for turn in turns]
    result = one([record + b"\n" for record in relinked(ORDER, data)])
    assert result.exit == 0
    assert result.head != one(lines(turns)).head


@pytest.mark.parametrize("seq", range(1, LENGTH))
def test_a_record_of_another_log_in_the_place_of_one(seq: int) -> None:
    data, others = lines(chain()), lines(chain(OTHER))
    data[seq] = others[seq]
    results = {result.log: result for result in verify(data)}
    assert found(results[OTHER.log]) == 0
    if seq < LENGTH - 1:
        assert found(results[ORDER.log]) == seq
    else:
        assert results[ORDER.log].records == seq, "nothing of this log comes after it: as if its tail were cut"


def test_another_chain_under_this_name() -> None:
    """The genesis link is bound to the name of the log."""
    renamed = [canonical({**json.loads(turn.record), "log": ORDER.log}) for turn in chain(OTHER)]
    assert found(one([record + b"\n" for record in renamed])) == 0
    assert "genesis" in what(one([record + b"\n" for record in renamed]))


def test_several_logs() -> None:
    good, bad = lines(chain(ORDER)), lines(chain(OTHER))
    del bad[2]
    assert [(r.log, r.exit) for r in verify([*good, *bad])] == [(ORDER.log, 0), (OTHER.log, 1)]


def test_logs_out_of_order() -> None:
    results = verify([*lines(chain(OTHER)), *lines(chain(ORDER))])
    assert [(r.log, r.exit) for r in results] == [(OTHER.log, 0), (ORDER.log, 1)]
    assert "in order of their names" in what(results[1])


def test_a_log_in_two_pieces() -> None:
    one_log, other = lines(chain(ORDER)), lines(chain(OTHER))
    results = {r.log: r for r in verify([*one_log[:3], *other, *one_log[3:]])}
    assert (results[OTHER.log].exit, found(results[ORDER.log])) == (0, 3)
    assert "goes on in line 10" in what(results[ORDER.log])


def test_logs_in_turns_end_as_well() -> None:
    mixed = [line for pair in zip(lines(chain(ORDER)), lines(chain(OTHER)), strict=True) for line in pair]
    assert {r.log: found(r) for r in verify(mixed)} == {ORDER.log: 1, OTHER.log: 1}


def test_time_goes_back() -> None:
    turns = chain(length=1)
    back = record(ORDER, 1, ledger.leaf(turns[0].record), [{"k": "note", "text": "x"}], ts=1)
    result = one([*lines(turns), back + b"\n"])
    assert found(result) == 1
    assert "its time goes back" in what(result)


def test_the_file_ends_within_a_record() -> None:
    data = lines(chain())
    result = one([*data[:4], data[4][:100]])
    assert (result.exit, result.bad, result.records) == (2, None, 4)
    assert result.incomplete == ("the file ends in the middle of record 4 (line 5)",)


def test_the_last_line_feed_may_be_missing() -> None:
    data = lines(chain())
    assert one([*data[:-1], data[-1][:-1]]).exit == 0
    assert one([*data[:-1], data[-1][:-1] + b"x"]).exit == 1, "but nothing may stand in its place"


@pytest.mark.parametrize("junk", [b"\n", b"junk\n", b"{}\n", b'"x"\n', b"\xff\n", b"\r\n", b"[" * 99_999 + b"\n"])
@pytest.mark.parametrize("seq", [0, 3])
def test_lines_that_are_no_records(seq: int, junk: bytes) -> None:
    data = lines(chain())
    data.insert(seq, junk)
    results = verify(data)
    assert (results[0].exit, found(results[0])) == (1, seq)
    assert [r.log for r in results] == (["(line 1)", ORDER.log] if seq == 0 else [ORDER.log])


def edited(**changes: Any) -> bytes:
    """The first record of a chain with other fields, in canonical form."""
    fields = {**json.loads(chain()[0].record), **changes}
    return canonical({name: value for name, value in fields.items() if value is not ...})


FORMS = {
    "v": {"v": 2},
    "v true, which equals 1": {"v": True},
    "v text": {"v": "1"},
    "seq false, which equals 0": {"seq": False},
    "seq negative": {"seq": -1},
    "ts true": {"ts": True},
    "ts negative": {"ts": -1},
    "ts null": {"ts": None},
    "turn empty": {"turn": ""},
    "turn a number": {"turn": 1},
    "log a list": {"log": []},
    "log without a tenant": {"log": "order/4711"},
    "log with a control character": {"log": "default/order/\x1b[31m"},
    "host null": {"host": None},
    "host short": {"host": {"name": "aos"}},
    "host with more": {"host": {**HOST, "region": "x"}},
    "host of numbers": {"host": {**HOST, "version": 1}},
    "state empty": {"state": {}},
    "state with a short hash": {"state": {"h": "00", "n": 1}},
    "state with a length true": {"state": {"h": "0" * 64, "n": True}},
    "state with more": {"state": {"h": "0" * 64, "n": 1, "x": 1}},
    "no entries": {"entries": []},
    "entries an object": {"entries": {}},
    "an entry without a kind": {"entries": [{"x": 1}]},
    "an entry of a kind that is no text": {"entries": [{"k": []}]},
    "an entry that is no object": {"entries": ["note"]},
    "an entry that is a commitment": {"entries": [{"h": "0" * 64, "n": 1}]},
    "a field more": {"extra": 1},
    "a field less": {"turn": ...},
}


@pytest.mark.parametrize("changes", FORMS.values(), ids=FORMS.keys())
def test_records_that_are_not_what_the_format_says(changes: dict[str, Any]) -> None:
    results = verify([edited(**changes) + b"\n"])
    assert [r.exit for r in results] == [1]
    assert found(results[0]) == 0


def test_unknown_kinds_are_accepted_and_said() -> None:
    result = one(lines(chain(extra={2: [{"k": "moon.landed"}, {"k": "moon.landed"}], 3: [{"k": "x"}]})))
    assert (result.exit, result.unknown) == (0, {"moon.landed": 2, "x": 1})


def test_a_thousand_unknown_kinds_do_not_fill_the_memory() -> None:
    result = one(lines(chain(length=1, extra={0: [{"k": f"k{n}"} for n in range(1000)]})))
    assert len(result.unknown) == 20


def test_whatever_is_not_a_record_is_named_without_raising() -> None:
    deep = canonical({"a": 1}).replace(b"1", b"[" * 5000 + b"]" * 5000)
    assert max(r.exit for r in verify([deep + b"\n"])) == 1


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3)), min_size=1, max_size=4), st.data())
def test_no_change_of_whole_lines_goes_unnoticed(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Deleting, doubling, swapping, moving: all is well only if what is left begins both logs."""
    wholes = [lines(chain(ORDER)), lines(chain(OTHER))]
    mixed = [*wholes[0], *wholes[1]]
    for at, kind in changes:
        line = mixed.pop(at % len(mixed)) if len(mixed) > 1 else mixed[0]
        if kind:
            mixed.insert(data.draw(st.integers(0, len(mixed))), line)
        if kind == 3:
            mixed.insert(data.draw(st.integers(0, len(mixed))), line)
    begins = any(mixed == wholes[0][:n] + wholes[1][:m] for n in range(LENGTH + 1) for m in range(LENGTH + 1))
    assert (max((r.exit for r in verify(mixed)), default=0) == 0) == begins


def found(result: Any) -> int | None:
    """The first bad sequence."""
    assert result.bad is not None
    return result.bad.seq


def what(result: Any) -> str:
    assert result.bad is not None
    return result.bad.what
