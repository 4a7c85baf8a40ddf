"""What `aos verify` prints, for people or as JSON Lines: a line a log as soon as it is verified, then the sum."""

from __future__ import annotations

import json
import sys
from typing import Any

from aos.kernel.verify import Result

STATUS = ("ok", "tampered", "incomplete")
UNAVAILABLE = 2

_CHAIN_ALONE = (
    "that nothing is missing after the last record of a log, that no log is missing whole, and that no log was "
    "rewritten to its end: compare the heads with ones that were noted before"
)
_NOT_IN_EXPORTS = "the state, history and rows that the records commit to: they are not in an export"
_NOT_COVERED = "what the ledger does not cover: receipts, dead letters, backlogs, journals, outboxes and lists"
_NO_PAYLOADS = "the payloads: none were given"


class Printer:
    """Prints results, keeps the sum of them and knows the exit code."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._counts = [0, 0, 0]
        self._records = 0
        self._payloads = 0
        self._erased = 0
        self.unreadable = False
        """Something could not be looked at."""

    def log(self, result: Result) -> None:
        self._counts[result.exit] += 1
        self._records += result.records
        self._payloads += result.payloads
        self._erased += result.erased
        self.unreadable = self.unreadable or bool(result.incomplete)
        if self._as_json:
            self._print_json(_fields(result))
        else:
            print("\n".join(_lines(result)))

    def unavailable(self, why: str) -> int:
        """Nothing could be verified at all."""
        if self._as_json:
            self._print_json({"error": why, "exit": UNAVAILABLE})
        print(f"aos: {why}", file=sys.stderr)
        return UNAVAILABLE

    def end(self, *, file: bool, payloads: bool) -> int:
        """The sum, and what was not proved. Returns the exit code: the worst of all, which is "tampered"."""
        logs = sum(self._counts)
        if not logs:
            return self.unavailable("there are no records to verify" if file else "there are no agents to verify")
        code = 1 if self._counts[1] else 2 if self._counts[2] else 0
        unproved = [_CHAIN_ALONE, _NOT_IN_EXPORTS if file else _NOT_COVERED]
        if not payloads:
            unproved.append(_NO_PAYLOADS)
        if self._erased:
            unproved.append(f"{self._erased} erased payloads: their commitments stand, the content is gone")
        if self._as_json:
            counts = dict(zip(STATUS, self._counts, strict=True))
            sums = {"logs": logs, **counts, "records": self._records, "payloads": self._payloads}
            self._print_json({**sums, "erased": self._erased, "exit": code, "not_proved": unproved})
        else:
            said = ", ".join(f"{n} {status}" for n, status in zip(self._counts, STATUS, strict=True) if n)
            print(f"\n{_count(logs, 'log')}: {said}. {_held(self._records, self._payloads, self._erased)}.")
            print("\n".join(f"Not proved: {what}." for what in unproved))
        return code

    def _print_json(self, value: dict[str, Any]) -> None:
        print(json.dumps(value, ensure_ascii=False))


def _lines(result: Result) -> list[str]:
    status = STATUS[result.exit]
    held = _held(result.records, result.payloads, result.erased)
    lines = [f"{status if status == 'ok' else status.upper():10}  {result.log}: {held}"]
    if result.bad is not None:
        where = "" if result.bad.seq is None else f"first bad sequence {result.bad.seq}: "
        more = f" (and {_count(result.more, 'more finding')})" if result.more else ""
        lines.append(f"            {where}{result.bad.what}{more}")
    lines += [f"            {what}" for what in result.incomplete]
    if result.unknown:
        kinds = ", ".join(f"{kind!r} ({n})" for kind, n in result.unknown.items())
        lines.append(f"            kinds of entries that this version does not know: {kinds}")
    if result.head:
        lines.append(f"            head {result.head}")
    return lines


def _fields(result: Result) -> dict[str, Any]:
    bad = result.bad
    return {
        "log": result.log,
        "status": STATUS[result.exit],
        "records": result.records,
        "head": result.head,
        "first_bad": None if bad is None else {"seq": bad.seq, "what": bad.what},
        "more": result.more,
        "incomplete": result.incomplete,
        "payloads": result.payloads,
        "erased": result.erased,
        "unknown_kinds": result.unknown,
    }


def _held(records: int, payloads: int, erased: int) -> str:
    gone = f" ({erased} erased)" if erased else ""
    return f"{_count(records, 'record')}, {_count(payloads, 'payload')}{gone}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
