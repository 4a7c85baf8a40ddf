"""An inbox: what a reader of the digest was sent."""

from typing import Any

from pydantic import BaseModel

from aos import Agent, Context, Query, on, query
from examples.operations_desk.board import Digest


class InboxState(BaseModel):
    latest: int = 0
    """The number of the latest digest."""


class Inbox(Agent[InboxState]):
    """One agent a reader. The digests themselves are its history."""

    @on("digest.published", senders=("topic",))
    def received(self, data: Digest, ctx: Context[InboxState]) -> None:
        ctx.state.latest = data.number
        ctx.append(data)

    @query
    async def latest(self, ctx: Query[InboxState]) -> Any:
        """The latest digest; None before the first."""
        found = await ctx.tail(1)
        return found[0] if found else None

    @query
    def show(self, ctx: Query[InboxState]) -> InboxState:
        return ctx.state
