"""An agent that leaves something of every kind behind, and hands that change it where it lies."""

from __future__ import annotations

from pydantic import BaseModel

from aos import Agent, Context, on
from aos.audit import verify_agent
from aos.kernel.address import Address
from aos.kernel.ports import Batch, Kind, Row, Verb, Write
from aos.kernel.verify import Result
from aos.testing import World

DESK = Address.of("desk", "a")


class Sums(BaseModel):
    total: int = 0
    filling: str = ""


class Add(BaseModel):
    by: int = 1
    filling: str = ""


class Desk(Agent[Sums]):
    """State, history, a row that is written again and again, one that goes, a note, a reply."""

    @on("desk.add")
    def add(self, data: Add, ctx: Context[Sums]) -> int:
        ctx.state.total += data.by
        ctx.state.filling = data.filling
        ctx.append({"by": data.by})
        ctx.append({"total": ctx.state.total})
        ctx.put("sums", "latest", ctx.state.total)
        ctx.put("sums", f"k{ctx.state.total}", ctx.state.total)
        if ctx.state.total % 3 == 0:
            ctx.rows("sums").delete(f"k{ctx.state.total - 1}")
        ctx.note(f'it was {data.by}: "quoted" \\')
        return ctx.state.total


async def work(world: World, times: int = 5, agent: Address = DESK) -> None:
    for _ in range(times):
        await world.ask(agent, "desk.add", Add())


async def audit(world: World, agent: Address = DESK) -> Result:
    return await verify_agent(world.partitions.store, world.partitions.blobs, agent)


async def row(world: World, key: str) -> Row:
    (found,) = await world.partitions.store.read(DESK, Kind(key[0]), key[1:], key[1:] + "\0", limit=1)
    return found


async def write(world: World, *writes: Write) -> None:
    """Behind the kernel's back."""
    await world.partitions.store.journal(DESK, Batch("forged", None, None, writes))


async def put(world: World, key: str, body: bytes) -> None:
    await write(world, Write(Verb.PUT, key, body))


async def delete(world: World, *keys: str) -> None:
    await write(world, *(Write(Verb.DELETE, key) for key in keys))


async def replace(world: World, key: str, old: bytes, new: bytes) -> None:
    """Change bytes of a row, which must be there."""
    found = await row(world, key)
    assert old in found.body
    await put(world, key, found.body.replace(old, new))


async def behead(world: World, old: bytes, new: bytes) -> None:
    """Change bytes of the head, which must be there."""
    snapshot = await world.partitions.store.load(DESK)
    assert snapshot.head is not None and old in snapshot.head
    await set_head(world, snapshot.head.replace(old, new))


async def set_head(world: World, head: bytes) -> None:
    snapshot = await world.partitions.store.load(DESK)
    await world.partitions.store.commit(DESK, Batch("forged", snapshot.version, head))
