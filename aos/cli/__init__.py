"""The `aos` command. Exit codes: 0 ok, 1 tampered, 2 incomplete or unavailable, 3 usage."""

from __future__ import annotations

import os
import sys

UNAVAILABLE = 2
USAGE = 3


class Usage(Exception):
    """The command line makes no sense; the message says why."""


def main() -> None:
    """Carry out the command line and end the process. Python's own 1 for a crash would say "tampered", so it is 2."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # a name that the terminal can't show is no crash
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except Usage as error:
        print(f"aos: {error}\n`aos --help` and `aos verify --help` say more.", file=sys.stderr)
        code = USAGE
    except BrokenPipeError:  # whoever reads our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = UNAVAILABLE
    except KeyboardInterrupt:
        code = 130
    except Exception:
        import traceback

        traceback.print_exc()
        code = UNAVAILABLE
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["verify"]:  # without Typer, which takes longer to import than a small export to verify
        from aos.cli import verify

        return verify.main(arguments[1:])
    from aos.cli.app import UsageError, app

    try:
        return app(standalone_mode=False) or 0
    except UsageError as error:
        raise Usage(error.format_message()) from None
