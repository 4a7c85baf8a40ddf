"""One turn of an agent at a time in this process; what waits meanwhile becomes the next batch (P15)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aos.kernel.address import Address
from aos.kernel.item import Item

Work = Callable[[Address, list[Item], "Mailbox"], Awaitable[None]]


@dataclass(slots=True)
class Mailbox:
    """What waits for one agent."""

    waiting: deque[tuple[list[Item], asyncio.Future[None]]] = field(
        default_factory=deque[tuple[list[Item], "asyncio.Future[None]"]]
    )
    delivered: list[str] = field(default_factory=list[str])
    """Outbox rows that were delivered and are still there: removal rides on the next commit (P16)."""


class Mailboxes:
    """Mailboxes by agent; one exists only while its agent has work."""

    def __init__(self, work: Work, batch: int) -> None:
        self._work = work
        self._batch = batch
        self._boxes: dict[Address, Mailbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, agent: Address, items: list[Item]) -> None:
        """Have the items worked on; returns when they are, or raises what the work raised. A caller that is cancelled
        leaves the work to go on: a turn is never cut in the middle because somebody stopped waiting for it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        box = self._boxes.get(agent)
        if box is None:
            box = self._boxes[agent] = Mailbox()
            self._start(agent, box)
        box.waiting.append((items, future))
        await future

    async def work(self, agent: Address, items: list[Item]) -> None:
        """As `put`, on the caller's own task where nobody is at work: for hosts, which nobody cancels in the middle."""
        if agent in self._boxes:
            await self.put(agent, items)
            return
        box = self._boxes[agent] = Mailbox()
        try:
            await self._work(agent, items, box)
        finally:
            if box.waiting:
                self._start(agent, box)
            else:
                del self._boxes[agent]

    async def close(self) -> None:
        """Wait for the turns that are under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def kill(self) -> None:
        """Drop everything at once, as a crash would."""
        for task in self._tasks:
            task.cancel()

    def _start(self, agent: Address, box: Mailbox) -> None:
        task = asyncio.create_task(self._drain(agent, box))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, agent: Address, box: Mailbox) -> None:
        try:
            while box.waiting:
                items, futures = self._take(box)
                await self._one(agent, box, items, futures)
        finally:
            del self._boxes[agent]

    async def _one(self, agent: Address, box: Mailbox, items: list[Item], futures: list[asyncio.Future[None]]) -> None:
        try:
            await self._work(agent, items, box)
        except Exception as error:
            _settle(futures, error)
        except BaseException as error:
            _settle([*futures, *(future for _, future in box.waiting)], error)
            box.waiting.clear()
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
        else:
            _settle(futures, None)

    def _take(self, box: Mailbox) -> tuple[list[Item], list[asyncio.Future[None]]]:
        """Whole entries, as many as fit a batch; at least one."""
        items, future = box.waiting.popleft()
        items, futures = list(items), [future]
        while box.waiting and len(items) + len(box.waiting[0][0]) <= self._batch:
            more, future = box.waiting.popleft()
            items += more
            futures.append(future)
        return items, futures


def _settle(futures: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
