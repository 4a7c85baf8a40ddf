"""The commands. What they do is in modules of their own, imported when they run."""

from __future__ import annotations

from typing import cast

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


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def verify(context: typer.Context) -> int:
    """Prove the ledger, of an export or of a store."""
    from aos.cli import verify

    return verify.main(context.args)
