"""Every statement of the SQLite store, by name."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = (
    # One row an agent. Version 0, head NULL: it has rows (a journal) but was never committed.
    "CREATE TABLE agents (id INTEGER PRIMARY KEY, log TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, head BLOB)",
    # Everything else of an agent. A rowid table with an index, because rows over 1 KB spill out of WITHOUT ROWID
    # into overflow pages: three quarters more speed, half the disk, half the WAL (PERFORMANCE 1).
    "CREATE TABLE rows (agent INTEGER NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX rows_key ON rows (agent, key)",
    # Rows of lists. Body NULL: off the list, kept for its sequence.
    "CREATE TABLE lists (partition TEXT NOT NULL, key TEXT NOT NULL, sequence INTEGER NOT NULL, body BLOB)",
    "CREATE UNIQUE INDEX lists_key ON lists (partition, key)",
)

LOAD: Final = (  # the head, once for each outbox row: one statement, so that all of it is of one moment
    "SELECT version, head, rows.key, body FROM agents LEFT JOIN rows "
    "ON agent = agents.id AND rows.key >= '1o' AND rows.key < '1p' WHERE log = ? ORDER BY rows.key"
)
FIND: Final = "SELECT id, version FROM agents WHERE log = ?"  # what a commit's condition is checked against
CREATE: Final = "INSERT INTO agents (log, version, head) VALUES (?, ?, ?)"  # an agent's first commit or row
ADVANCE: Final = "UPDATE agents SET version = ?, head = ? WHERE id = ?"  # a turn's new head
BODY: Final = "SELECT body FROM rows WHERE agent = ? AND key = ?"  # what an EXPECT is compared with
EXISTS: Final = "SELECT 1 FROM rows WHERE agent = ? AND key = ?"  # what an INSERT must not find

INSERT: Final = "INSERT INTO rows (agent, key, body) VALUES (?, ?, ?)"  # a row that EXISTS did not find
PUT: Final = f"{INSERT} ON CONFLICT (agent, key) DO UPDATE SET body = excluded.body"  # a row, old or new
DELETE: Final = "DELETE FROM rows WHERE agent = ? AND key = ?"  # no row

_RANGE = (
    "SELECT key, body FROM rows WHERE agent = (SELECT id FROM agents WHERE log = ?) "
    "AND key >= ? AND key < ? ORDER BY key"
)
READ: Final = f"{_RANGE} LIMIT ?"  # rows of a kind, ascending
READ_DOWN: Final = f"{_RANGE} DESC LIMIT ?"  # and descending

INDEX_PUT: Final = (  # a list's row, unless a newer one is there (P28)
    "INSERT INTO lists (partition, key, sequence, body) VALUES (?, ?, ?, ?) ON CONFLICT (partition, key) "
    "DO UPDATE SET sequence = excluded.sequence, body = excluded.body WHERE excluded.sequence > lists.sequence"
)
INDEX_LIST: Final = (  # a page of a list
    "SELECT partition, key, sequence, body FROM lists "
    "WHERE partition = ? AND key > ? AND body IS NOT NULL ORDER BY key LIMIT ?"
)
AGENTS: Final = (  # a page of all agents
    "SELECT log FROM agents WHERE log > ? AND head IS NOT NULL ORDER BY log LIMIT ?"
)

BLOBS_SCHEMA: Final = ("CREATE TABLE blobs (name TEXT PRIMARY KEY, data BLOB NOT NULL)",)
BLOB_GET: Final = "SELECT data FROM blobs WHERE name = ?"  # one blob
BLOB_PUT: Final = "INSERT INTO blobs (name, data) VALUES (?, ?)"  # a new blob
BLOB_DELETE: Final = "DELETE FROM blobs WHERE name = ?"  # gone
BLOB_LIST: Final = "SELECT name FROM blobs WHERE name >= ? AND name > ? ORDER BY name LIMIT ?"  # to the end
BLOB_LIST_TO: Final = (  # and to where the prefix ends
    "SELECT name FROM blobs WHERE name >= ? AND name > ? AND name < ? ORDER BY name LIMIT ?"
)
