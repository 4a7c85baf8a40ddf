"""Who is on duty in a team, and how they are told."""

from pydantic import BaseModel

from aos import Agent, Context, Query, on, query
from examples.operations_desk.alert import Name
from examples.operations_desk.pager import Pager


class Roster(BaseModel):
    team: Name
    first: str
    second: str


class Notice(BaseModel):
    incident: str
    text: str


class OnCallState(BaseModel):
    first: str = "duty manager"
    second: str = "duty manager"
    pages: int = 0
    calls: int = 0


class OnCall(Agent[OnCallState], effects={"page": "write", "phone": "write"}):
    """One agent a team. The pager drops a page whose key it has seen, so that may be repeated after a crash. A phone
    call may not: if a crash hides whether it was made, the event stops as a dead letter and an operator decides."""

    def __init__(self, pager: Pager) -> None:
        self.pager = pager

    @on("roster.changed", key="data.team")
    def roster(self, data: Roster, ctx: Context[OnCallState]) -> None:
        ctx.state.first, ctx.state.second = data.first, data.second

    @on("on-call.page", senders=("incident",))
    async def page(self, data: Notice, ctx: Context[OnCallState]) -> str:
        person = ctx.state.first
        await ctx.effect("page", self.pager.page, person, data.incident, data.text, idempotent=True)
        ctx.state.pages += 1
        return person

    @on("on-call.phone", senders=("incident",))
    async def phone(self, data: Notice, ctx: Context[OnCallState]) -> str:
        person = ctx.state.second
        await ctx.effect("phone", self.pager.phone, person, data.incident, data.text)
        ctx.state.calls += 1
        return person

    @query
    def show(self, ctx: Query[OnCallState]) -> OnCallState:
        return ctx.state
