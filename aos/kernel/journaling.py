"""Getting one event's journal rows into the store, each at the right moment and under the right fence (P8, P9, P12)."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from typing import TYPE_CHECKING

from aos.kernel import committing, layout
from aos.kernel.effects import GRACE
from aos.kernel.errors import Unavailable
from aos.kernel.execution import Run, TurnAborted
from aos.kernel.head import Unfinished
from aos.kernel.item import Item
from aos.kernel.journal import Journal, Operation, Result
from aos.kernel.limits import SECOND
from aos.kernel.ports import Answer, Batch, Committed, Row, Verb, Write
from aos.kernel.receipt import Receipt, Status, Waits

if TYPE_CHECKING:
    from aos.kernel.cycle import Cycle


LONGEST = 300.0
"""Seconds of the longest pause between attempts to write a result: about ten minutes in all."""


class JournalRows:
    """Gets one event's journal rows into the store."""

    def __init__(self, cycle: Cycle, item: Item) -> None:
        self._cycle = cycle
        self._item = item
        self.run: Run | None = None
        self._lock: asyncio.Lock | None = None

    async def intent(self, journal: Journal, operation: Operation, *, again: bool) -> None:
        await self._write(journal, operation, again=again)

    async def fresh(self) -> None:
        cycle, item = self._cycle, self._item
        if item.looked or item.receipt is not None:
            return
        try:
            known = await cycle.partitions.receipt(cycle.agent, item.message.event.key)
        except Unavailable as error:
            self.abort(error)
            raise
        item.looked = True
        if known is not None:
            item.suspect = True
            aborted = TurnAborted(counts=0)
            self.abort(aborted)
            raise aborted

    async def result(self, journal: Journal, result: Result) -> None:
        row = Row(layout.journal(journal.message.event.key, result.operation.n, result=True), result.encode())
        if result.operation.idempotent:
            await self._write(journal, result.operation, again=False, extra=row)
            return
        intent = Write(
            Verb.EXPECT, layout.journal(journal.message.event.key, result.operation.n), result.operation.encode()
        )
        task = asyncio.create_task(self._persist(result.operation.turn, intent, Write(Verb.PUT, row.key, row.body)))
        try:
            await asyncio.shield(task)
        except CancelledError:
            await asyncio.wait([task])  # the handler's time is up, but what came of its effect must not be lost
            raise

    def abort(self, error: BaseException) -> None:
        """The turn can't go on, whatever the handler makes of it."""
        if self.run is not None:
            self.run.aborted = error

    def _span(self) -> int:
        """ms for which this run may take: nobody else goes on with its event before (P22)."""
        assert self.run is not None, "a journal is written for a run"
        longest = int(self.run.handler.timeout + GRACE) * SECOND
        return max(self._cycle.kernel.limits.turn, longest + 10 * SECOND)

    async def _persist(self, turn: str, intent: Write, result: Write) -> None:
        """This process alone knows what came of the effect: it tries for as long as it makes sense to write it down."""
        pause = 1.0
        while True:
            try:
                answer = await self._persist_once(turn, intent, result)
                break
            except Unavailable as error:
                if pause > LONGEST:
                    self.abort(error)
                    raise
                await self._cycle.kernel.clock.sleep(pause)
                pause *= 2
        if not isinstance(answer, Committed):
            aborted = TurnAborted(counts=1)
            self.abort(aborted)
            raise aborted

    async def _persist_once(self, turn: str, intent: Write, result: Write) -> Answer:
        cycle = self._cycle
        (spilled,) = await cycle.partitions.spill(cycle.agent, turn, [result], cycle.kernel.limits.spill)
        batch = Batch(turn, None, None, (intent, spilled))
        return await cycle.partitions.journal_write(cycle.agent, batch, Row(spilled.key, spilled.body))

    async def _write(self, journal: Journal, operation: Operation, *, again: bool, extra: Row | None = None) -> None:
        """The intent under the head's version; the first row of a journal brings the event and its receipt (P8)."""
        try:
            self._lock = self._lock or asyncio.Lock()
            async with self._lock:  # effects at the same time build on one another's version
                if self.run is not None and self.run.aborted is not None:
                    raise self.run.aborted
                await self._write_rows(journal, operation, again=again, extra=extra)
                journal.written = True
                journal.keep(operation)
        except BaseException as error:
            # A time-out in the middle of the write: read again what came of it.
            self.abort(TurnAborted(counts=1) if isinstance(error, CancelledError) else error)
            raise

    async def _write_rows(self, journal: Journal, operation: Operation, *, again: bool, extra: Row | None) -> None:
        cycle, item, key = self._cycle, self._item, journal.message.event.key
        if cycle.turn.ended:
            await committing.flush(cycle, go_on=True)
        await committing.guard(cycle, item, self._span())
        writes, receipt = [], item.receipt
        if not journal.written or cycle.turn.head.unfinished is None:
            writes, receipt = self._opening(journal)
        own = Row(layout.journal(key, operation.n), operation.encode())
        writes.append(Write(Verb.PUT, own.key, own.body))
        if again:
            writes.append(Write(Verb.DELETE, layout.journal(key, operation.n, result=True)))
        if extra is not None:
            writes.append(Write(Verb.PUT, extra.key, extra.body))
        await committing.journal_rows(cycle, writes, own)
        item.receipt, item.looked, item.backlog = receipt, True, None

    def _opening(self, journal: Journal) -> tuple[list[Write], Receipt]:
        """The event whole, its receipt, and the head that names it (P8); a backlog row goes, the journal has it now."""
        cycle, item, message = self._cycle, self._item, journal.message
        head = cycle.turn.head
        receipt = Receipt(
            attempt=message.attempt,
            status=Status.OPEN,
            request=message.event.request_hash,
            waits=Waits.EFFECT,
            turn=cycle.turn.id,
            at=cycle.now,
            journal=True,
            starts=item.receipt.starts if item.receipt else 0,
        )
        verb = Verb.INSERT if item.receipt is None else Verb.PUT
        writes = [
            Write(verb, layout.receipt(message.event.key), receipt.encode()),
            Write(Verb.PUT, layout.journal(message.event.key, 0), journal.opening()),
        ]
        delivered = item.delivery is not None or item.unfinished
        if item.backlog is not None:  # brought along: whoever holds the session may go on with it
            delivered = any(other.delivery is not None for other in cycle.items)
        until = 0 if delivered else cycle.now + self._span()
        head.unfinished = Unfinished(message.event.key, until)
        if item.backlog is not None:
            writes.append(Write(Verb.DELETE, layout.backlog(item.backlog)))
            head.backlog = (item.backlog + 1, head.backlog[1])
        return writes, receipt
