"""Topics: an agent `topic/<name>` that holds subscriptions and fans out (ARCHITECTURE section 5).

Subscriptions are keyed rows, so a topic with many costs a turn no more than one with few. A publication with more
subscribers than a turn may serve goes on by an event to itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from aos.kernel.address import Address
from aos.kernel.agent import Agent, on, query
from aos.kernel.context import Context, Query

PAGE = 200
BYTES = 600_000
"""Subscribers served a turn, and bytes sent to them."""
SUBSCRIPTIONS = "subscriptions"
PUBLICATIONS = "publications"


class TopicState(BaseModel):
    subscribers: int = 0
    published: int = 0


class Subscription(BaseModel):
    """`types`: the event types wanted; empty: all."""

    agent: str
    types: list[str] = Field(default_factory=list[str])


class Publication(BaseModel):
    type: str
    data: Any = None


class Serving(BaseModel):
    """A publication that takes several turns: where it is kept, and the subscriber to go on behind."""

    row: str
    after: str


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
        """Send it to everybody at once, or keep it and serve a page of subscribers a turn."""
        ctx.state.published += 1
        if ctx.state.subscribers <= _page(data):
            await self._serve(data, "", ctx)
            return
        row = ctx.uuid().hex
        ctx.put(PUBLICATIONS, row, data)
        self._go_on(Serving(row=row, after=""), ctx)

    @on("topic.serve", senders=("topic",))
    async def serve(self, data: Serving, ctx: Context[TopicState]) -> None:
        publication = Publication.model_validate(await ctx.get(PUBLICATIONS, data.row))
        last = await self._serve(publication, data.after, ctx)
        if last is None:
            ctx.rows(PUBLICATIONS).delete(data.row)
        else:  # the smallest key behind the last one served
            self._go_on(Serving(row=data.row, after=last + "\0"), ctx)

    def _go_on(self, serving: Serving, ctx: Context[TopicState]) -> None:
        """By a timer that is due at once: pages are not nested sends, and there may be more of them than hops (P3)."""
        ctx.schedule("topic.serve", serving, key=f"serve:{serving.row}", after=timedelta())

    async def _serve(self, data: Publication, after: str, ctx: Context[TopicState]) -> str | None:
        """Send it to a page of subscribers; the last one's row, None if there are no more."""
        page = _page(data)
        found = await ctx.rows(SUBSCRIPTIONS).range(after, limit=page)
        for _, subscription in found:
            if not subscription["types"] or data.type in subscription["types"]:
                ctx.send(subscription["agent"], data.type, data.data)
        return found[-1][0] if len(found) == page else None

    @query
    async def subscriptions(self, ctx: Query[TopicState]) -> list[dict[str, Any]]:
        """The first thousand."""
        return [row for _, row in await ctx.rows(SUBSCRIPTIONS).range(limit=1000)]


def _page(data: Publication) -> int:
    return max(1, min(PAGE, BYTES // (len(data.model_dump_json()) + 100)))


def _row(agent: str) -> str:
    """A row key may not hold the slash of an address."""
    return Address.parse(agent).log.replace("/", ":")
