"""AOS, the agent operating system: agents whose every turn is atomic, audited and safe to repeat.

The names below are all that a user imports; testing has its own in `aos.testing`. They are loaded when first used, so
that a tool that needs one module does not pay for the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aos.app import AgentOperatingSystem
    from aos.kernel.address import Address
    from aos.kernel.agent import Agent, Outcome, Pending, after, cron, migrate, on, query
    from aos.kernel.context import Context, Query
    from aos.kernel.errors import AosError, AskFailed, Denied, NotDone, OutcomeUnknown, Reject, Retry, StillOpen
    from aos.kernel.event import Event
    from aos.kernel.gatekeeper import PermitAll

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "Address",
    "Agent",
    "AgentOperatingSystem",
    "AosError",
    "AskFailed",
    "Context",
    "Denied",
    "Event",
    "NotDone",
    "Outcome",
    "OutcomeUnknown",
    "Pending",
    "PermitAll",
    "Query",
    "Reject",
    "Retry",
    "StillOpen",
    "__version__",
    "after",
    "cron",
    "migrate",
    "on",
    "query",
]

_HOMES = {
    "aos.app": ("AgentOperatingSystem",),
    "aos.kernel.address": ("Address",),
    "aos.kernel.agent": ("Agent", "Outcome", "Pending", "after", "cron", "migrate", "on", "query"),
    "aos.kernel.context": ("Context", "Query"),
    "aos.kernel.errors": (
        "AosError", "AskFailed", "Denied", "NotDone", "OutcomeUnknown", "Reject", "Retry", "StillOpen",
    ),
    "aos.kernel.event": ("Event",),
    "aos.kernel.gatekeeper": ("PermitAll",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("aos-serverless")
    if name not in _HOME:
        raise AttributeError(f"module 'aos' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
