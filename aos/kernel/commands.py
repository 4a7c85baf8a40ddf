"""Commands of the kernel: what operators and the system ask of one agent. A command is an event like any other, with a
record and a receipt; it works whatever the agent's life cycle (P25), and only the kernel can make one (P2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aos.kernel import backlog, calls, endings, erasure, index, intents, layout, schedules, timers
from aos.kernel.address import Address
from aos.kernel.deadletter import DeadLetter
from aos.kernel.errors import AgentTerminated, AosError, InvalidEvent, NoSuchAgent, Refused
from aos.kernel.event import Event, encode_data
from aos.kernel.execution import Failure
from aos.kernel.head import Life
from aos.kernel.item import Item
from aos.kernel.journal import Journal, Result
from aos.kernel.ledger import Entry
from aos.kernel.message import Actor, Message
from aos.kernel.ports import Kind, Verb
from aos.kernel.receipt import Receipt, Status, Waits
from aos.kernel.registry import CronJob

if TYPE_CHECKING:
    from aos.kernel.cycle import Cycle
    from aos.kernel.turn import Turn

SUSPEND = "aos.suspend"
RESUME = "aos.resume"
TERMINATE = "aos.terminate"
REDRIVE = "aos.dead_letter.redrive"
DISCARD = "aos.dead_letter.discard"
RESOLVE = "aos.dead_letter.resolve"
ERASE = "aos.erase"
COLLECT = "aos.receipts.collect"
ANEW: dict[str, Any] = {"hops": 0, "token": None, "due": None, "deferred": 0, "unknown": 0}
"""What an operator's redrive does not take over from the envelope."""
PAGE = 80
"""Receipts that a command looks at."""

TRANSITIONS: dict[str, tuple[frozenset[Life], Life, str, str]] = {
    SUSPEND: (frozenset((Life.CREATED, Life.ACTIVE)), Life.SUSPENDED, "agent.suspended", "aos.suspended"),
    RESUME: (frozenset((Life.SUSPENDED,)), Life.ACTIVE, "agent.resumed", "aos.resumed"),
    TERMINATE: (
        frozenset((Life.CREATED, Life.ACTIVE, Life.SUSPENDED)),
        Life.TERMINATED,
        "agent.terminated",
        "aos.terminating",
    ),
}
"""Command -> from where, to where, the ledger entry, the hook. Anything else is refused."""


class Refusal(Exception):
    """The command can't be carried out; nothing was written."""

    def __init__(self, error: AosError) -> None:
        super().__init__(str(error))
        self.error = error


def order(agent: Address, type: str, data: Any, *, by: Actor, id: str, now: int) -> Message:
    """An operator's command as a message; ValueError for what is no command."""
    if type not in COMMANDS:
        raise ValueError(f"{type!r} is not a command; there are: {', '.join(COMMANDS)}")
    event = Event(id=id, source="aos:operator", type=type, body=encode_data(data or {}))
    return Message(to=agent, event=event, actor=by, sent_at=now)


def drain(agent: Address, turn: Turn) -> Message:
    """The event by which an agent goes on with its backlog."""
    event = Event(id=f"drain:{turn.head.backlog[0]}:{turn.id}", source=agent.source, type=backlog.DRAIN)
    return Message(to=agent, event=event, sent_at=turn.now)


async def carry_out(cycle: Cycle, item: Item, found: Journal | None) -> None:
    """Carry out one command in the cycle's turn; `Refusal` when it can't be. `found`: the journal of its hook."""
    message = item.message
    if message.actor.type == "agent":
        raise Refusal(Refused(f"{message.event.type} may not be sent by an agent"))
    data: dict[str, Any] = message.event.data or {}
    if message.event.type in TRANSITIONS:
        await _transition(cycle, item, data, found)
        return
    entries, reply = await COMMANDS[message.event.type](cycle, item, data)
    _end(cycle, item, entries, reply, found)


def _end(cycle: Cycle, item: Item, entries: list[Entry], reply: Any, found: Journal | None) -> None:
    """The command is carried out: what its hook's journal held is over with it (P9)."""
    _forget(cycle, found)
    endings.commanded(cycle.turn, item, entries, reply)


async def _transition(cycle: Cycle, item: Item, data: dict[str, Any], found: Journal | None) -> None:
    known, target, kind, hook = TRANSITIONS[item.message.event.type]
    life = cycle.turn.head.life
    if life is target:
        _end(cycle, item, [], {"life": life, "changed": False}, found)
        return
    if life is Life.TERMINATED:
        raise Refusal(AgentTerminated(f"{cycle.agent} has been terminated"))
    if life not in known:
        raise Refusal(
            Refused(f"{cycle.agent} is {life}; {item.message.event.type} needs it to be {', '.join(sorted(known))}")
        )
    if not await _hook(cycle, item, hook, found):
        return
    entries: list[Entry] = []
    if target is Life.TERMINATED:
        endings.terminate(cycle.turn, item.message.actor)
    else:
        cycle.turn.head.life = target if cycle.turn.head.state or target is not Life.ACTIVE else Life.CREATED
        entries = [{"k": kind, "why": str(data.get("why", ""))[:500]}]
    _end(cycle, item, entries, {"life": target, "changed": True}, found)


async def _hook(cycle: Cycle, item: Item, name: str, found: Journal | None) -> bool:
    """Run the hook. False: it failed after an effect, and the command is a dead letter."""
    hooked = await cycle.run_hook(item, name, found)
    if hooked is None:
        return True
    run, failure = hooked
    if not isinstance(failure, Failure):
        return True
    if not run.journal.written:
        raise Refusal(Refused(f"the hook {name} failed: {failure.reason}"))
    endings.dead(cycle.turn, item, failure.reason, failure.error, failure.trace, run)
    return False


async def _redrive(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    letter = await _letter(cycle, data)
    log = await _journal(cycle, letter)
    if log is not None and log.open():
        names = ", ".join(f"{operation.name} ({operation.id[:12]}…)" for operation in log.open())
        raise Refusal(Refused(f"the outcome of {names} is unknown: resolve it first"))
    return _send_again(cycle, item, letter, data, log)


def _send_again(
    cycle: Cycle, item: Item, letter: DeadLetter, data: dict[str, Any], log: Journal | None
) -> tuple[list[Entry], Any]:
    """As it was: the next attempt of the same event. Edited: a new event, and the old one is discarded (P17)."""
    turn, old = cycle.turn, letter.message
    if "data" in data:
        event = replace(
            old.event, id=f"{item.message.event.id}:{old.event.key[:16]}", body=encode_data(data["data"]), binary=False
        )
        again = replace(
            old, event=event, attempt=1, hops=0, token=None, due=None, deferred=0, unknown=0, sent_at=cycle.now
        )
        _forget(cycle, log)
        _close(cycle, letter, Status.DISCARDED, "redriven with other data")
    else:
        again = replace(old, attempt=old.attempt + 1, **ANEW)
        _close(cycle, letter, Status.OPEN, None)
    turn.send(again)
    entry: Entry = {
        "k": "event.redriven",
        "event": old.event.id,
        "key": old.event.key,
        "as": again.event.key,
        "edited": "data" in data,
    }
    return [entry], {"key": again.event.key, "attempt": again.attempt}


async def _discard(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    letter = await _letter(cycle, data)
    _forget(cycle, await _journal(cycle, letter))
    if calls.is_answer(letter.message):
        name = calls.timer_name(calls.outcome(letter.message).call)
        cycle.turn.head.timers = timers.without(cycle.turn.head, name)
    _close(cycle, letter, Status.DISCARDED, "discarded by an operator")
    key = letter.message.event.key
    return [{"k": "event.discarded", "event": letter.message.event.id, "key": key}], {"key": key}


async def _resolve(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    """An operator says what became of an effect whose outcome is unknown (P10); with the last one the event goes on."""
    letter = await _letter(cycle, data)
    log = await _journal(cycle, letter)
    operation = next((o for o in (log.open() if log else []) if o.id == data.get("op")), None)
    if log is not None and any(result.operation.id == data.get("op") for result in log.results.values()):
        raise Refusal(Refused("the result of that effect was recorded meanwhile: redrive the dead letter"))
    if log is None or operation is None:
        raise Refusal(InvalidEvent(f"no effect with an unknown outcome has the operation id {data.get('op')!r}"))
    answer = data.get("answer")
    if answer not in ("happened", "did_not_happen"):
        raise Refusal(
            InvalidEvent(f"answer is {answer!r}, expected 'happened' or 'did_not_happen'; or discard the dead letter")
        )
    happened = answer == "happened"
    result = Result(
        operation=operation,
        ok=happened,
        value=encode_data(data.get("result")),
        by=item.message.actor.id,
        error=None if happened else "an operator says it did not happen",
    )
    cycle.turn.write(Verb.PUT, layout.journal(letter.message.event.key, operation.n, result=True), result.encode())
    entry: Entry = {"k": "effect.resolved", "op": operation.id, "name": operation.name, "answer": answer}
    log.keep_result(result)
    if log.open():
        left = tuple({"op": o.id, "name": o.name} for o in log.open())
        row = layout.dead_letter(letter.message.event.key)
        cycle.turn.write(Verb.PUT, row, replace(letter, operations=left).encode())
        return [entry], {"key": letter.message.event.key, "open": len(left)}
    entries, reply = _send_again(cycle, item, letter, {}, log)
    return [entry, *entries], reply


async def _arm(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    """Arm a schedule that is declared in code; a changed definition replaces the old firing."""
    job = to_arm(cycle, data)
    return [], {"armed": job is not None, "due": None if job is None else intents.arm_cron(cycle.turn, job, None)}


def to_arm(cycle: Cycle, data: dict[str, Any]) -> CronJob | None:
    """The schedule, if it is declared here and not armed as it is declared."""
    kind = cycle.kernel.registry.types.get(cycle.agent.type)
    job = schedules.find(kind, data["name"]) if kind else None
    head = cycle.turn.head
    if job is None or head.life is Life.TERMINATED:
        return None
    timer = head.timers.get(schedules.timer_name(job.name))
    return None if timer is not None and timer.token.startswith(schedules.generation(job)) else job


async def _erase(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    if cycle.turn.version is None:
        raise Refusal(NoSuchAgent(f"there is no agent {cycle.agent}"))
    first, last = data.get("first"), data.get("last")
    if not isinstance(first, int) or not isinstance(last, int) or not 0 <= first <= last:
        raise Refusal(InvalidEvent("erase needs first and last, two sequence numbers in order"))
    last = min(last, cycle.turn.head.seq - 1)
    if first > last:
        raise Refusal(InvalidEvent(f"{cycle.agent} has records 0 to {last}; there is none from {str(first)[:20]} on"))
    return await erasure.erase(cycle, first, last)


async def _journal(cycle: Cycle, letter: DeadLetter) -> Journal | None:
    return await cycle.partitions.journal(cycle.agent, letter.message.event.key) if letter.journal else None


async def _collect(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    """Delete receipts that are older than they need be (P7), a page of them; the reply's `next` says where to go on."""
    oldest = cycle.now - cycle.kernel.limits.receipts
    after = str(data.get("after", ""))
    rows = await cycle.partitions.rows(cycle.agent, Kind.RECEIPT, after, limit=PAGE)
    old = [row.key for row in rows if _collectable(Receipt.decode(row.body), oldest)]
    for key in old:
        cycle.turn.write(Verb.DELETE, key)
    following = rows[-1].key[1:] + "\0" if len(rows) == PAGE else None
    return [{"k": "receipts.collected", "count": len(old)}], {"collected": len(old), "next": following}


def _collectable(receipt: Receipt, oldest: int) -> bool:
    return receipt.status is not Status.OPEN and receipt.at < oldest


async def _letter(cycle: Cycle, data: dict[str, Any]) -> DeadLetter:
    key = data.get("key")
    letter = await cycle.partitions.dead_letter(cycle.agent, key) if isinstance(key, str) else None
    if letter is None:
        raise Refusal(InvalidEvent(f"{cycle.agent} has no open dead letter {key!r}"))
    return letter


def _close(cycle: Cycle, letter: DeadLetter, status: Status, reason: str | None) -> None:
    """The dead letter is dealt with: its row goes, its receipt says what follows."""
    turn, message = cycle.turn, letter.message
    key = message.event.key
    attempt = message.attempt + 1 if status is Status.OPEN else message.attempt
    receipt = Receipt(
        attempt=attempt,
        status=status,
        request=message.event.request_hash,
        turn=turn.id,
        seq=turn.head.seq,
        waits=Waits.RETRY if status is Status.OPEN else None,
        reason=reason,
        at=cycle.now,
        journal=letter.journal,
    )
    turn.write(Verb.PUT, layout.receipt(key), receipt.encode())
    turn.write(Verb.DELETE, layout.dead_letter(key))
    turn.head.dead = max(0, turn.head.dead - 1)
    turn.index += index.dead_letter_rows(cycle.agent, key, turn.head.seq, letter.about(), open=False)


def _forget(cycle: Cycle, log: Journal | None) -> None:
    for key in log.row_keys() if log else ():
        cycle.turn.write(Verb.DELETE, key)


Command = Callable[["Cycle", Item, "dict[str, Any]"], Awaitable[tuple["list[Entry]", Any]]]


async def _nothing(cycle: Cycle, item: Item, data: dict[str, Any]) -> tuple[list[Entry], Any]:
    """The turn that it brings does the work."""
    return [], None


COMMANDS: dict[str, Command] = {
    SUSPEND: _nothing,
    RESUME: _nothing,
    TERMINATE: _nothing,
    REDRIVE: _redrive,
    DISCARD: _discard,
    RESOLVE: _resolve,
    ERASE: _erase,
    COLLECT: _collect,
    schedules.ARM: _arm,
    backlog.DRAIN: _nothing,
}
"""The transitions among them are carried out by the table above."""
