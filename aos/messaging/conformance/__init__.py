"""What every bus must do, as functions that need no test framework.

    from aos.messaging.conformance import run
    asyncio.run(run(lambda: MyBench()))         # raises Broken at the first thing that is not as it should be

A `Bench` supplies a fresh shared state, clients of it and the clock that they go by. A test suite would rather call the
functions in `CHECKS` one by one: each takes a bench and stands alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from aos.messaging.conformance import locks, sessions, settling, times, waiting
from aos.messaging.conformance.bench import Bench, ManualClock
from aos.messaging.conformance.tools import Broken

__all__ = ["CHECKS", "Bench", "Broken", "Check", "ManualClock", "run"]

Check: TypeAlias = Callable[[Bench], Awaitable[None]]

CHECKS: tuple[Check, ...] = (
    sessions.delivers_in_the_order_of_sending,
    sessions.keeps_sessions_apart,
    sessions.tells_its_depth,
    sessions.gives_a_session_to_one_holder,
    sessions.hands_nothing_out_twice,
    sessions.hands_the_holder_what_is_sent_meanwhile,
    sessions.starves_nobody,
    settling.completed_is_gone,
    settling.abandoned_comes_again,
    settling.abandoned_until_later,
    settling.release_leaves_the_count,
    settling.delivers_the_same_id_as_often_as_sent,
    settling.carries_a_megabyte,
    settling.carries_any_name,
    times.delivers_nothing_early,
    times.hands_the_holder_what_becomes_due,
    times.a_timer_holds_nothing_up,
    locks.a_dead_holder_loses_its_lock,
    locks.a_lock_ends_when_nobody_renews,
    locks.renewal_prolongs,
    locks.a_stale_holder_can_do_nothing,
    locks.every_lock_lasts_a_period,
    locks.a_client_can_lose_a_lock_to_itself,
    locks.a_stale_holder_finds_out_before_it_receives,
    locks.released_is_lost,
    locks.a_clock_set_back_frees_nothing_and_freezes_nothing,
    waiting.accept_returns_at_once,
    waiting.accept_gives_up,
    waiting.accept_wakes_when_something_is_sent,
    waiting.accept_wakes_when_another_client_sends,
    waiting.accept_wakes_when_something_is_due,
    waiting.accept_wakes_when_a_session_is_freed,
)


async def run(make: Callable[[], AbstractAsyncContextManager[Bench]]) -> None:
    """Run every check on a bench of its own."""
    for check in CHECKS:
        async with make() as bench:
            await check(bench)
