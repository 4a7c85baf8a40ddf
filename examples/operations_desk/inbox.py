"""An inbox: what a reader of the digest was sent."""

from typing import Any

from aos import Agent, Context, Query, on, query
from aos.kernel.agent import Empty
from examples.operations_desk.board import Digest


class Inbox(Agent[Empty]):
    """One agent a reader. It has no state: the digests are its history."""

    @on("digest.published", senders=("topic",))
    def received(self, data: Digest, ctx: Context[Empty]) -> None:
        ctx.append(data)

    @query
    async def latest(self, ctx: Query[Empty]) -> Any:
        """The latest digest; None before the first."""
        found = await ctx.tail(1)
        return found[0] if found else None
