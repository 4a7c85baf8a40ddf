"""Time for locks: it neither goes back nor stands still (P31)."""

from __future__ import annotations

from aos.kernel.ports import Clock


class SteadyTime:
    """The clock, or where the clock fell behind, the highest time known plus what has elapsed since.

    With the clock alone a correction backwards would keep a dead holder's lock for as long as it went back; with
    the highest time alone nothing would expire until the clock got there again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # One tuple, replaced whole: the thread that renews leases reads it while the loop replaces it.
        self._anchor = (clock.now(), clock.monotonic())

    def now(self) -> int:
        """Milliseconds since the epoch."""
        clock, elapsed = self._clock.now(), self._clock.monotonic()
        reached, since = self._anchor
        steady = reached + int((elapsed - since) * 1000)
        if clock <= steady:
            return steady
        self._anchor = (clock, elapsed)
        return clock

    def reach(self, seen: int) -> None:
        """Others got as far as `seen`: so it is at least that late."""
        if seen > self.now():
            self._anchor = (seen, self._clock.monotonic())
