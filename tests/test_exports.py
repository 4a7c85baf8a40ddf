"""The public surface, and what production must never be able to reach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aos

ROOT = Path(__file__).parents[1]
PUBLIC = set(
    """
    Address Agent AgentOperatingSystem AosError AskFailed Context Denied Event NotDone Outcome OutcomeUnknown Pending
    PermitAll Query Reject Retry StillOpen __version__ after cron migrate on query
    """.split()  # noqa: SIM905
)


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert set(aos.__all__) == PUBLIC
    assert all(getattr(aos, name) is not None for name in PUBLIC)


def test_importing_aos_alone_loads_none_of_it() -> None:
    loaded = _run("import aos, sys; print([m for m in sys.modules if m.startswith('aos.') or m == 'pydantic'])")
    assert loaded == "[]"


def test_no_fault_hook_is_reachable_in_production() -> None:
    """Fault points lie in wrappers around the ports, in aos.testing. A whole turn on the embedded default, with effect
    and worker, runs without that package; and nothing in production so much as names it."""
    script = """
import asyncio, sys, tempfile
from aos import Agent, AgentOperatingSystem, Context, on
from aos.hosts.worker import Worker
class A(Agent, type="a", effects={"e": "write"}):
    @on("x")
    async def x(self, ctx: Context) -> int:
        ctx.send("a/b", "y")
        return await ctx.effect("e", lambda: 1)
    @on("y")
    def y(self) -> None: ...
async def main(home):
    async with AgentOperatingSystem([A], home=home) as aos, Worker(aos):
        assert await aos.ask("a/a", "x") == 1
with tempfile.TemporaryDirectory() as home:
    asyncio.run(main(home))
print([m for m in sys.modules if m.startswith("aos.testing")])
"""
    assert _run(script) == "[]"
    production = [
        path for path in (ROOT / "aos").rglob("*.py") if "testing" not in path.relative_to(ROOT / "aos").parts
    ]
    naming = [path for path in production if "import" in path.read_text() and "aos.testing import" in path.read_text()]
    assert [str(path) for path in naming] == []


def _run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
