"""The command that trains the best configs of a study again: confirm."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from search.cli.printing import Json, stdout
from search.cli.study_argument import Name, Target, stored_study


def confirm(
    study: Target,
    name: Name = "",
    top: Annotated[int | None, typer.Option(min=1, help="How many of the best configs; default: 5.")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=2, max=1000, help="How many trainings of each; default: 10.")
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False,
) -> None:
    """Train the best configs of a study again, with fresh seeds: how much of their values was luck?

    The trainings are stored as a study NAME.confirm in the same database. Ctrl-C stops cleanly, and the same command goes on.

    Example: [bold]manyfit confirm studies/digits.toml --top 5 --repeats 10[/]
    """
    from search.sessions import confirming
    from search.storage import records
    from search.views import confirmed
    from search.views.console import ConsoleReporter, stderr

    stored = records.load(*stored_study(study, name))
    confirmation = confirming.confirm(stored, top, repeats, ConsoleReporter(stderr(quiet=quiet)))
    if as_json:
        print(json.dumps(confirmed.to_json(confirmation), indent=2, allow_nan=False))
        return
    console = stdout()
    console.print(confirmed.table(confirmation, stored.file.settings.study.objective))
    for line in confirmed.lines(confirmation):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
