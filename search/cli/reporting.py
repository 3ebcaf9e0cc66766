"""The commands that write pages: report, compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.cli.printing import Json, echo, stdout
from search.cli.study_argument import Name, Target, database, is_database, stored_study
from search.errors import Interrupted, ManyfitError, UsageError

if TYPE_CHECKING:
    from search.storage.studies import Stored
    from search.views.pages.page import Section


def report(
    study: Target,
    name: Name = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; default: NAME.report.html beside the database."),
    ] = None,
    model: Annotated[
        bool,
        typer.Option("--model/--no-model", help="With or without the mistakes and first weights of the best model."),
    ] = True,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Also write each picture as a PNG file into this folder; needs Chrome or Chromium."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a study's report: one HTML file with all pictures, which needs no network. With --json print its numbers instead.

    It says whether the search still improves, what matters and what to do next, also while the study runs. A worker builds
    the best model, whose weights the study has kept, to see what it gets wrong.

    Example: [bold]manyfit report studies/digits.toml -o digits.html[/], or [bold]--png pictures/[/]
    """
    from search.storage import records
    from search.views import console, export, study_page
    from search.views.insights import answers
    from search.views.pages import page as pages
    from search.views.pages import png as png_files

    if png is not None:
        png_files.check()
    stored = records.load(*stored_study(study, name))
    path = output or stored.files.report
    if output is not None or not as_json:
        export.check_target(path, stored)
    answered, (described, sections) = answers.answers(stored), _described(stored, is_wanted=model)
    if as_json:
        print(json.dumps({**answers.to_json(stored, answered), "model": described}, indent=2, allow_nan=False))
    page = study_page.page(stored, answered, sections)
    if output is not None or not as_json:
        pages.write(page, path)
        echo(f"written: {path}")
    if png is not None:
        with console.ConsoleReporter(console.stderr()).waiting("drawing the pictures"):
            drawn = png_files.write(page, png)
        echo(f"written: {png}, {len(drawn)} pictures")


def _described(stored: Stored, *, is_wanted: bool) -> tuple[Mapping[str, Any] | None, list[Section]]:
    """Return what a worker says of the best model, and the sections of the page with it, or with the reason for its lack."""
    from search.sessions import describing
    from search.views import console, listing, model_page

    if not is_wanted or not stored.complete:
        return None, []
    if listing.state_json(stored)["process"]:
        # A second worker could take the memory that the search needs.
        return None, model_page.left_out("the study is running")
    best = stored.complete[0]
    try:
        detail = describing.describe(stored, best, console.ConsoleReporter(console.stderr()))
    except Interrupted:
        raise
    except ManyfitError as error:
        echo(f"note: the best model's pictures are left out: {error}")
        return None, model_page.left_out(str(error))
    return model_page.numbers(detail), model_page.sections(best, detail)


def compare(
    studies: Annotated[
        list[Path], typer.Argument(metavar="STUDY...", help="Study files, or databases: all studies of a database.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--name", "-n", help="Only these studies of a database; may be repeated."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write a page with pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Compare studies: best values, also at equal epochs, what differs in their settings, and their best configs.

    Example: [bold]manyfit compare studies/digits.toml studies/wide.toml -o compared.html[/]
    """
    from search.views import comparing, export
    from search.views.pages import page as pages

    stored = _several(studies, names or [])
    if output is not None:
        for one in stored:
            export.check_target(output, one)
    comparisons = comparing.compared(stored)
    if as_json:
        print(json.dumps(comparing.to_json(comparisons), indent=2, allow_nan=False))
    else:
        comparing.show(comparisons, stdout())
    if output is not None:
        pages.write(comparing.page(comparisons), output)
        echo(f"written: {output}")


def _several(paths: list[Path], wanted: list[str]) -> list[Stored]:
    """Return the studies that a command line names; UsageError if these are less than two."""
    from search.storage import records

    studies: dict[tuple[Path, str], Stored] = {}
    unknown = set(wanted)
    for path in paths:
        if is_database(path):
            place, there = database(path), records.names(database(path))
            chosen = [name for name in there if name in wanted] if wanted else there
        else:
            place, own = stored_study(path, "")
            chosen = [own]
        unknown -= set(chosen)
        for name in chosen:
            studies[place, name] = records.load(place, name)
    if unknown:
        raise UsageError(f"--name: no database here has a study {sorted(unknown)[0]!r}")
    if len(studies) < 2:
        named = ", ".join(name for _, name in studies) or "none"
        raise UsageError(
            f"a comparison needs two studies; received {named}; name study files, or a database with several"
        )
    return list(studies.values())
