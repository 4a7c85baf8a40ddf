"""One cycle of an agent: read, screen, run, commit, deliver. The rules of PROTOCOL meet here, in this order.

A cycle may hold more than one commit: events before one that begins an effect are committed first (P12).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aos.kernel import backlog, calls, commands, committing, endings, layout, schedules, screening
from aos.kernel.address import Address
from aos.kernel.draft import Draft
from aos.kernel.effects import EffectRunner
from aos.kernel.errors import (
    AgentSuspended,
    AgentTerminated,
    IdReused,
    InvalidInput,
    NewerState,
    ReservedName,
)
from aos.kernel.execution import Done, Failure, Run, TurnAborted, execute
from aos.kernel.gatekeeper import Gatekeeper
from aos.kernel.head import Head, Life, Unfinished
from aos.kernel.item import Ended, Item, Reply, ended_of
from aos.kernel.journal import Journal
from aos.kernel.journaling import JournalRows
from aos.kernel.mailbox import Mailbox
from aos.kernel.message import Message
from aos.kernel.partition import Partitions
from aos.kernel.ports import Row, Verb, Version, Write
from aos.kernel.reading import TurnReader
from aos.kernel.receipt import Receipt, Status, Waits
from aos.kernel.registry import AgentType, Handler
from aos.kernel.screening import Do, Screened
from aos.kernel.turn import Turn

if TYPE_CHECKING:
    from pydantic import BaseModel

    from aos.kernel.dispatcher import Kernel


UNREADABLE = "aos.unreadable"
"""What a delivery becomes that is no envelope: a dead letter of the session's agent."""
ROOM = 6
"""Writes that an event may need which ends without having been run."""


class Cycle:
    """Lives for one pass; the dispatcher makes the next one."""

    def __init__(
        self, kernel: Kernel, partitions: Partitions, keeper: Gatekeeper, agent: Address, box: Mailbox
    ) -> None:
        self.kernel = kernel
        self.partitions = partitions
        self.keeper = keeper
        self.agent = agent
        self.box = box
        self.now = kernel.clock.now()
        self.told: list[Reply] = []
        """Final replies that were committed: for whoever waits in this process."""
        self.buried: list[tuple[Message, str, str]] = []
        self._model: BaseModel | None = None
        self.items: list[Item] = []
        self._alone = False
        self.traces: dict[str, str] = {}
        self.progress = False
        """Something was committed: the next cycle will find another situation."""

    async def run(self, items: list[Item]) -> None:
        """Take as many items to their end as fit one turn; the rest stay as they are, for the next cycle."""
        for item in items:
            item.look_again()
        loaded = await self.partitions.load(self.agent)
        await committing.deliver_earlier(self, loaded.outbox)
        head = loaded.head or Head.new(self.agent, self.now)
        self.items = items
        self.begin(head, loaded.version)
        if head.unfinished is not None and not await self._take_up(head.unfinished):
            return
        if backlog.drains(self.turn.head):
            await self._drain()
        for item in items:
            if not (item.ended or self._in_turn(item)) and not await self._one(item):
                break
        await committing.flush(self)

    # -------------------------------------------------------------------------------------------- before the items

    def begin(self, head: Head, version: Version | None) -> None:
        kernel = self.kernel
        self.turn = Turn(
            agent=self.agent,
            head=head,
            version=version,
            now=self.now,
            id=kernel.entropy.bytes(16).hex(),
            host=kernel.host,
            entropy=kernel.entropy.bytes,
            limits=kernel.limits,
            calendar=kernel.calendar,
        )

    async def _take_up(self, unfinished: Unfinished) -> bool:
        """Finish the event whose journal is open, before anything else (P8). False: not now, not by these items."""
        found = await self.partitions.journal(self.agent, unfinished.key)
        if found is None:  # somebody else has finished it since the head was read
            raise TurnAborted(counts=1)
        if unfinished.until > self.now or all(item.direct for item in self.items):
            await self._wait_behind(unfinished)
            return False
        receipt = await self.partitions.receipt(self.agent, unfinished.key)
        item = Item(message=found.message, unfinished=True, receipt=receipt, looked=True, guarded=True)
        item.deliveries = self._deliveries()
        await self._one(item, found)
        await committing.flush(self)
        return False

    async def _wait_behind(self, unfinished: Unfinished) -> None:
        """An event is being finished elsewhere: deliveries come again later, an ask goes onto the bus and waits."""
        due = max(unfinished.until, self.now + self.kernel.limits.defer)
        for item in self.items:
            message = item.message if item.direct else item.message.put_off(due)
            await self.kernel.bus.send([message.parcel()])
            item.end(Ended.PENDING if item.direct else Ended.DEFERRED, reason="another event is unfinished")

    async def _drain(self) -> None:
        """Run what has waited, in order, before anything new (P25)."""
        first = self.turn.head.backlog[0]
        deliveries = self._deliveries()
        for n, message, receipt in await self.partitions.backlog(self.agent, first):
            if deliveries >= self.kernel.limits.suspicious:  # the row does not know of starts since
                known = await self.partitions.receipt(self.agent, message.event.key)
                receipt.starts = known.starts if known else receipt.starts
            item = Item(message=message, backlog=n, receipt=receipt, looked=True, guarded=True, deliveries=deliveries)
            if not backlog.drains(self.turn.head) or not await self._one(item):
                break

    def _deliveries(self) -> int:
        """How often whoever brings the agent here was delivered: an event that it brings along may be why (P18)."""
        return max((item.count for item in self.items), default=1)

    def _in_turn(self, item: Item) -> bool:
        """The same event is in this turn already: it waits for the commit and is then a duplicate (P6)."""
        return item.message.event.key in self.turn.keys

    # ------------------------------------------------------------------------------------------------ one delivery

    async def _one(self, item: Item, found: Journal | None = None) -> bool:
        """Take one delivery to its end, or as far as it goes now. False: the turn ends before it."""
        command = item.message.event.type in commands.COMMANDS
        if command and not self.turn.empty:
            return False
        screened = screening.screen(item, self.turn.head, self.now, self.kernel.limits, command=command)
        if screened.do is Do.LOOK:
            item.receipt, item.looked = await self.partitions.receipt(self.agent, item.message.event.key), True
            screened = screening.screen(item, self.turn.head, self.now, self.kernel.limits, command=command)
        if item.message.event.type == schedules.ARM and screened.do is Do.DUPLICATE:
            screened = Screened(Do.RUN)  # looks for itself whether there is anything to do
        if screened.do not in (Do.RUN, Do.ALONE):
            return await self._without_running(item, screened)
        if found is None and item.receipt is not None and item.receipt.journal:
            found = await self.partitions.journal(self.agent, item.message.event.key)
        if command:
            return await self._command(item, found)
        return await self._try(item, found, alone=screened.do is Do.ALONE)

    async def _without_running(self, item: Item, screened: Screened) -> bool:
        if screened.do is Do.DUPLICATE:
            await self._duplicate(item)
            return True
        ends_now = (screened.do is Do.STALE and item.receipt is None and item.backlog is None) or item.direct
        if ends_now and not self.turn.empty:
            return False  # judged by what is not committed yet; the next cycle will judge by what is
        if screened.do is Do.STALE and ends_now:
            item.end(Ended.STALE, reason="its timer was cancelled, replaced or has fired")
            return True
        if item.direct and not item.guarded and self._refused(item, screened):
            return True
        if screened.do is Do.REUSED and await self._known_as_reused(item, screened):
            return True
        if not self.turn.room(ROOM, 3 * len(item.message.event.body)):
            return False
        self._end_unrun(item, screened)
        return True

    def _end_unrun(self, item: Item, screened: Screened) -> None:
        kind = self._kind()
        if screened.do is Do.REUSED:
            endings.reused(self.turn, item, screened.reason, screened.error)
        elif screened.do is Do.ORPHANED:
            endings.orphaned(self.turn, item)
        elif screened.do in (Do.EXPIRED, Do.STALE):
            endings.discarded(self.turn, item, "event.expired", screened.reason, kind)
        elif screened.do is Do.SET_ASIDE:
            endings.set_aside(self.turn, item, screened.reason)
        else:
            endings.dead(self.turn, item, screened.reason, screened.error, kind=kind)

    def _kind(self) -> AgentType | None:
        """The agent's type, if it is known here."""
        return self.kernel.registry.types.get(self.agent.type)

    async def _known_as_reused(self, item: Item, screened: Screened) -> bool:
        """Its dead letter was written at an earlier delivery."""
        copy = screening.reused(item)
        if await self.partitions.receipt(self.agent, copy.message.event.key) is None:
            return False
        item.end(Ended.DEAD, reason=screened.reason, duplicate=True)
        return True

    def _refused(self, item: Item, screened: Screened) -> bool:
        """An ask that can't be run is told so and leaves no trace."""
        if screened.do is Do.REUSED:
            item.error = IdReused(f"event {item.message.event.id!r}: {screened.error}")
        elif screened.reason == "terminated":
            item.error = AgentTerminated(f"{self.agent} has been terminated")
        elif screened.reason == "suspended":
            item.error = AgentSuspended(f"{self.agent} is suspended; send the event instead and it waits")
        return item.error is not None

    async def _duplicate(self, item: Item) -> None:
        """Answer with what is recorded (P6)."""
        receipt = item.receipt
        assert receipt is not None
        if receipt.seq >= self.turn.head.seq and self.turn.empty:
            raise TurnAborted(counts=1)  # newer than the head that was read: what that turn sends may still lie there
        value = await self.partitions.reply(self.agent, receipt) if item.direct else None
        item.end(ended_of(receipt), value=value, reason=receipt.reason, duplicate=True)

    async def _try(self, item: Item, found: Journal | None, *, alone: bool) -> bool:
        """Find the handler and run it. False: the turn ends before this event."""
        message = item.message
        try:
            kind, handler = self._handler(item)
        except ReservedName as error:
            endings.dead(self.turn, item, "forbidden_sender", str(error), kind=self._kind())
            return True
        except InvalidInput as error:
            return await self._unknown(item, error)
        if alone and not await self._start_alone(item):
            return False
        if handler is None:
            self._pass_through(item, kind)
            return True
        job = schedules.find(kind, message.event.type.removeprefix("aos.cron."))
        untried = message.attempt == 1 and found is None
        if job is not None and untried and schedules.missed(job, message.sent_at, self.now):
            endings.discarded(self.turn, item, "event.expired", "missed", kind)
            return True
        return await self._run(item, kind, handler, found)

    def _handler(self, item: Item) -> tuple[AgentType, Handler | None]:
        """The type and its handler; none for an answer that nobody has an `@after` for."""
        kind = self.kernel.registry.type(self.agent.type)
        message = item.message
        if calls.is_answer(message):
            wait = calls.waiting(self.turn.head, message)
            return kind, kind.afters.get(wait.type) if wait else None
        handler = kind.handler(message.event.type)
        sender = message.actor.id.split("/")[1] if message.actor.type == "agent" else None
        if handler.senders and sender not in handler.senders:
            raise ReservedName(f"{message.event.type!r} may be sent by {', '.join(handler.senders)} only")
        return kind, handler

    async def _unknown(self, item: Item, error: InvalidInput) -> bool:
        """No such type here: said at once to an ask, deferred during a rolling deploy, then a dead letter."""
        if item.direct:
            item.error = error
            return True
        if item.message.event.type == UNREADABLE:
            endings.dead(self.turn, item, "unreadable", item.message.event.data["error"])
            return True
        return await self._deploying(item, "unknown_type", str(error))

    async def _deploying(self, item: Item, reason: str, error: str) -> bool:
        """Put it off while a rolling deploy may be under way; then it is a dead letter."""
        limits = self.kernel.limits
        deferred = item.message.unknown
        if item.unfinished:  # its deliveries are what is put off
            deferred = max(other.message.deferred for other in self.items)
        if limits.waited(deferred) >= limits.deploy_window:
            endings.dead(self.turn, item, reason, error, kind=self._kind())
            return True
        due = self.now + limits.pause(deferred)
        if item.unfinished:
            await self._wait_behind(Unfinished(item.message.event.key, due))
        elif item.backlog is not None:
            endings.put_off(self.turn, item, due, reason)
        else:
            await self.kernel.bus.send([item.message.put_off(due, unknown=True).parcel()])
            item.end(Ended.DEFERRED, reason=reason)
        return not item.unfinished

    def _pass_through(self, item: Item, kind: AgentType) -> None:
        """An answer without an `@after`: it is the answer to whoever asked this agent."""
        wait = calls.waiting(self.turn.head, item.message)
        if wait is None:
            endings.discarded(self.turn, item, "event.expired", "stale", kind)
        else:
            endings.passed(self.turn, item, kind, wait)

    async def _start_alone(self, item: Item) -> bool:
        """Write down that this event starts, before it runs: three starts without an end are enough (P18)."""
        if not self.turn.empty or self.turn.ended:
            return False
        self._alone = True
        if item.started:
            return True
        starts = item.receipt.starts + 1 if item.receipt else 1
        base = item.receipt or Receipt(
            attempt=item.message.attempt,
            status=Status.OPEN,
            request=item.message.event.request_hash,
            waits=Waits.START,
            at=self.now,
        )
        verb = Verb.PUT if item.receipt else Verb.INSERT
        receipt = replace(base, starts=starts, turn=self.turn.id)
        write = Write(verb, layout.receipt(item.message.event.key), receipt.encode())
        await committing.journal_rows(self, [write], Row(write.key, write.body))
        item.receipt, item.looked, item.started = receipt, True, True
        return True

    # ------------------------------------------------------------------------------------------------- the handler

    async def _run(self, item: Item, kind: AgentType, handler: Handler, found: Journal | None) -> bool:
        run = self._prepare(item, kind, handler, found)
        started = self.kernel.clock.monotonic()
        try:
            outcome = await execute(run, self.keeper)
        except NewerState as error:
            if item.direct and item.guarded:
                item.end(Ended.PENDING, reason="newer_schema")
                return True
            if item.direct:
                item.error = error
                return True
            return await self._deploying(item, "newer_schema", str(error))
        run.elapsed = max(0, round((self.kernel.clock.monotonic() - started) * 1000))
        if not self.turn.fits(run, outcome):
            return False
        self._model = outcome.model if isinstance(outcome, Done) else None
        self._take(item, run, outcome)
        return not (self._alone or run.journal.written)

    def _prepare(self, item: Item, kind: AgentType, handler: Handler, found: Journal | None) -> Run:
        message, entropy = item.message, self.kernel.entropy
        if found is not None:
            found.message = message
        log = found or Journal(message, self.now, int.from_bytes(entropy.bytes(8), "big"))
        draft = Draft(message.event, effects=len(log.intents))
        writer = JournalRows(self, item)
        effects = EffectRunner(self.agent, kind.effects, log, draft, writer, self.keeper, entropy.bytes, self.turn.id)
        hook = kind.handlers.get("aos.initialized") if self.turn.head.life is Life.CREATED else None
        run = Run(
            agent=self.agent,
            type=kind,
            message=message,
            handler=handler,
            hooks=[hook] if hook else [],
            head=self.turn.head,
            journal=log,
            effects=effects,
            draft=draft,
            model=self._model,
            reader=TurnReader(self.agent, self.partitions, self.turn.writes, draft, writer.abort),
            outcome=calls.outcome(message) if calls.is_answer(message) else None,
        )
        writer.run = run
        return run

    def _take(self, item: Item, run: Run, outcome: Done | Failure) -> None:
        if isinstance(outcome, Done):
            endings.handled(self.turn, item, run, outcome)
            return
        endings.failed(self.turn, item, outcome, run)
        self.traces[item.message.event.key] = outcome.trace

    # -------------------------------------------------------------------------------------------------- commands

    async def _command(self, item: Item, found: Journal | None) -> bool:
        """A command of the kernel: alone in its turn, whatever the life cycle."""
        kind = item.message.event.type
        nothing = kind == schedules.ARM and commands.to_arm(self, item.message.event.data) is None
        if nothing or kind == backlog.DRAIN:  # a tick with nothing to do commits nothing (P26)
            item.end(Ended.HANDLED)
            return True
        try:
            await commands.carry_out(self, item, found)
        except commands.Refusal as error:
            if item.direct and not item.guarded:
                item.error = error.error
            else:
                endings.dead(self.turn, item, "refused", str(error.error))
        return False

    async def run_hook(self, item: Item, name: str, found: Journal | None) -> tuple[Run, Done | Failure] | None:
        """Run a life-cycle hook in the command's turn, if the type has one and is known here."""
        kind = self._kind()
        hook = kind.handlers.get(name) if kind else None
        if kind is None or hook is None:
            return None
        run = self._prepare(item, kind, hook, found)
        outcome = await execute(run, self.keeper)
        if isinstance(outcome, Done):
            endings.hooked(self.turn, run, outcome)
        return run, outcome
