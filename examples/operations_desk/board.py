"""The board: counts what happens to incidents, and publishes a digest."""

from datetime import datetime

from pydantic import BaseModel

from aos import Agent, Context, Query, cron, on, query

BOARD = "board/main"
TOPIC = "digest"


class Change(BaseModel):
    """What happened to an incident, and the status it has now."""

    incident: str
    what: str
    status: str


class Digest(BaseModel):
    number: int
    at: datetime
    counts: dict[str, int]
    unresolved: list[str]
    """At most a hundred."""


class BoardState(BaseModel):
    counts: dict[str, int] = {}
    digests: int = 0


class Board(Agent[BoardState]):
    """There is one, `board/main`. Which incidents are unresolved lies in keyed rows: state must not grow."""

    @on("board.changed", senders=("incident",))
    def changed(self, data: Change, ctx: Context[BoardState]) -> None:
        ctx.state.counts[data.what] = ctx.state.counts.get(data.what, 0) + 1
        if data.status == "resolved":
            ctx.rows("unresolved").delete(data.incident)
        else:
            ctx.put("unresolved", data.incident, data.status)

    @cron("0 8 * * *", key="main", tz="Europe/Berlin")
    async def morning(self, ctx: Context[BoardState]) -> None:
        await _publish(ctx)

    @on("digest.asked")
    async def asked(self, ctx: Context[BoardState]) -> Digest:
        """For those who can't wait until the morning."""
        return await _publish(ctx)

    @query
    async def waiting(self, ctx: Query[BoardState]) -> list[str]:
        """The incidents that nobody has acknowledged yet, at most a hundred."""
        rows = await ctx.rows("unresolved").range(limit=1000)
        return [incident for incident, status in rows if status == "open"][:100]

    @query
    def show(self, ctx: Query[BoardState]) -> BoardState:
        return ctx.state


async def _publish(ctx: Context[BoardState]) -> Digest:
    ctx.state.digests += 1
    unresolved = [incident for incident, _ in await ctx.rows("unresolved").range(limit=100)]
    digest = Digest(number=ctx.state.digests, at=ctx.now, counts=ctx.state.counts, unresolved=unresolved)
    ctx.publish(TOPIC, "digest.published", digest)
    return digest
