"""Answers: telling whoever waits for an event what came of it, now or in a later turn (P19)."""

from __future__ import annotations

from aos.kernel import calls, layout
from aos.kernel.head import Timer
from aos.kernel.item import Ended
from aos.kernel.message import Message
from aos.kernel.ports import Verb
from aos.kernel.receipt import Receipt, Status
from aos.kernel.turn import Turn


def close_origin(turn: Turn, wait: Timer, value: bytes) -> None:
    """An earlier event's answer is there: close its receipt, tell whoever asked."""
    assert wait.origin is not None
    key, attempt, request = wait.origin
    turn.commit_to({"k": "event.answered", "key": key}, reply=value)
    receipt = Receipt(
        attempt=attempt,
        status=Status.HANDLED,
        request=request,
        turn=turn.id,
        seq=turn.head.seq,
        reply=len(turn.payloads) - 1,
        at=turn.now,
    )
    turn.write(Verb.PUT, layout.receipt(key), receipt.encode())
    tell(turn, calls.asked(wait), value)
    turn.answered.append((key, Ended.HANDLED, value, None))


def fail_origin(turn: Turn, wait: Timer, reason: str) -> None:
    """An earlier event will not get its answer."""
    assert wait.origin is not None
    key, attempt, request = wait.origin
    turn.entries.append({"k": "event.answered", "key": key, "reason": reason[:500]})
    receipt = Receipt(
        attempt=attempt,
        status=Status.DEAD,
        request=request,
        turn=turn.id,
        seq=turn.head.seq,
        reason=reason[:500],
        at=turn.now,
    )
    turn.write(Verb.PUT, layout.receipt(key), receipt.encode())
    tell_failure(turn, calls.asked(wait), reason)
    turn.answered.append((key, Ended.DEAD, None, reason))


def tell(turn: Turn, message: Message, value: bytes) -> None:
    answer = calls.done(turn.agent, message, value, turn.now)
    if answer is not None:
        turn.send(answer)


def tell_failure(turn: Turn, message: Message, reason: str) -> None:
    answer = calls.failed(turn.agent, message, reason, turn.now)
    if answer is not None:
        turn.send(answer)
