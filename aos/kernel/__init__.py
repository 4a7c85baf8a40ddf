"""The kernel: one event comes in, one atomic turn happens, and it can be proved.

Imports the standard library and pydantic only. What it needs of the world (a store, a bus, a gate,
a clock, randomness, a calendar) it takes through `aos.kernel.ports`.
"""
