"""What a transaction does to the tables: functions of a connection that is inside one.

None of them changes anything but the file, because a transaction may be carried out more than once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aos.kernel.ports import LockLost, Parcel
from aos.messaging.embedded import statements as sql

LEASE: Final = 10_000
"""How long a lease lasts, ms. The same in every process, because they judge each other by it (P31)."""

READ_AHEAD: Final = 32
"""Messages that come with a grant: what a turn takes at most. A holder that is gone may have had as many in hand."""

READ_AHEAD_BYTES: Final = 256 * 1024
PROMOTED: Final = 500
"""Messages that become due in one transaction: a storm of timers must not keep the loop."""


class Message(NamedTuple):
    """A due message."""

    n: int
    id: str
    delivered: int
    """How often a holder had it and neither completed nor released it."""
    body: bytes


class Lease(NamedTuple):
    """The right to a session. `fence` is never used twice by one owner, and an owner's number never again."""

    name: str
    owner: int
    fence: int


class Grant(NamedTuple):
    """A new lease with the first messages of its session."""

    lease: Lease
    messages: list[Message]


def put(conn: sqlite3.Connection, parcels: Sequence[Parcel], now: int) -> None:
    """Send."""
    later = [None if parcel.due is None or parcel.due <= now else parcel.due for parcel in parcels]
    rows = [(parcel.session, parcel.id, due, parcel.body) for parcel, due in zip(parcels, later, strict=True)]
    conn.executemany(sql.INSERT, rows)
    # Within one transaction the numbers are consecutive.
    first = conn.execute(sql.LAST).fetchone()[0] - len(rows) + 1
    _enlist(conn, ((session, n) for n, (session, _, due, _) in enumerate(rows, first) if due is None))


def promote(conn: sqlite3.Connection, now: int) -> None:
    """Make due what its time has come for, as much of it as fits into one transaction."""
    found = conn.execute(sql.OVERDUE, (now, PROMOTED)).fetchall()
    conn.executemany(sql.PROMOTE, [(n,) for _, n in found])
    _enlist(conn, found)


def free_sessions(conn: sqlite3.Connection, limit: int) -> list[str]:
    """Who has waited longest for a holder."""
    return [name for (name,) in conn.execute(sql.FREE, (limit,))]


def grant(conn: sqlite3.Connection, lease: Lease) -> Grant:
    """Give a free session to a holder, with its first messages read in the same moment."""
    conn.execute(sql.GRANT, (lease.owner, lease.fence, lease.name))
    messages: list[Message] = []
    size = 0
    for row in conn.execute(sql.FIRST, (lease.name, READ_AHEAD)):
        messages.append(Message._make(row))
        size += len(messages[-1].body)
        if size >= READ_AHEAD_BYTES:
            break
    return Grant(lease, messages)


def holds(conn: sqlite3.Connection, lease: Lease) -> bool:
    return conn.execute(sql.HELD, lease).fetchone() is not None


def check(conn: sqlite3.Connection, lease: Lease) -> None:
    if not holds(conn, lease):
        raise LockLost(lease.name)


def remove(conn: sqlite3.Connection, lease: Lease, numbers: Sequence[int]) -> None:
    """Complete."""
    check(conn, lease)
    delete(conn, numbers)


def delete(conn: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """These messages are done."""
    conn.executemany(sql.DELETE, [(n,) for n in numbers])


def give_back(conn: sqlite3.Connection, lease: Lease, numbers: Sequence[int], due: int | None) -> None:
    """Abandon."""
    check(conn, lease)
    conn.executemany(sql.GIVE_BACK, [(due, n) for n in numbers])


def release(conn: sqlite3.Connection, lease: Lease) -> bool:
    """End a lease. True: the session is free for somebody else, because more is due. A lost lease is left alone."""
    if conn.execute(sql.CLOSE, lease).rowcount:
        return False
    return conn.execute(sql.REQUEUE, lease).rowcount > 0


def register(conn: sqlite3.Connection, client: str, now: int) -> tuple[int, int]:
    """The number of this holder, and until when its leases, prolonged by this, last."""
    found = conn.execute(sql.REGISTERED, (client,)).fetchone()
    until = now + LEASE
    if found is None:
        return conn.execute(sql.REGISTER, (client, until)).lastrowid or 0, until
    if found[1] < until:
        conn.execute(sql.RENEW, (until, client))
    return found[0], max(until, found[1])


def renew(conn: sqlite3.Connection, client: str, lease: Lease, now: int) -> int:
    """Prolong all leases of the holder of `lease`; until when."""
    check(conn, lease)
    conn.execute(sql.RENEW, (now + LEASE, client))
    return conn.execute(sql.REGISTERED, (client,)).fetchone()[1]


def take_over(conn: sqlite3.Connection, dead: Iterable[int], now: int) -> None:
    """Free the sessions of holders that are dead or did not renew."""
    expired = [owner for (owner,) in conn.execute(sql.EXPIRED, (now,))]
    for owner in {*dead, *expired}:
        for lease in _leases(conn, owner):
            conn.execute(sql.COUNT_UP, (lease.name, READ_AHEAD))
            release(conn, lease)
        conn.execute(sql.FORGET, (owner,))


def leave(conn: sqlite3.Connection, client: str) -> None:
    """A holder goes: all its leases end now, and nothing it had in hand counts as delivered."""
    found = conn.execute(sql.REGISTERED, (client,)).fetchone()
    if found is not None:
        for lease in _leases(conn, found[0]):
            release(conn, lease)
        conn.execute(sql.FORGET, (found[0],))


def _leases(conn: sqlite3.Connection, owner: int) -> list[Lease]:
    return [Lease._make(row) for row in conn.execute(sql.HELD_BY, (owner,)).fetchall()]


def _enlist(conn: sqlite3.Connection, due: Iterable[tuple[str, int]]) -> None:
    conn.executemany(sql.ENLIST, due)
