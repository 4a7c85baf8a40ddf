"""The commit: sealing a turn, storing it, and what it leaves to do (P12, P14, P16, P22, P32)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aos.kernel import backlog, commands, layout, outbox
from aos.kernel.errors import Unavailable
from aos.kernel.execution import TurnAborted
from aos.kernel.item import Ended, Item, Reply
from aos.kernel.ports import Answer, Batch, Committed, Duplicate, Row, Verb, Write
from aos.kernel.turn import Sealed

if TYPE_CHECKING:
    from aos.kernel.cycle import Cycle

log = logging.getLogger("aos")


async def deliver_earlier(cycle: Cycle, rows: Sequence[Row]) -> None:
    """Outbox rows of turns that did not get to deliver them: first things first."""
    for row in rows:
        if row.key in cycle.box.delivered:
            continue
        await _hand_over(cycle, outbox.decode((await cycle.partitions.whole(row)).body))
        cycle.box.delivered.append(row.key)


async def flush(cycle: Cycle, *, go_on: bool = False) -> None:
    """Seal, commit, deliver. A turn in which nothing happened commits nothing. `go_on`: begin the next turn."""
    turn = cycle.turn
    if turn.empty:
        return
    if backlog.drains(turn.head) and not any(item.message.event.type == backlog.DRAIN for item in cycle.items):
        turn.send(commands.drain(cycle.agent, turn))
    settler = cycle.kernel.settler
    for key in cycle.box.delivered:
        turn.write(Verb.DELETE, key)
    sealed = turn.seal(with_outbox=settler is None)
    if sealed.outbox is not None:
        await _guard(cycle)
    answer = await _store(cycle, sealed)
    if not isinstance(answer, Committed):
        looked = isinstance(answer, Duplicate) and _look_again(cycle, answer.keys)
        raise TurnAborted(counts=0 if looked else 1)
    cycle.progress = True
    cycle.box.delivered.clear()
    turn.writes.clear()  # a reader of this turn now finds them in the store
    _end_items(cycle)
    if sealed.outbox is not None:
        await _deliver(cycle, sealed, sealed.outbox)
    if go_on or any(not item.ended for item in cycle.items):
        if answer.version is None:
            raise TurnAborted(counts=0)
        cycle.begin(sealed.head, answer.version)


async def _store(cycle: Cycle, sealed: Sealed) -> Answer:
    settler = cycle.kernel.settler
    seq = sealed.head.seq - 1
    if settler is None:
        return await cycle.partitions.commit(cycle.agent, sealed.batch, sealed.blobs, seq)
    for name, data in sealed.blobs:
        await cycle.kernel.blobs.put(name, data)
    done = [item.delivery for item, *_ in cycle.turn.ended if item.delivery is not None]
    parcels = [message.parcel() for message in sealed.messages]
    answer = await settler.settle(cycle.agent, sealed.batch, parcels, sealed.index, done)
    answer = await cycle.partitions.resolve(cycle.agent, sealed.batch, seq, answer)
    if isinstance(answer, Committed):
        for item, *_ in cycle.turn.ended:
            item.settled = item.delivery is not None
    return answer


def _end_items(cycle: Cycle) -> None:
    for item, ended, value, reason in cycle.turn.ended:
        item.end(ended, value=value, reason=reason)
        if ended is Ended.DEAD and not item.copy:
            cycle.buried.append((item.message, reason or "", cycle.traces.get(item.message.event.key, "")))
        if item.reply is not None and item.reply.final:
            cycle.told.append(item.reply)
    for key, ended, value, reason in cycle.turn.answered:
        cycle.told.append(Reply(ended, key, value, reason))


def _look_again(cycle: Cycle, keys: Sequence[str]) -> bool:
    """Receipts were there already: whoever they belong to is looked up in the next cycle. False: nobody here."""
    found = [item for item, *_ in cycle.turn.ended if layout.receipt(item.message.event.key) in keys]
    for item in found:
        item.suspect = True
    return any(not item.looked for item in found)


async def _deliver(cycle: Cycle, sealed: Sealed, row: str) -> None:
    """Send what the turn wanted sent. What fails here lies in the outbox row and the next delivery sends it (P22);
    the deliveries in hand are that: they must come again."""
    try:
        await _hand_over(cycle, sealed.left)
        if cycle.box.waiting or any(not item.ended for item in cycle.items):
            cycle.box.delivered.append(row)
        else:
            await cycle.partitions.forget(cycle.agent, [row], cycle.turn.id)
    except Unavailable as error:
        log.warning("%s: committed, but not delivered yet: %s", cycle.agent, error)
        for item in cycle.items:
            item.fault = error


async def _hand_over(cycle: Cycle, left: outbox.Outbox) -> None:
    """Do what a commit left to do. Doing it again does no harm."""
    if left.messages:
        await cycle.kernel.bus.send([message.parcel() for message in left.messages])
    if left.index:
        await cycle.kernel.store.index_put(left.index)
    for name in left.garbage:
        await cycle.kernel.blobs.delete(name)


async def _guard(cycle: Cycle) -> None:
    """Before a direct turn leaves work for after its commit, its own event goes onto the bus, to come back when the
    turn must be over: an ordinary redelivery, that finishes what was left (P22)."""
    if any(item.delivery is not None or item.guarded for item in cycle.items):
        return
    own = next((item for item, *_ in cycle.turn.ended if item.direct), None)
    if own is not None:
        await guard(cycle, own, cycle.kernel.limits.turn)
    else:  # an ask that was refused has drained the backlog: a drain brings the agent back
        nudge = commands.drain(cycle.agent, cycle.turn)
        await cycle.kernel.bus.send([replace(nudge, due=cycle.now + cycle.kernel.limits.turn).parcel()])


async def guard(cycle: Cycle, item: Item, span: int) -> None:
    """Put the event's copy on the bus, to come back after `span` ms."""
    if item.guarded or item.delivery is not None:
        return
    await cycle.kernel.bus.send([replace(item.message, due=cycle.now + span).parcel()])
    item.guarded = True


async def journal_rows(cycle: Cycle, writes: list[Write], own: Row) -> None:
    """Write journal rows under the head's version; the commit expects the version that this gives (P12)."""
    turn = cycle.turn
    head = turn.head
    spilled = await cycle.partitions.spill(cycle.agent, turn.id, writes, cycle.kernel.limits.spill)
    own = next(Row(write.key, write.body) for write in spilled if write.key == own.key)
    batch = Batch(turn.id, turn.version, head.encode(head.covered()), tuple(spilled))
    answer = await cycle.partitions.journal_write(cycle.agent, batch, own)
    if isinstance(answer, Duplicate):
        for item in cycle.items:
            item.suspect = item.suspect or layout.receipt(item.message.event.key) in answer.keys
    if not isinstance(answer, Committed) or answer.version is None:
        raise TurnAborted(counts=0 if isinstance(answer, Duplicate) else 1)
    turn.version = answer.version
