"""`aos verify FILE`: what it takes, what it prints, and the four exit codes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aos.kernel.address import Address
from tests.ledger.chains import ORDER, OTHER, chain, lines, payload_lines, write
from tests.ledger.program import PROGRAM, aos


def test_version(tmp_path: Path) -> None:
    from aos import __version__

    assert aos("version", cwd=tmp_path, code=0).strip() == __version__


def test_a_whole_export(tmp_path: Path) -> None:
    turns = chain()
    path = write(tmp_path, [*lines(turns), *lines(chain(OTHER, 2))], payload_lines(ORDER, turns))
    said = aos("verify", path, cwd=tmp_path, code=2)
    assert "INCOMPLETE  default/order/4712: 2 records" in said, "its payloads are not in the second file"
    path = write(tmp_path, lines(turns), payload_lines(ORDER, turns))
    said = aos("verify", "audit.jsonl", cwd=tmp_path, code=0)
    assert "ok          default/order/4711: 6 records, 12 payloads\n" in said
    assert "1 log: 1 ok. 6 records, 12 payloads." in said
    assert f"head {hashlib.sha256(bytes(1) + turns[-1].record).hexdigest()}" in said
    assert "Not proved: that nothing is missing after the last record" in said


def test_an_export_without_payloads_says_so(tmp_path: Path) -> None:
    said = aos("verify", write(tmp_path, lines(chain())), cwd=tmp_path, code=0)
    assert "Not proved: the payloads: none were given." in said


def test_payloads_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, lines(chain()))
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_bytes(b"".join(payload_lines(ORDER, chain())))
    assert "12 payloads" in aos("verify", path, "--payloads", elsewhere, cwd=tmp_path, code=0)
    assert "No such file" in aos("verify", path, "--payloads", "nowhere", cwd=tmp_path, code=2)


def test_an_export_from_a_pipe_and_a_terminal_that_can_not_show_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, lines(chain(Address.of("order", "ü"))))
    script = f'{sys.executable} -c "{PROGRAM}" verify /dev/stdin'
    command = ["bash", "-c", f"cat {path} | PYTHONIOENCODING=ascii {script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "default/order/\\xfc: 6 records" in done.stdout) == (0, True), done.stderr


def test_a_tampered_export(tmp_path: Path) -> None:
    data = lines(chain())
    data[2] = data[2].replace(b'"ms":2', b'"ms":3')
    said = aos("verify", write(tmp_path, [*data, *lines(chain(OTHER))]), cwd=tmp_path, code=1)
    assert "TAMPERED    default/order/4711: 2 records" in said
    assert "first bad sequence 2: its bytes are not those that record 3 links to" in said
    assert "ok          default/order/4712" in said
    assert "2 logs: 1 ok, 1 tampered." in said


def test_an_export_that_was_cut(tmp_path: Path) -> None:
    data = lines(chain())
    said = aos("verify", write(tmp_path, [*data[:3], data[3][:50]]), cwd=tmp_path, code=2)
    assert "the file ends in the middle of record 3" in said


def test_an_empty_export(tmp_path: Path) -> None:
    assert "no records" in aos("verify", write(tmp_path, []), cwd=tmp_path, code=2)


def test_tampered_is_worse_than_incomplete(tmp_path: Path) -> None:
    first, second = lines(chain()), lines(chain(OTHER))
    del first[1]
    aos("verify", write(tmp_path, [*first, *second[:2], second[2][:9]]), cwd=tmp_path, code=1)


def test_json(tmp_path: Path) -> None:
    data = lines(chain(extra={1: [{"k": "moon.landed"}]}))
    data[3] = data[3].replace(b'"ms":3', b'"ms":4')
    found = [
        json.loads(line) for line in aos("verify", write(tmp_path, data), "--json", cwd=tmp_path, code=1).splitlines()
    ]
    assert found[0]["first_bad"] == {"seq": 3, "what": "its bytes are not those that record 4 links to"}
    assert (found[0]["log"], found[0]["status"], found[0]["records"]) == (ORDER.log, "tampered", 3)
    assert found[0]["unknown_kinds"] == {"moon.landed": 1}
    assert (found[1]["exit"], found[1]["tampered"], len(found[1]["not_proved"])) == (1, 1, 3)


def test_nothing_is_printed_raw(tmp_path: Path) -> None:
    """What comes from a file that may be anybody's does not command the terminal."""
    evil = b'{"log":"\\u001b[31m"}\n'
    extra = lines(chain(length=1, extra={0: [{"k": "\x1b[31m"}]}))
    assert "\x1b" not in aos("verify", write(tmp_path, [*extra, evil]), cwd=tmp_path, code=1)


def test_a_file_needs_nothing_heavy(tmp_path: Path) -> None:
    """Quick to start and small: no pydantic, no SQLite, no event loop."""
    path = write(tmp_path, lines(chain()), payload_lines(ORDER, chain()))
    program = """
import sys
from aos.cli import main
try:
    main()
finally:
    print("LOADED", sorted({"pydantic_core", "sqlite3", "asyncio", "azure", "typer", "rich"} & set(sys.modules)))
"""
    assert "LOADED []" in aos("verify", path, cwd=tmp_path, code=0, program=program)


# ---------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing command"),
        (("verify",), "say what to verify"),
        (("verify", "order/1", "--all"), "say what to verify"),
        (("verify", "--what"), "unrecognized arguments"),
        (("verify", "a", "b"), "unrecognized arguments"),
        (("what",), "No such command"),
        (("verify", "nowhere.jsonl"), "there is no file 'nowhere.jsonl', and it is not an agent either"),
        (("verify", "Order/1"), "is not an agent either"),
        (("verify", "order/" + "x" * 300), "over 128 characters"),
        (("verify", "."), "is a folder"),
        (("verify", "order/1", "--payloads", "x"), "--payloads does not go with a store"),
        (("verify", "there.jsonl", "--export", "x"), "--export does not go with a file"),
        (("verify", "there.jsonl", "--home", "x"), "--home does not go with a file"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "there.jsonl").touch()
    assert said in aos(*arguments, cwd=tmp_path, code=3)


def test_help(tmp_path: Path) -> None:
    assert "0 ok, 1 tampered, 2 incomplete" in aos("verify", "--help", cwd=tmp_path, code=0)
    assert "Prove the ledger" in aos("--help", cwd=tmp_path, code=0)


def test_a_crash_does_not_say_tampered(tmp_path: Path) -> None:
    program = "import aos.cli.verify as v; v.main = lambda _: 1 / 0; from aos.cli import main; main()"
    assert "ZeroDivisionError" in aos("verify", "--all", cwd=tmp_path, code=2, program=program)
