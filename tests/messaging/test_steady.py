"""Time for locks."""

from __future__ import annotations

from aos.messaging.conformance import ManualClock
from aos.messaging.steady import SteadyTime


def test_p31_follows_the_clock() -> None:
    clock = ManualClock(1_000_000)
    time = SteadyTime(clock)
    assert time.now() == 1_000_000
    clock.advance(2.5)
    assert time.now() == 1_002_500
    clock.set_back(-3600)
    assert time.now() == 4_602_500


def test_p31_goes_on_when_the_clock_is_set_back() -> None:
    clock = ManualClock(1_000_000)
    time = SteadyTime(clock)
    clock.set_back(600)
    assert time.now() == 1_000_000
    for _ in range(1000):  # no drift, however often it is asked
        clock.advance(0.0015)
        time.now()
    assert time.now() == 1_001_500
    clock.advance(1000)
    assert time.now() == 2_001_500


def test_p31_is_at_least_as_late_as_others_are() -> None:
    clock = ManualClock(1_000_000)
    time = SteadyTime(clock)
    time.reach(900_000)
    assert time.now() == 1_000_000
    time.reach(1_500_000)
    assert time.now() == 1_500_000
    clock.advance(1)
    assert time.now() == 1_501_000
