"""The command line. Only this package uses typer. Each command is a thin function over the library."""

from search.cli.app import app, main

__all__ = ["app", "main"]
