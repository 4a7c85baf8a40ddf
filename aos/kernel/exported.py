"""Exports: the records of logs as JSON Lines, and their payloads in a second file (LEDGER section 5).

The first file holds the exact bytes of a record a line. The second holds `{"log", "seq", "h", "salt", "data"}` a line,
with `b64` in place of `data` where the bytes are not UTF-8. In both, log comes after log in order of their names, each
in one piece: so a verifier needs one pass and no memory for what it has seen.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from aos.kernel.strict import Malformed, Parser, Record
from aos.kernel.verify import Chain, Given, Result, commit

MAX_RECORD = 32 * 1024 * 1024
MAX_PAYLOAD = 1024 * 1024 * 1024
"""Bytes of a line; what is longer is taken for no line of ours before it fills the memory."""
_LINE_FEED = 10
_SALT = 32
_PLACE = re.compile(r'\{"log":"([^"\\]+)","seq":(\d{1,16}),')
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


class Line(NamedTuple):
    """A payload of an export, or why it can't be read. One that names no log is no log's."""

    log: str
    seq: int
    h: str
    payload: tuple[bytes, bytes] | str


def payloads_beside(records: Path) -> Path:
    """Where the payloads of an export lie if nobody says otherwise: `audit.jsonl`, `audit.payloads.jsonl`."""
    return records.with_name(f"{records.stem}.payloads{records.suffix}")


def payload_line(log: str, seq: int, salt: bytes, data: bytes) -> bytes:
    """A line of the second file."""
    line: dict[str, Any] = {"log": log, "seq": seq, "h": commit(salt, data), "salt": salt.hex()}
    try:
        line["data"] = data.decode()
    except UnicodeDecodeError:
        line["b64"] = base64.b64encode(data).decode()
    return _dump(line).encode() + b"\n"


def verify(records: BinaryIO, payloads: BinaryIO | None = None) -> Iterator[Result]:
    """One result a log, as soon as nothing more can be said of it. Nothing at all for an empty file."""
    walk = Walk(None if payloads is None else Payloads(payloads))
    yield from walk.over(records)
    yield from walk.end()


class Walk:
    """The way through an export. Of the logs behind it keeps the last one, because that one may yet go on."""

    def __init__(self, payloads: Payloads | None, chain: Chain | None = None) -> None:
        self.payloads = payloads
        self.chain = chain or Chain("")
        """The log that it is in."""
        self._parse = Parser().parse
        self._earlier: Chain | None = None
        self._highest = self.chain.log
        self.number = 0
        """Lines behind it."""

    def over(self, records: BinaryIO, until: int = -1) -> Iterator[Result]:
        """Go on, to this byte or to the end."""
        parse, payloads, chain, number = self._parse, self.payloads, self.chain, self.number
        position = records.tell() if until >= 0 else 0  # a pipe can't tell
        for line in _lines(records, MAX_RECORD) if position != until else ():
            number += 1
            position += len(line)
            try:
                record = parse(line[:-1] if line[-1] == _LINE_FEED else line)
                if record.log != chain.log:
                    self.number = number
                    chain = yield from self.turn_to(record.log)
                if chain.feed(record) and payloads is not None:
                    chain.pay(record, payloads.of(record, chain))
            except Malformed as error:
                self.number = number
                chain = yield from self._malformed(line, str(error))
            if position == until:
                break
        self.number = number

    def end(self) -> Iterator[Result]:
        """The results of the last logs, and one for payloads that belong to none."""
        self._close(self.chain)
        for chain in (self._earlier, self.chain):
            if chain is not None and chain.log:
                yield chain.result()
        if self.payloads is not None:
            yield from self.payloads.rest()

    def turn_to(self, log: str) -> Generator[Result, None, Chain]:
        """A record of another log comes."""
        chain = yield from self._begin(log)
        if log > self._highest:
            self._highest = log
        elif chain.broken is None:
            after = f"in line {self.number} its log comes after {self._highest!r}"
            chain.stop(chain.next, f"{after}, but logs stand in order of their names")
        return chain

    def _begin(self, log: str) -> Generator[Result, None, Chain]:
        """Another log begins, or the one before goes on, which had ended."""
        last, back = self.chain, self._earlier
        self._close(last)
        if back is not None and back.log == log:
            if back.broken is None:
                back.stop(back.next, f"another log stands in its place; this one goes on in line {self.number}")
            self.chain, self._earlier = back, last
            return back
        if back is not None:
            yield back.result()
        self.chain, self._earlier = Chain(log), last if last.log else None
        return self.chain

    def _malformed(self, line: bytes, what: str) -> Generator[Result, None, Chain]:
        """What is no record counts for the log that it names or, if it names none, for the one that it stands in."""
        log = _log_of(line) or self.chain.log or f"(line {self.number})"
        chain = self.chain if log == self.chain.log else (yield from self._begin(log))
        if _is_cut(line):
            chain.incomplete.append(f"the file ends in the middle of record {chain.next} (line {self.number})")
        elif chain.broken is None:
            chain.stop(chain.next, f"line {self.number}: {what}")
        return chain

    def _close(self, chain: Chain) -> None:
        if not chain.log:  # nothing has been read yet
            return
        missing = chain.close()
        if missing.total:
            said = f"{missing.total} payloads are missing and no `erased` entry says so, the first of record"
            chain.incomplete.append(f"{said} {missing.first}")
        if self.payloads is not None:
            self.payloads.end_of(chain)


class Payloads:
    """The second file, read along with the first one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines = enumerate(_lines(file, MAX_PAYLOAD), 1)
        self._size = 0
        self._line: Line | None = None
        """The next one; None at the end."""
        self._strays: Chain | None = None
        self._advance()

    @property
    def position(self) -> int | None:
        """The byte at which the next payload begins; None if one came before that is no record's."""
        return self._file.tell() - self._size if self._strays is None else None

    def of(self, record: Record, chain: Chain) -> list[Given]:
        """The payloads of this record in order of its commitments, then what else claims to be one."""
        log, seq = record.log, record.seq
        if self._line is not None and self._line[:2] < (log, seq):
            self._pass_by(chain, seq)
        found: list[Given] = []
        for commitment in record.commitments:
            line = self._line
            if line is None or line.seq != seq or line.log != log:
                found.append(None)
            elif line.h == commitment["h"] or isinstance(line.payload, str):
                found.append(line.payload)
                self._advance()
            else:
                found.append(None)
        while self._line is not None and self._line.seq == seq and self._line.log == log:
            found.append("there is a payload that it does not commit to")
            self._advance()
        return found

    def end_of(self, chain: Chain) -> None:
        """Pass what is left of a log."""
        self._pass_by(chain, chain.next)
        line = self._line
        if line is not None and line.log == chain.log and chain.broken is None:
            chain.fail(chain.next, f"it is missing: there is a payload of record {line.seq}, so the tail was cut")
        while self._line is not None and self._line.log == chain.log:
            self._advance()

    def rest(self) -> Iterator[Result]:
        """What belongs to no log of the first file."""
        while self._line is not None:
            self._stray(self._line)
            self._advance()
        if self._strays is not None:
            yield self._strays.result()

    def _pass_by(self, chain: Chain, seq: int) -> None:
        """Pass what stands before this place and is no record's."""
        while self._line is not None and self._line[:2] < (chain.log, seq):
            line = self._line
            if line.log != chain.log:
                self._stray(line)
            elif chain.broken is None:
                chain.fail(line.seq, "there is a payload that it does not commit to, or that stands out of place")
            self._advance()

    def _stray(self, line: Line) -> None:
        if self._strays is None:
            self._strays = Chain(line.log or "(payloads)")
            self._strays.incomplete.append("there are payloads of it, but no records that they belong to")
        if isinstance(line.payload, str):
            self._strays.fail(None, line.payload)

    def _advance(self) -> None:
        self._line, self._size = None, 0
        for number, text in self._lines:
            line, self._size = payload_of(text, number), len(text)
            if line.log:
                self._line = line
                return
            self._stray(line)


def payload_of(line: bytes, number: int) -> Line:
    """The payload of a line of the second file."""
    try:
        value, _ = _decode(line.decode())
        log, seq, h, salt = value["log"], value["seq"], value["h"], bytes.fromhex(value["salt"])
        data = value["data"].encode() if "data" in value else base64.b64decode(value["b64"], validate=True)
        if type(log) is str and log and type(seq) is int and seq >= 0 and type(h) is str and len(salt) == _SALT:
            return Line(log, seq, h, (salt, data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    place = _PLACE.match(line[:400].decode(errors="replace"))
    log, seq = (place[1], int(place[2])) if place else ("", -1)
    return Line(log, seq, "", f"line {number} of the payloads can't be read")


def _lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Lines with their line feeds. What is longer comes in pieces, which are no records."""
    return iter(partial(file.readline, longest), b"")


def _is_cut(line: bytes) -> bool:
    """Whether the file ends within this line: no line feed, and the beginning of a JSON text at most."""
    if line[-1] == _LINE_FEED or len(line) >= MAX_RECORD:
        return False
    try:
        _decode(line.decode(errors="ignore"))
    except (ValueError, RecursionError):
        return True
    return False


def _log_of(line: bytes) -> str | None:
    """The log that a malformed record says it belongs to, if it says so."""
    try:
        log = json.loads(line)["log"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return log if isinstance(log, str) and log.isprintable() else None
