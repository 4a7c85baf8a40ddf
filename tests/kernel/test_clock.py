"""The machine's randomness is fetched by the page, and never handed out twice."""

from __future__ import annotations

import subprocess
import sys

from aos.kernel.clock import PAGE, SystemEntropy


def test_no_bytes_are_handed_out_twice() -> None:
    entropy = SystemEntropy()
    found = [entropy.bytes(16) for _ in range(PAGE)]
    assert len(set(found)) == len(found)
    assert {len(entropy.bytes(n)) for n in (1, PAGE - 1, PAGE, PAGE + 1)} == {1, PAGE - 1, PAGE, PAGE + 1}


def test_a_forked_child_draws_others() -> None:
    script = """
import os
from aos.kernel.clock import SystemEntropy
entropy = SystemEntropy()
entropy.bytes(16)
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, entropy.bytes(16))
    os._exit(0)
os.wait()
print(os.read(read, 16) != entropy.bytes(16))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
