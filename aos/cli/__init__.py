"""The `aos` command. Exit codes: 0 ok, 1 tampered, 2 incomplete or unavailable, 3 usage."""

from __future__ import annotations

import os
import sys

UNAVAILABLE = 2
USAGE = 3


def main() -> None:
    """Carry out the command line and end the process. Python's own 1 for a crash would say "tampered", so it is 2."""
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = UNAVAILABLE
    except Exception:
        import traceback

        traceback.print_exc()
        code = UNAVAILABLE
    sys.exit(code)


def _run() -> int:
    import typer

    from aos.cli.app import UsageError, app

    try:
        return app(standalone_mode=False) or 0
    except UsageError as error:
        print(f"aos: {error.format_message()}\n`aos --help` and `aos verify --help` say more.", file=sys.stderr)
        return USAGE
    except typer.Abort:
        return UNAVAILABLE
