"""`AgentOperatingSystem`: wires the parts, nothing else. Hosts and the command line take one.

It asks and sends; what was sent is worked on by a host, such as `aos.hosts.worker.Worker`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aos import __version__
from aos.ingress import external_message
from aos.kernel import codec, commands, schedules
from aos.kernel.address import Address
from aos.kernel.agent import Agent
from aos.kernel.clock import SystemClock, SystemEntropy
from aos.kernel.dispatcher import Dispatcher, Kernel, value_of
from aos.kernel.event import Event, new_event
from aos.kernel.gatekeeper import PermitAll
from aos.kernel.item import Reply
from aos.kernel.limits import Limits
from aos.kernel.message import Actor, Message
from aos.kernel.ports import Blobs, Bus, Calendar, Clock, Entropy, Gate, Settler, Store
from aos.kernel.registry import AgentType, Registry
from aos.kernel.turn import Host
from aos.system.calendar import CronCalendar
from aos.system.scheduler import Scheduler
from aos.system.topic import Topic

HOME = Path(".aos")
OPERATOR = Actor("user", "operator", "local")


class AgentOperatingSystem:
    """The system. Every part can be exchanged; without `store` it is the embedded SQLite file in `home`."""

    def __init__(
        self,
        agents: Sequence[Agent[Any] | type[Agent[Any]]] = (),
        *,
        home: Path | str = HOME,
        store: Store | None = None,
        blobs: Blobs | None = None,
        bus: Bus | None = None,
        settler: Settler | None = None,
        gate: Gate | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        calendar: Calendar | None = None,
        limits: Limits | None = None,
        instance: str | None = None,
    ) -> None:
        """`instance`: how this process is called in the records that it commits."""
        if (store is None) != (bus is None) or (store is None) != (blobs is None):
            raise ValueError("give store=, blobs= and bus= together, or none of them")
        self.clock = clock or SystemClock()
        self.entropy = entropy or SystemEntropy()
        self.registry = Registry(calendar or CronCalendar())
        for agent in (Topic, Scheduler, *agents):
            self.registry.add(agent)
        self._parts = None if store is None or blobs is None or bus is None else (store, blobs, bus, settler)
        self._home = Path(home)
        self._gate = gate or PermitAll()
        self._limits = limits or Limits()
        self._host = Host("aos", __version__, instance or f"{socket.gethostname()}:{os.getpid()}")
        self._stack = AsyncExitStack()
        self._dispatcher: Dispatcher | None = None

    async def __aenter__(self) -> AgentOperatingSystem:
        await self._stack.__aenter__()
        store, blobs, bus, settler = self._parts or await self._embedded()
        kernel = Kernel(
            registry=self.registry,
            store=store,
            blobs=blobs,
            bus=bus,
            gate=self._gate,
            clock=self.clock,
            entropy=self.entropy,
            calendar=self.registry.calendar,
            host=self._host,
            settler=settler,
            limits=self._limits,
        )
        self._dispatcher = Dispatcher(kernel)
        self._stack.push_async_callback(self._dispatcher.close)
        await self.initialize()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher; there is one between `async with` and its end."""
        if self._dispatcher is None:
            raise RuntimeError("the system is not running: use `async with AgentOperatingSystem(...) as aos`")
        return self._dispatcher

    @property
    def bus(self) -> Bus:
        """The bus, for hosts that pull from it."""
        return self.dispatcher.kernel.bus

    def register_agent(self, agent: Agent[Any] | type[Agent[Any]]) -> AgentType:
        """Register one more type; its schedules are armed by the next `initialize`."""
        return self.registry.add(agent)

    async def initialize(self) -> None:
        """Arm the schedules that are declared in code. Safe to repeat: an armed one is left alone."""
        for message in schedules.arming(self.registry.types.values(), self.clock.now()):
            await self.dispatcher.send(message)

    # ------------------------------------------------------------------------------------------------ talking to it

    async def ask(
        self, agent: Address | str, type: str, data: Any = None, *, id: str | None = None, wait: float = 30.0
    ) -> Any:
        """Run an event now and return the reply as plain data. Raises `AskFailed`, `Denied`, `StillOpen`, …"""
        message = self._message(agent, type, data, id)
        return json.loads(value_of(await self.dispatcher.ask(message, wait=wait), message.to))

    async def send(self, agent: Address | str, type: str, data: Any = None, *, id: str | None = None) -> str:
        """Put an event on the bus and return its key: durable when this returns, run later."""
        message = self._message(agent, type, data, id)
        self.registry.type(message.to.type).handler(type)
        await self.dispatcher.send(message)
        return message.event.key

    async def process_event(self, event: Event, *, actor: Actor | None = None, direct: bool = False) -> Reply | str:
        """Take an event from outside: routed, refused with a clear error, or durable when this returns (its key), or,
        with `direct`, run at once (its reply)."""
        message = external_message(self.registry, event, self.clock.now(), actor)
        if direct:
            return await self.dispatcher.ask(message)
        await self.dispatcher.send(message)
        return message.event.key

    async def query(self, agent: Address | str, name: str, data: Any = None) -> Any:
        """Ask a question of committed state."""
        return json.loads(await self.dispatcher.query(Address.coerce(agent), name, codec.jsonable(data)))

    async def command(
        self, agent: Address | str, type: str, data: Any = None, *, by: Actor = OPERATOR, id: str | None = None
    ) -> Any:
        """A command of an operator (`aos.kernel.commands`): suspend, resume, terminate, redrive, …"""
        now = self.clock.now()
        message = commands.order(Address.coerce(agent), type, data, by=by, id=id or self._id(), now=now)
        return json.loads(value_of(await self.dispatcher.ask(message), message.to))

    def _message(self, agent: Address | str, type: str, data: Any, id: str | None) -> Message:
        event = new_event(id or self._id(), "local", type, codec.jsonable(data))
        return external_message(self.registry, event, self.clock.now(), None, Address.coerce(agent))

    def _id(self) -> str:
        return self.entropy.bytes(16).hex()

    async def _embedded(self) -> tuple[Store, Blobs, Bus, Settler]:
        from aos.embedded import Embedded

        embedded = Embedded(self._home / "aos.db", clock=self.clock, entropy=self.entropy)
        await embedded.open()
        self._stack.push_async_callback(embedded.close)
        return embedded.store, embedded.blobs, embedded.bus, embedded
