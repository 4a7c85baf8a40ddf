"""Which process holds a lease, and does it still live?

A process is named by where it runs, its pid and its start time, so that neither a pid that was given away again nor
one of another container is mistaken for it. What can't be known (no /proc, another machine or container) is taken to
live: then its leases end by expiry.
"""

from __future__ import annotations

import itertools
import os
from functools import cache
from pathlib import Path

_clients = itertools.count(1)
_dead_clients: set[str] = set()


def new_client() -> str:
    """A name for one more client of this process."""
    place, start = _here(os.getpid())
    return f"{place} {os.getpid()} {start} {next(_clients)}"


def declare_dead(client: str) -> None:
    """This client, of this very process, will never do anything again."""
    _dead_clients.add(client)


def is_dead(client: str) -> bool:
    """True only if it certainly is."""
    if client in _dead_clients:
        return True
    place, pid, start, _ = client.split(" ")
    if int(pid) == os.getpid() or not start.isdigit() or place != _here(os.getpid())[0]:
        return False
    return _start(int(pid)) not in (start, None)


@cache
def _here(pid: int) -> tuple[str, str]:
    """Where this process runs and when it started; asked again after a fork."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return "-", "-"
    return f"{boot}:{space}", _start(pid) or "-"


def _start(pid: int) -> str | None:
    """When the process started, in the kernel's words; "gone" if it has ended, None if that can't be known."""
    try:
        # The name, in parentheses, may hold anything; behind it come state (3) and, as 22nd field, the start time.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return _gone(pid)
    # Killed, but its parent has not asked how it ended: it will never run again.
    return "gone" if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")


def _gone(pid: int) -> str | None:
    """/proc does not show it: it may belong to another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:
        return None
    return None
