"""The bus in the SQLite file of the store: durable, with sessions, delivery times and leases that survive nobody.

bus        what others use: send, accept, and the plain functions for a transaction shared with the store
session    one held session
table      what a transaction does to the tables, as functions of a connection
statements the tables and every statement, by name
process    who holds leases, and whether it still lives
renewal    the thread that renews them
"""

from aos.messaging.embedded.bus import EmbeddedBus

__all__ = ["EmbeddedBus"]
