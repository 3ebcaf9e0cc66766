"""Where commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from search.errors import masked
from search.views.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def echo(text: str) -> None:
    """Print a line on stderr, without passwords and without codes that a terminal obeys."""
    print(printable(masked(text)), file=sys.stderr)


def stdout() -> Console:
    """Return the console for tables."""
    from search.views.plain import PlainConsole

    # When stdout is not a terminal, use 200 columns so that tables are not cut.
    return PlainConsole(width=None if sys.stdout.isatty() else 200)
