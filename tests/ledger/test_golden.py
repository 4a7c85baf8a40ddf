"""Records of every version of the format, as they were written: what comes later must still verify them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aos.kernel import exported, ledger
from aos.kernel.canonical import parse

FOLDER = Path(__file__).parent / "golden"
HEADS = {
    "v1.jsonl": {
        "acme/order/Ünter den Linden 1": "b76dd07fcf1c54e3efefd221be051aab0c80ad83de07e0785e1f50f8238877ee",
        "default/order/4711": "d243203cf92e4c7e80e935db4419806247de8de2a39523c49d2790aec2fd7f83",
    }
}
FILES = pytest.mark.parametrize("name", HEADS)


@FILES
def test_golden_records_verify(name: str) -> None:
    path = FOLDER / name
    with path.open("rb") as records, exported.payloads_beside(path).open("rb") as payloads:
        results = list(exported.verify(records, payloads))
    assert {result.log: result.head for result in results} == HEADS[name]
    assert [result.exit for result in results] == [0] * len(results)
    assert sum(result.payloads for result in results) > sum(result.erased for result in results) > 0


@FILES
def test_the_kernel_reads_golden_records(name: str) -> None:
    for line in (FOLDER / name).read_bytes().splitlines():
        assert parse(line)["v"] == 1


@FILES
def test_a_link_with_nothing_but_sha256sum(name: str) -> None:
    """The pipeline of the README, on each record and the one after it."""
    records = (FOLDER / name).read_bytes().splitlines()[1:]
    for n, following in enumerate(records[1:], 3):
        script = f"{{ printf '\\0'; sed -n {n - 1}p {name} | tr -d '\\n'; }} | sha256sum"
        done = subprocess.run(["bash", "-c", script], cwd=FOLDER, capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == parse(following)["prev"] == ledger.leaf(records[n - 3])


def test_the_genesis_link_with_nothing_but_sha256sum() -> None:
    script = "printf 'aos/ledger/v1\\ndefault/order/4711' | sha256sum"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == parse((FOLDER / "v1.jsonl").read_bytes().splitlines()[1])["prev"]
