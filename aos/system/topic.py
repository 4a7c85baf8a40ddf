"""Topics: an agent `topic/<name>` that holds subscriptions and fans out (ARCHITECTURE section 5).

Subscriptions are keyed rows, so a topic with many costs a turn no more than one with few. A publication with more
subscribers than a turn may serve goes on by an event to itself.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on, query
from aos.kernel.context import Context, Query

PAGE = 200
BYTES = 300_000
"""Subscribers served a turn, and bytes sent to them."""
SUBSCRIPTIONS = "subscriptions"


class TopicState(BaseModel):
    subscribers: int = 0
    published: int = 0


class Subscription(BaseModel):
    """`types`: the event types wanted; empty: all."""

    agent: str
    types: list[str] = Field(default_factory=list[str])


class Publication(BaseModel):
    """`after`: the last subscriber served already."""

    type: str
    data: Any = None
    after: str = ""


class Topic(Agent[TopicState], type="topic"):
    """Everybody who subscribed gets what is published."""

    @on("topic.subscribe")
    async def subscribe(self, data: Subscription, ctx: Context[TopicState]) -> bool:
        """True if it is a new subscription; a known one is replaced."""
        agent = str(Address.parse(data.agent))
        known = await ctx.get(SUBSCRIPTIONS, _row(agent)) is not None
        ctx.put(SUBSCRIPTIONS, _row(agent), {"agent": agent, "types": data.types})
        ctx.state.subscribers += not known
        return not known

    @on("topic.unsubscribe")
    async def unsubscribe(self, data: Subscription, ctx: Context[TopicState]) -> bool:
        """True if there was a subscription."""
        row = _row(str(Address.parse(data.agent)))
        known = await ctx.get(SUBSCRIPTIONS, row) is not None
        if known:
            ctx.rows(SUBSCRIPTIONS).delete(row)
            ctx.state.subscribers -= 1
        return known

    @on("topic.publish")
    async def publish(self, data: Publication, ctx: Context[TopicState]) -> None:
        page = max(1, min(PAGE, BYTES // (len(ctx.event.body) if ctx.event else 1)))
        found = await ctx.rows(SUBSCRIPTIONS).range(data.after, limit=page)
        for _, subscription in found:
            if not subscription["types"] or data.type in subscription["types"]:
                ctx.send(subscription["agent"], data.type, data.data)
        if not data.after:
            ctx.state.published += 1
        if len(found) == page:
            after = found[-1][0] + "\0"  # the smallest key behind the last one served
            ctx.send(ctx.me, "topic.publish", Publication(type=data.type, data=data.data, after=after))

    @query
    async def subscriptions(self, ctx: Query[TopicState]) -> list[dict[str, Any]]:
        """The first thousand."""
        return [row for _, row in await ctx.rows(SUBSCRIPTIONS).range(limit=1000)]


def _row(agent: str) -> str:
    """A row key may not hold the slash of an address."""
    return Address.parse(agent).log.replace("/", ":")
