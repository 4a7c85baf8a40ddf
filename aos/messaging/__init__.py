"""Buses: at-least-once messages, in order within a session, with delivery times."""
