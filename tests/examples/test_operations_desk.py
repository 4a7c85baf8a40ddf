"""The operations desk: each behaviour on both backends, calm and hostile, against a real HTTP server."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aos import AgentOperatingSystem
from aos.hosts.worker import Worker
from aos.ingress import read_event
from aos.testing import World
from examples.operations_desk import desk
from examples.operations_desk.feed import feed
from examples.operations_desk.pager import Pager
from examples.operations_desk.pager_server import PagerServer

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "examples" / "operations_desk" / "events.jsonl"
ESCALATION = timedelta(minutes=15)
TROUBLE = "checkout:error-rate"
INCIDENT = f"incident/{TROUBLE}"
MODES = [(backend, hostile) for backend in ("memory", "sqlite") for hostile in (False, True)]


@pytest.fixture
def pager(tmp_path):
    with PagerServer(tmp_path / "pager.jsonl") as server:
        yield server


@pytest.fixture(params=MODES, ids=[f"{backend}-{'hostile' if hostile else 'calm'}" for backend, hostile in MODES])
async def world(request, pager):
    backend, hostile = request.param
    agents = desk.agents(Pager(pager.url), ESCALATION)
    async with World(*agents, backend=backend, hostile=hostile) as world:
        await send(world, "roster.changed", team="storefront", first="Maria", second="Tomasz")
        yield world
        world.verify()


async def send(world: World, type: str, **data: Any) -> str:
    """An event from outside, routed by its data. Every call is another event."""
    line = json.dumps({"type": type, **data, "n": world.entropy.bytes(4).hex()})
    return await world.event(read_event(line, source="test"))


def alert(**other: Any) -> dict[str, Any]:
    return {
        "fingerprint": TROUBLE,
        "service": "checkout",
        "team": "storefront",
        "severity": "critical",
        "summary": "7 % of requests fail",
        "at": datetime(2026, 1, 5, 8, tzinfo=UTC).isoformat(),
        **other,
    }


async def acknowledge(world: World, by: str = "Maria") -> str:
    return await send(world, "alert.acknowledged", fingerprint=TROUBLE, by=by, at=alert()["at"])


async def resolve(world: World) -> str:
    return await send(world, "alert.resolved", fingerprint=TROUBLE, at=alert()["at"])


def done(pager: PagerServer, path: str) -> list[str]:
    """Who was reached: what the pager took, without repetitions of the same key."""
    return [call["person"] for call in pager.calls() if call["path"] == path and not call["repeated"]]


def counts(world: World) -> dict[str, int]:
    return world.state("board/main")["counts"]


async def test_alerts_with_one_fingerprint_are_one_incident(world, pager) -> None:
    for _ in range(3):
        await send(world, "alert.raised", **alert())
    await send(world, "alert.raised", **alert(fingerprint="checkout:latency-p99"))
    assert world.state(INCIDENT)["alerts"] == 3
    assert len(world.history(INCIDENT)) == 3
    assert done(pager, "/page") == ["Maria", "Maria"]
    assert counts(world) == {"opened": 2, "paged": 2, "repeated": 2}


async def test_the_same_alert_again_is_a_duplicate(world, pager) -> None:
    line = json.dumps({"type": "alert.raised", **alert()})
    for _ in range(3):
        await world.event(read_event(line, source="test"))
    assert world.state(INCIDENT)["alerts"] == 1
    assert done(pager, "/page") == ["Maria"]


async def test_the_alert_is_answered_when_somebody_was_paged(world) -> None:
    assert await world.ask(INCIDENT, "alert.raised", alert()) == f"{INCIDENT} is open, Maria was paged"
    assert await world.ask(INCIDENT, "alert.raised", alert()) == f"{INCIDENT} has had 2 alerts"


async def test_the_page_bears_the_operation_id_as_its_key(world, pager) -> None:
    await send(world, "alert.raised", **alert())
    (result,) = world.entries("on-call/storefront", "effect.result")
    assert {call["key"] for call in pager.calls()} == {result["op"]}
    assert pager.calls()[0]["incident"] == INCIDENT


async def test_nobody_acknowledges_and_it_is_escalated(world, pager) -> None:
    await send(world, "alert.raised", **alert())
    await world.advance(ESCALATION - timedelta(seconds=1))
    assert world.state(INCIDENT)["status"] == "open"
    assert done(pager, "/phone") == []
    await world.advance(timedelta(seconds=1))
    assert world.state(INCIDENT)["status"] == "escalated"
    assert done(pager, "/phone") == ["Tomasz"]
    await world.advance(timedelta(days=2))
    assert done(pager, "/phone") == ["Tomasz"]
    assert counts(world) == {"opened": 1, "paged": 1, "escalated": 1, "phoned": 1}


async def test_an_acknowledgement_cancels_the_escalation(world, pager) -> None:
    await send(world, "alert.raised", **alert())
    await world.advance(ESCALATION / 2)
    await acknowledge(world)
    await world.advance(timedelta(days=2))
    assert world.state(INCIDENT)["status"] == "acknowledged"
    assert world.state(INCIDENT)["by"] == "Maria"
    assert done(pager, "/phone") == []


async def test_after_a_resolution_an_alert_opens_it_anew(world, pager) -> None:
    await send(world, "alert.raised", **alert())
    await resolve(world)
    await world.advance(timedelta(days=1))
    assert done(pager, "/phone") == []
    await send(world, "alert.raised", **alert())
    assert world.state(INCIDENT)["occurrences"] == 2
    assert done(pager, "/page") == ["Maria", "Maria"]
    await world.advance(ESCALATION)
    assert done(pager, "/phone") == ["Tomasz"]


async def test_there_is_nothing_to_acknowledge(world) -> None:
    key = await acknowledge(world)
    (letter,) = world.dead_letters(INCIDENT)
    assert (letter.message.event.key, letter.reason) == (key, "rejected")
    assert "nothing to acknowledge" in letter.error


async def test_an_alert_of_the_wrong_shape_is_a_dead_letter(world, pager) -> None:
    await send(world, "alert.raised", **alert(severity="urgent"))
    (letter,) = world.dead_letters(INCIDENT)
    assert letter.reason == "invalid_data"
    assert pager.calls() == []


async def test_only_an_incident_can_escalate(world, pager) -> None:
    await send(world, "alert.raised", **alert())
    await world.send(INCIDENT, "incident.escalate")
    (letter,) = world.dead_letters(INCIDENT)
    assert letter.reason == "forbidden_sender"
    assert world.state(INCIDENT)["status"] == "open"


async def test_the_digest_reaches_both_readers_every_morning(world) -> None:
    for reader in desk.READERS:
        await world.ask("topic/digest", "topic.subscribe", {"agent": reader})
    await send(world, "alert.raised", **alert())
    await acknowledge(world)
    for number in (1, 2):
        await world.advance(timedelta(days=1))
        for reader in desk.READERS:
            digest = await world.query(reader, "latest")
            assert digest["number"] == number
            assert digest["at"].startswith(f"2026-01-0{5 + number}T07:00:00")  # eight o'clock in Berlin
            assert digest["unresolved"] == [TROUBLE]
    await resolve(world)
    assert (await world.ask("board/main", "digest.asked"))["unresolved"] == []
    assert [len(world.history(reader)) for reader in desk.READERS] == [3, 3]


async def test_a_pager_that_is_away_is_tried_again(world, pager) -> None:
    pager.status = 503
    await send(world, "alert.raised", **alert())
    assert pager.calls() == []
    assert world.dead_letters("on-call/storefront") == []
    pager.status = 204
    await world.advance(timedelta(minutes=1))
    assert done(pager, "/page") == ["Maria"]
    assert counts(world) == {"opened": 1, "paged": 1}


async def test_a_pager_that_stays_away_is_a_dead_letter_and_the_incident_knows(world, pager) -> None:
    pager.status = 503
    await send(world, "alert.raised", **alert())
    await world.advance(timedelta(minutes=10))
    (letter,) = world.dead_letters("on-call/storefront")
    assert letter.reason == "max_attempts"
    assert counts(world) == {"opened": 1, "page failed": 1}
    pager.status = 204
    await world.command("on-call/storefront", "aos.dead_letter.redrive", {"key": letter.message.event.key})
    assert done(pager, "/page") == ["Maria"]


@pytest.mark.parametrize(("answer", "phoned"), [("happened", 1), ("did_not_happen", 2)])
async def test_a_call_that_may_have_been_made_stops_until_an_operator_decides(world, pager, answer, phoned) -> None:
    await send(world, "alert.raised", **alert())
    pager.status = 500
    await world.advance(ESCALATION)
    (letter,) = world.dead_letters("on-call/storefront")
    assert letter.reason == "outcome_unknown"
    assert counts(world) == {"opened": 1, "paged": 1, "escalated": 1, "phone failed": 1}
    await world.advance(timedelta(days=2))
    assert len([call for call in pager.calls() if call["path"] == "/phone"]) == 1

    pager.status = 204
    (operation,) = letter.operations
    await world.command(
        "on-call/storefront",
        "aos.dead_letter.resolve",
        {"key": letter.message.event.key, "op": operation["op"], "answer": answer},
    )
    assert world.dead_letters("on-call/storefront") == []
    assert world.state("on-call/storefront")["calls"] == 1
    calls = [call for call in pager.calls() if call["path"] == "/phone"]
    assert len(calls) == phoned
    assert len({call["key"] for call in calls}) == 1


async def test_the_file_is_fed_and_fed_again(tmp_path, pager) -> None:
    lines = EVENTS.read_bytes().splitlines()
    assert len(lines) == 300
    agents = desk.agents(Pager(pager.url), ESCALATION)
    async with AgentOperatingSystem(agents, home=tmp_path) as aos:
        first = await feed(aos, lines, source="file:events")
        async with Worker(aos):
            while await aos.bus.depth(aos.clock.now()):
                await asyncio.sleep(0.02)
        second = await feed(aos, lines, source="file:events")
    assert (first.taken, first.duplicates) == (276, 14)
    assert (second.taken, second.duplicates) == (0, 290)
    assert first.refused == second.refused
    assert [(refused.line, refused.reason.partition(":")[0]) for refused in first.refused] == [
        (18, "InvalidEvent"),
        (42, "UnknownEventType"),
        (59, "InvalidAddress"),
        (98, "InvalidEvent"),
        (122, "InvalidEvent"),
        (141, "InvalidAddress"),
        (153, "ReservedName"),
        (168, "InvalidEvent"),
        (225, "InvalidEvent"),
        (243, "InvalidEvent"),
    ]


def test_the_program_says_what_happened(tmp_path) -> None:
    events = tmp_path / "few.jsonl"
    lines = [
        {"type": "roster.changed", "team": "storefront", "first": "Maria", "second": "Tomasz"},
        {"type": "alert.raised", **alert()},
        {"type": "alert.raised", **alert()},
        {"type": "alert.raised", **alert(severity="urgent")},
        {"type": "backup.finished"},
    ]
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def start() -> str:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "examples.operations_desk",
                "few.jsonl",
                "--home",
                "home",
                "--escalate-after",
                "0.3",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    first, second = start(), start()
    assert "5 lines: 3 taken, 1 duplicates, 1 refused" in first
    assert "  line 5 refused: UnknownEventType: " in first
    assert f"  {TROUBLE} is escalated" in first
    assert "5 lines: 0 taken, 4 duplicates, 1 refused" in second
    for printed in (first, second):
        assert "Incidents: 1 opened, 0 repeated, 0 acknowledged, 1 escalated, 0 resolved" in printed
        assert "Notifications: 1 paged, 0 page failed, 1 phoned, 0 phone failed" in printed
        assert f"  {INCIDENT} alert.raised: invalid_data: " in printed
        assert "inbox/status-page was sent a digest: 1 incidents are unresolved" in printed
    assert len((tmp_path / "home" / "pager.jsonl").read_text().splitlines()) == 2
