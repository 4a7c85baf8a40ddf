"""AOS, the agent operating system: agents whose every turn is atomic, audited and safe to repeat."""

from __future__ import annotations

from importlib.metadata import version as _version

__version__ = _version("aos-serverless")
