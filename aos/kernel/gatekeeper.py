"""Asking the gate: the request from facts, an exception is a denial, and the decision as a ledger entry."""

from __future__ import annotations

import hashlib

from aos.kernel.address import Address
from aos.kernel.canonical import canonical
from aos.kernel.errors import Denied
from aos.kernel.ledger import Entry
from aos.kernel.message import Actor
from aos.kernel.ports import Decision, Effect, Gate, GateRequest

MAX_REQUESTS = 10_000


class PermitAll:
    """Allows everything and says so in every record. The explicit choice of a system without policies."""

    _SET = hashlib.sha256(b"permit-all").hexdigest()

    def __init__(self) -> None:
        self._decided: dict[GateRequest, Decision] = {}

    async def decide(self, request: GateRequest) -> Decision:
        found = self._decided.get(request)
        if found is None:
            found = Decision(Effect.ALLOW, ("permit-all",), self._SET, "permit-all/1", request_hash(request))
            if len(self._decided) < MAX_REQUESTS:
                self._decided[request] = found
        return found


def request_hash(request: GateRequest) -> str:
    """SHA-256 of the canonical request: with the policy set's hash it replays the decision."""
    value = {
        "action": request.action,
        "context": dict(request.context),
        "principal": request.principal,
        "resource": request.resource,
    }
    return hashlib.sha256(canonical(value)).hexdigest()


class Gatekeeper:
    """The only way of the kernel to its gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._handling: dict[tuple[str, ...], GateRequest] = {}

    async def handle(self, agent: Address, event_type: str, actor: Actor) -> Decision:
        """May this agent handle that event, sent by that actor?"""
        who = actor.id if actor.type == "user" else ""
        key = (agent.type, event_type, actor.type, actor.auth, who)
        known = self._handling.get(key)
        if known is None:
            if len(self._handling) > MAX_REQUESTS:
                self._handling.clear()
            principal = f"{actor.type}/{who}" if who else actor.type
            context = (("auth", actor.auth), ("event_type", event_type))
            known = self._handling[key] = GateRequest(principal, "handle", agent.type, context)
        return await self._ask(known)

    async def effect(self, agent: Address, name: str, danger: str) -> Decision:
        """May this agent do that to the world? Danger comes from the registry."""
        return await self._ask(GateRequest(f"agent/{agent.type}", danger, f"effect/{name}", (("agent", agent.log),)))

    async def _ask(self, request: GateRequest) -> Decision:
        try:
            return await self._gate.decide(request)
        except Exception as error:
            return Decision(
                Effect.DENY, (f"policy.error:{type(error).__name__}",), "", "unknown", request_hash(request), errors=1
            )


def entry(decision: Decision, what: str) -> Entry:
    """The decision as it stands in the record."""
    return {
        "effect": decision.effect.value,
        "engine": decision.engine,
        "errors": decision.errors,
        "k": "decision",
        "policies": list(decision.policies),
        "req": decision.request,
        "set": decision.policy_set,
        "what": what,
    }


def require(decision: Decision, what: str) -> None:
    """Raise `Denied` unless the gate allowed it. Needing an approval is not allowed either; tasks know how to wait."""
    if decision.effect is not Effect.ALLOW:
        raise Denied(what, decision.policies)
