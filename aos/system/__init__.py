"""Agents that ship with the system, and the calendar: built on the kernel, with no machinery of their own."""
