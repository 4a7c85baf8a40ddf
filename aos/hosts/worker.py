"""The worker: takes sessions from a bus that hosts pull from, and has the dispatcher work on them (P23, P24).

A session is held as long as it has messages. What the dispatcher could not do because store or bus are away is
waited for under the lock and then given back; nothing is ever counted as an attempt that was not one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from signal import SIGINT, SIGTERM
from typing import Any

from aos.app import AgentOperatingSystem
from aos.hosts.watchdog import Watchdog
from aos.kernel.address import Address
from aos.kernel.errors import Unavailable
from aos.kernel.ports import Delivery, LockLost, Session

log = logging.getLogger("aos")

IDLE_WAIT = 5.0
"""Seconds that a look for work may wait; a message wakes it at once."""
MAX_PAUSE = 60.0
RENEWAL = 3.0
"""Seconds between renewals of a lock while waiting under it."""
PATIENCE = 50
"""Batches after which a session that always has messages goes to the back of the queue."""


class Worker:
    """Works on what is sent: `async with AgentOperatingSystem(…) as aos, Worker(aos): …`."""

    def __init__(
        self, aos: AgentOperatingSystem, *, sessions: int = 64, batch: int = 32, watchdog: float = 0.0
    ) -> None:
        """`sessions`: agents worked on at a time. `batch`: events taken at a time. `watchdog`: seconds for which a
        handler may block the event loop before the process ends; 0: for ever."""
        self._aos = aos
        self._sessions = sessions
        self._batch = batch
        self._watchdog = Watchdog(watchdog) if watchdog else None
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._free = asyncio.Event()

    async def __aenter__(self) -> Worker:
        self._stopping.clear()
        if self._watchdog is not None:
            self._watchdog.start()
        self._loop = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Take nothing new, finish what is in hand, give the sessions back."""
        self._stopping.set()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
            self._loop = None
        if self._running:
            await asyncio.wait(self._running)
        if self._watchdog is not None:
            self._watchdog.stop()

    async def _accept(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            try:
                sessions = await self._aos.bus.accept(self._sessions - len(self._running), wait=IDLE_WAIT)
                pause = 1.0
            except Exception as error:
                log.warning("no work can be taken: %s", error, exc_info=not isinstance(error, Unavailable))
                await self._aos.clock.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)
                continue
            for session in sessions:
                self._start(session)
            while len(self._running) >= self._sessions:
                self._free.clear()
                await self._free.wait()

    def _start(self, session: Session) -> None:
        task = asyncio.create_task(self._serve(session))
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("a session ended with an error", exc_info=task.exception())

    async def _serve(self, session: Session) -> None:
        """One session until it has no messages, the lock is lost, or others have waited long enough."""
        agent = Address.parse(session.name)
        try:
            for _ in range(PATIENCE):
                if self._stopping.is_set():
                    break
                deliveries = await session.receive(self._batch)
                if not deliveries:
                    break
                await self._work(agent, session, deliveries)
        except LockLost:
            log.info("%s: the session's lock was lost; its messages are delivered again", agent)
        except Exception as error:
            log.warning("%s: the session can't go on: %s", agent, error, exc_info=not isinstance(error, Unavailable))
            await self._wait(session, RENEWAL)
        finally:
            await session.release()

    async def _work(self, agent: Address, session: Session, deliveries: Sequence[Delivery]) -> None:
        pause = 1.0
        while True:
            try:
                done = await self._aos.dispatcher.dispatch(agent, deliveries)
                if done:
                    await session.complete(done)
                return
            except Unavailable as error:
                log.warning("%s: waiting under the lock: %s", agent, error)
                if self._stopping.is_set():
                    return
                await self._wait(session, pause)
                pause = min(pause * 2, MAX_PAUSE)
            except LockLost:
                raise
            except Exception:
                # A fault of ours: given back as a failed delivery, so that the event is found out in the end (P18).
                log.exception("%s: a turn ended with an error that nobody foresaw", agent)
                await session.abandon(deliveries, self._aos.clock.now() + _back_off(deliveries))
                return

    async def _wait(self, session: Session, pause: float) -> None:
        """Wait, renewing the lock, and not longer than there is a reason to."""
        end = self._aos.clock.monotonic() + pause
        while not self._stopping.is_set() and (left := end - self._aos.clock.monotonic()) > 0:
            stopping = asyncio.ensure_future(self._stopping.wait())
            sleeping = asyncio.ensure_future(self._aos.clock.sleep(min(left, RENEWAL)))
            try:
                await asyncio.wait({stopping, sleeping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                sleeping.cancel()
            try:
                await session.renew()
            except (Unavailable, LockLost) as error:
                log.warning("the lock could not be renewed: %r", error)


async def serve(aos: AgentOperatingSystem, **options: Any) -> None:
    """Work until SIGTERM or SIGINT, then end gracefully: nothing new is taken, what is in hand is finished, sessions
    are given back. `options` are `Worker`'s."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal in (SIGTERM, SIGINT):
        loop.add_signal_handler(signal, stop.set)
    try:
        async with Worker(aos, **options):
            await stop.wait()
    finally:
        for signal in (SIGTERM, SIGINT):
            loop.remove_signal_handler(signal)


def _back_off(deliveries: Sequence[Delivery]) -> int:
    """ms: a second, then twice as long with every delivery, up to a minute."""
    count = max(delivery.count for delivery in deliveries)
    return int(min(2 ** min(count - 1, 10), MAX_PAUSE) * 1000)
