"""The commands and what they take. What they do is in modules of their own, imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What Typer raises for a command line that it can't make sense of."""

app = typer.Typer(
    help="AOS, the agent operating system.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def version() -> int:
    """Print the version."""
    from aos import __version__

    print(__version__)
    return 0


@app.command()
def verify(
    target: Annotated[
        str | None, typer.Argument(metavar="FILE|AGENT", help="An export, or an agent of the store: type/key.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every agent of the store.")] = False,
    payloads: Annotated[
        Path | None,
        typer.Option(
            help="The payloads of the export. Default: audit.payloads.jsonl beside audit.jsonl, if it is there."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write what is verified to this file and its payloads beside it.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Where the store is. Default: .aos here or in a folder above.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON Lines: one object a log, then one of them all.")] = False,
) -> int:
    """Prove the ledger: that records, links, times, payloads and live state are what was committed.

    Exit status: 0 ok, 1 tampered, 2 incomplete or unavailable, 3 usage.
    """
    from aos.cli import verify

    try:
        return verify.run(target, every=every, payloads=payloads, export=export, home=home, json=json)
    except verify.Usage as error:
        raise UsageError(str(error)) from None
