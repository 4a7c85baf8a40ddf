"""`python -m examples.operations_desk [EVENTS_FILE] [--home DIR]`: feeds a file of events and says what came of them.

Kill it whenever you like and start it again: it goes on where it was.
"""

import argparse
import asyncio
import hashlib
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from aos import AgentOperatingSystem
from aos.hosts.worker import Worker
from examples.operations_desk import desk
from examples.operations_desk.board import BOARD
from examples.operations_desk.feed import feed
from examples.operations_desk.pager import Pager
from examples.operations_desk.pager_server import PagerServer
from examples.operations_desk.report import tell_fed, tell_outcome
from examples.operations_desk.rest import until_read, until_rest

BACK_OFF = timedelta(minutes=1)
"""No retry waits longer."""
EVENTS = Path(__file__).with_name("events.jsonl")


def say(line: str) -> None:
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="operations_desk", description=__doc__)
    parser.add_argument("events", nargs="?", type=Path, default=EVENTS, help="JSON Lines; default: %(default)s")
    parser.add_argument("--home", type=Path, default=Path(".aos"), help="where the state lives; default: %(default)s")
    parser.add_argument("--webhook", metavar="URL", help="a pager; default: one of its own, on 127.0.0.1")
    parser.add_argument("--escalate-after", metavar="SECONDS", type=float, default=5.0, help="default: %(default)s")
    given = parser.parse_args()
    if not given.events.is_file():
        parser.error(f"{given.events} is not a file")
    return given


async def run(aos: AgentOperatingSystem, name: str, events: bytes, escalate_after: timedelta) -> None:
    await desk.subscribe(aos)
    tell_fed(await feed(aos, events.splitlines(), source=f"file:{name}"), say)
    await until_rest(aos, escalate_after + BACK_OFF, say)
    # The digest about this file: asked for again after a crash, it is the same event.
    digest = await aos.ask(BOARD, "digest.asked", id=f"desk:digest:{hashlib.sha256(events).hexdigest()}")
    await until_read(aos, digest["number"])
    await tell_outcome(aos, say)


async def start(given: argparse.Namespace, url: str) -> None:
    events: Path = given.events
    escalate_after = timedelta(seconds=given.escalate_after)
    agents = desk.agents(Pager(url), escalate_after)
    say(f"Feeding {events}; state in {given.home}")
    content = await asyncio.to_thread(events.read_bytes)
    async with AgentOperatingSystem(agents, home=given.home) as aos, Worker(aos):
        await run(aos, events.name, content, escalate_after)


def main() -> None:
    given = arguments()
    given.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url = given.webhook
        if url is None:
            url = stack.enter_context(PagerServer(given.home / "pager.jsonl")).url
            say(f"A pager listens at {url} and writes down who was called: {given.home / 'pager.jsonl'}")
        asyncio.run(start(given, url))


if __name__ == "__main__":
    main()
