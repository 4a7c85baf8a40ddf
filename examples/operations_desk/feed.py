"""A file of events into the system: JSON Lines, CloudEvents and bare JSON, and some lines that are neither."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aos import AgentOperatingSystem, AosError, Event
from aos.ingress import read_event


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that was not taken, and why. Nothing of it was written."""

    line: int
    reason: str


@dataclass(slots=True)
class Fed:
    """What became of the lines."""

    lines: int = 0
    taken: int = 0
    duplicates: int = 0
    refused: list[Refused] = field(default_factory=list[Refused])


async def feed(aos: AgentOperatingSystem, lines: Iterable[bytes], source: str) -> Fed:
    """Feed every line; `source` is that of bare JSON. What was taken is durable; what was taken before, in this run or
    an earlier one, is a duplicate: after a crash the whole file is simply fed again."""
    fed = Fed()
    seen: dict[str, tuple[str, bool]] = {}
    for number, line in enumerate(lines, 1):
        fed.lines += 1
        try:
            event = read_event(line, source=source)
            body, earlier = seen.get(event.key) or ("", await _known(aos, event))
            await aos.process_event(event)
        except AosError as error:
            fed.refused.append(Refused(number, f"{type(error).__name__}: {error}"))
            continue
        duplicate = earlier or body == event.request_hash
        fed.duplicates += duplicate
        fed.taken += not duplicate
        seen.setdefault(event.key, (event.request_hash, earlier))
    return fed


async def _known(aos: AgentOperatingSystem, event: Event) -> bool:
    """Whether its agent has a receipt for it."""
    return await aos.dispatcher.receipt(aos.registry.route(event), event.key) is not None
