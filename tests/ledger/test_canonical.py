"""Canonical bytes: the same as RFC 8785 on the profile, nothing outside it, and two parsers that agree on it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from aos.kernel import ledger
from aos.kernel.canonical import MAX_INT, NotCanonical, canonical, parse
from aos.kernel.strict import KINDS, Parser
from tests.ledger.chains import ORDER, chain

KEYS = st.from_regex(r"[a-z0-9_]{1,32}", fullmatch=True)
STRINGS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | STRINGS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(VALUES)
def test_same_bytes_as_the_rfc_8785_package(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)
    assert parse(canonical(value)) == value


@pytest.mark.parametrize("text", ["\x00\x1f\x7f\x80", '"\\/\b\f\n\r\t', "\u2028\u2029\ufeff", "é😀\U0010ffff"])
def test_awkward_strings(text: str) -> None:
    assert canonical({"a": [text]}) == rfc8785.dumps({"a": [text]})


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        float("inf"),
        MAX_INT + 1,
        -MAX_INT - 1,
        10**400,
        b"bytes",
        (1, 2),
        {1, 2},
        {"A": 1},
        {"": 1},
        {"a" * 33: 1},
        {"a-b": 1},
        {"é": 1},
        {1: 1},
        {None: 1},
        "\ud800",
        {"a": [{"b": 0.5}]},
        [[{"a": "\udfff"}]],
    ],
    ids=repr,
)
def test_outside_the_profile_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


NOT_CANONICAL = {
    "a duplicate key": b'{"a":1,"a":1}',
    "a duplicate key, deeper": b'{"a":[{"b":1,"b":2}]}',
    "keys out of order": b'{"b":1,"a":1}',
    "white space": b'{"a": 1}',
    "a space in front": b' {"a":1}',
    "a line feed behind": b'{"a":1}\n',
    "more behind": b'{"a":1}{}',
    "a float": b'{"a":1.0}',
    "an exponent": b'{"a":1e2}',
    "minus zero": b'{"a":-0}',
    "a leading zero": b'{"a":01}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "an enormous integer": b'{"a":' + b"9" * 5000 + b"}",
    "a needless escape": b'{"a":"\\u0041"}',
    "an escaped slash": b'{"a":"\\/"}',
    "an upper-case escape": b'{"a":"\\u001F"}',
    "an escaped surrogate pair": b'{"a":"\\ud83d\\ude00"}',
    "a lone surrogate": b'{"a":"\\ud800"}',
    "a lone surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "no UTF-8": b'{"a":"\xff"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a raw control character": b'{"a":"\x01"}',
    "a raw tab": b'{"a":"\t"}',
    "a key outside the profile": b'{"A":1}',
    "a key of a colon": b'{":":1}',
    "nesting without end": b"[" * 100_000,
    "nothing": b"",
    "half": b'{"a":',
}


@pytest.mark.parametrize("data", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_bytes_outside_the_profile_are_refused(data: bytes) -> None:
    assert not by_kernel(data)
    assert not by_verifier(data)


@pytest.mark.parametrize("data", [b'{"a":":b"}', b'["a",":b","\\":"]', b'{"a":{},"b":[]}', b'"\x7f"', b"{}", b"0"])
def test_what_looks_odd_but_is_canonical(data: bytes) -> None:
    assert by_kernel(data)
    assert by_verifier(data)


WORDS = r"""{ } [ ] , : " ": "a": "b": "h" "n" "x" ":x" 0 -0 1 01 1.0 true null \ \" \u0041 é 9007199254740992"""
TOKENS = st.sampled_from([*WORDS.split(), " ", "\n", "\t"])


@given(st.lists(TOKENS, max_size=12).map("".join) | VALUES.map(lambda value: canonical(value).decode()), st.data())
def test_both_parsers_agree(text: str, data: st.DataObject) -> None:
    """The verifier's parser proves most texts canonical without encoding them again; the kernel's always encodes."""
    if text and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(TOKENS) + text[at + data.draw(st.integers(0, 1)) :]
    assert by_verifier(text.encode()) == by_kernel(text.encode())


@given(st.integers(0, 5), st.integers(), st.integers(0, 255))
def test_both_parsers_agree_on_records_with_a_byte_changed(seq: int, at: int, byte: int) -> None:
    data = bytearray(chain()[seq].record)
    data[at % len(data)] = byte
    assert by_verifier(bytes(data)) == by_kernel(bytes(data))


def test_the_verifier_knows_the_kinds_that_the_kernel_writes() -> None:
    assert KINDS == ledger.KINDS, "a kind has to be in aos.kernel.strict and in aos.kernel.ledger"


@given(VALUES)
def test_commitments_are_found_in_the_order_in_which_the_kernel_pays(value: Any) -> None:
    commitment = {"h": "0" * 64, "n": 1}
    entries = [{"k": "note", "inner": value, "last": commitment}, {"k": "note", "a": [commitment, {"b": commitment}]}]
    data = chain(extra={0: entries})[0].record
    wanted = list(ledger.commitments(json.loads(data)["entries"]))
    assert Parser().parse(data).commitments == wanted


def test_the_genesis_link_of_a_log_is_pinned() -> None:
    """`printf 'aos/ledger/v1\\ndefault/order/4711' | sha256sum`"""
    link = "b5b3e72cf92d6760aaca9cf2ea51261e9405385bb17a650cb7bd2cce3830efc8"
    assert ledger.genesis(ORDER) == link
    assert json.loads(chain()[0].record)["prev"] == link
    assert Parser().parse(chain()[0].record).prev == link


def by_kernel(data: bytes) -> bool:
    try:
        parse(data)
    except NotCanonical:
        return False
    return True


def by_verifier(data: bytes) -> bool:
    try:
        Parser()._canonical(data)
    except (ValueError, RecursionError):
        return False
    return True
