"""The tables of the embedded bus and every statement on them.

No statement reads more than it gives out: what is due, what is later, who is free and who is held are each found at
the beginning of an index, whatever else is in the file.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1

TABLES: Final = (
    # Messages. `due` NULL: now. AUTOINCREMENT: a number is never used again, so a late deletion hits nothing else.
    """CREATE TABLE bus (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        session TEXT NOT NULL,
        id TEXT NOT NULL,
        due INTEGER,
        count INTEGER NOT NULL DEFAULT 0,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX bus_ready ON bus (session) WHERE due IS NULL",
    "CREATE INDEX bus_later ON bus (due) WHERE due IS NOT NULL",
    # Sessions with a due message or a holder. `owner` 0: free, the lowest `turn` first.
    """CREATE TABLE bus_session (
        name TEXT PRIMARY KEY,
        owner INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        turn INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX bus_turn ON bus_session (owner, turn)",
    # Holders of leases. All leases of one holder end together: renewing them is one row, however many they are.
    """CREATE TABLE bus_owner (
        owner INTEGER PRIMARY KEY AUTOINCREMENT,
        process TEXT NOT NULL UNIQUE,
        until INTEGER NOT NULL
    )""",
)

# -------------------------------------------------------------------------------------------------- messages

LAST: Final = "SELECT last_insert_rowid()"
"""The number of the message that was sent last."""

INSERT: Final = "INSERT INTO bus (session, id, due, body) VALUES (?, ?, ?, ?)"
"""Send a message."""

DELETE: Final = "DELETE FROM bus WHERE n = ?"
"""A message is done."""

GIVE_BACK: Final = "UPDATE bus SET count = count + 1, due = ? WHERE n = ?"
"""A message was abandoned."""

OVERDUE: Final = "SELECT session, n FROM bus WHERE due <= ? ORDER BY due LIMIT ?"
"""Messages whose time has come."""

PROMOTE: Final = "UPDATE bus SET due = NULL WHERE n = ?"
"""A message's time has come."""

FIRST: Final = "SELECT n, id, count, body FROM bus WHERE session = ? AND due IS NULL ORDER BY n LIMIT ?"
"""The first due messages of a session."""

COUNT_UP: Final = """UPDATE bus SET count = count + 1 WHERE n IN
    (SELECT n FROM bus WHERE session = ? AND due IS NULL ORDER BY n LIMIT ?)"""
"""The first due messages of a session may have been in the hand of a holder that is gone."""

DEPTH: Final = "SELECT COUNT(*) FROM bus WHERE due IS NULL OR due <= ?"
"""Messages that are not completed, as far as they are due by a time."""

# -------------------------------------------------------------------------------------------------- sessions

ENLIST: Final = "INSERT INTO bus_session (name, owner, fence, turn) VALUES (?, 0, 0, ?) ON CONFLICT (name) DO NOTHING"
"""A session has a due message; unless it is known already, its turn is in the order of sending."""

FREE: Final = "SELECT name FROM bus_session WHERE owner = 0 ORDER BY turn LIMIT ?"
"""The sessions that have waited longest for a holder."""

GRANT: Final = "UPDATE bus_session SET owner = ?, fence = ? WHERE name = ?"
"""A session gets a holder."""

HELD: Final = "SELECT 1 FROM bus_session WHERE name = ? AND owner = ? AND fence = ?"
"""The lease still stands."""

HELD_BY: Final = "SELECT name, owner, fence FROM bus_session WHERE owner = ?"
"""The leases of one holder."""

CLOSE: Final = """DELETE FROM bus_session WHERE name = ? AND owner = ? AND fence = ?
    AND NOT EXISTS (SELECT 1 FROM bus WHERE session = name AND due IS NULL)"""
"""A lease ends and nothing is due: the session is forgotten."""

REQUEUE: Final = """UPDATE bus_session SET owner = 0, fence = 0,
    turn = (SELECT coalesce(max(turn), 0) + 1 FROM bus_session WHERE owner = 0)
    WHERE name = ? AND owner = ? AND fence = ?"""
"""A lease ends and more is due: behind all that are free now, so that a busy session starves nobody."""

# ---------------------------------------------------------------------------------------------------- owners

REGISTER: Final = "INSERT INTO bus_owner (process, until) VALUES (?, ?)"
"""A holder appears."""

REGISTERED: Final = "SELECT owner, until FROM bus_owner WHERE process = ?"
"""A holder's number, and until when its leases last."""

RENEW: Final = "UPDATE bus_owner SET until = max(until, ?) WHERE process = ?"
"""All leases of a holder last longer."""

OWNERS: Final = "SELECT owner, process FROM bus_owner"
"""All holders."""

EXPIRED: Final = "SELECT owner FROM bus_owner WHERE until <= ?"
"""Holders that did not renew."""

FORGET: Final = "DELETE FROM bus_owner WHERE owner = ?"
"""A holder is gone."""

# ----------------------------------------------------------------------------- read without a transaction

LOOK: Final = """SELECT
    (SELECT 1 FROM bus_session WHERE owner = 0),
    (SELECT min(due) FROM bus WHERE due IS NOT NULL),
    (SELECT min(until) FROM bus_owner),
    (SELECT max(until) FROM bus_owner),
    (SELECT 1 FROM bus_owner WHERE owner <> ?)"""
"""Is there anything to claim, when will there be, how late is it for the holders, and are there other ones?"""

STATE: Final = """SELECT held, later, n FROM
    (SELECT (SELECT 1 FROM bus_session WHERE name = ? AND owner = ? AND fence = ?) AS held,
            (SELECT min(due) FROM bus WHERE due IS NOT NULL) AS later)
    LEFT JOIN (SELECT n FROM bus WHERE session = ? AND due IS NULL ORDER BY n LIMIT ?)"""
"""Is the lease held, when does the next message become due, and what is due here, by number (of the index alone)?
One row at least: its `n` is NULL when nothing is due."""

MESSAGES: Final = """SELECT n, id, count, body FROM bus WHERE session = ? AND due IS NULL AND n BETWEEN ? AND ?
    ORDER BY n"""
"""Due messages of a session."""
