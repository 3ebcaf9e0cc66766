"""The commands that write pages: report, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from search.cli.printing import Json, echo
from search.cli.study_argument import Name, Target, stored_study


def report(
    study: Target,
    name: Name = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; default: NAME.report.html beside the database."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a study's report: one HTML file with all pictures, which needs no network; with --json print its numbers.

    It says whether the search still improves, what matters and what to do next, also while the study runs.

    Example: [bold]manyfit report studies/digits.toml -o digits.html[/]
    """
    from search.storage import records
    from search.views import export, study_page
    from search.views.insights import answers
    from search.views.pages import page as pages

    stored = records.load(*stored_study(study, name))
    found = answers.answers(stored)
    if as_json:
        print(json.dumps(answers.to_json(stored, found), indent=2, allow_nan=False))
    if output is None and as_json:
        return
    path = output or stored.files.report
    export.check_target(path, stored)
    pages.write(study_page.page(stored, found), path)
    echo(f"written: {path}")
