"""The commands that show what is stored: list, show, export, dashboard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.printing import Json, echo, stdout
from search.cli.study_argument import Name, Target, databases, stored_study
from search.errors import StoreError, UsageError
from search.views.printable import printable

if TYPE_CHECKING:
    from search.storage.studies import Stored


def list_(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Folders (and the folders in them), databases or study files; default: studies/, or this folder.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the studies in a folder and the folders in it, with state, trials and best value.

    Example: [bold]manyfit list studies/[/]
    """
    from search.storage import records
    from search.views import listing

    paths = paths or [Path("studies") if Path("studies").is_dir() else Path()]
    briefs, unread = [], 0
    for database in [file for path in paths for file in databases(path)]:
        try:
            briefs += records.briefs(database)
        except StoreError as error:
            unread += 1
            echo(f"manyfit: {error}")
    if as_json:
        print(json.dumps([listing.to_json(brief) for brief in briefs], indent=2))
    elif briefs:
        stdout().print(listing.table(briefs, Path.cwd()))
    elif not unread:
        echo(f"no studies in {', '.join(map(str, paths))}; `manyfit run` with a study file makes one")
    if unread:
        raise typer.Exit(StoreError.exit_code)


def show(
    study: Target,
    name: Name = "",
    top: Annotated[int, typer.Option(min=1, help="How many of the best configs.")] = 5,
    trial: Annotated[
        int | None, typer.Option(min=0, help="Show one trial: its config, its curve, why it ended.")
    ] = None,
    settings: Annotated[bool, typer.Option("--settings", help="Print all settings, as TOML.")] = False,
    as_json: Json = False,
) -> None:
    """Show a study: is it still improving, what matters, what next; then curves, how trials ended, and the best configs.

    Example: [bold]manyfit show studies/digits.toml --top 3[/], or [bold]--trial 7[/]
    """
    from search.storage import records
    from search.views import one_trial, report

    stored = records.load(*stored_study(study, name))
    if as_json:
        table = report.to_json(stored, top) if trial is None else one_trial.to_json(stored, trial)
        print(json.dumps(table, indent=2, allow_nan=False))
    elif settings:
        print(report.settings_toml(stored))
    elif trial is None:
        report.show(stored, top, stdout())
    else:
        one_trial.show(stored, trial, stdout())


def export(
    study: Target,
    name: Name = "",
    top: Annotated[int, typer.Option(min=1, help="How many of the best configs.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; default: stdout.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Export all trials, as CSV.")] = False,
    model: Annotated[
        Path | None, typer.Option("--model", help="Save the best trial's model as this .keras file.")
    ] = None,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="With --model: of this trial instead.")] = None,
) -> None:
    """Export the best configs as JSON, all trials as CSV, or a trained model as a .keras file.

    A model has the weights of its trial's best epoch. `keras.models.load_model` opens it, and it takes rows as the source has
    them: scaling is inside. The command evaluates the written file.

    Example: [bold]manyfit export studies/digits.toml --top 5 -o best.json[/], or [bold]--model best.keras[/]
    """
    from search.storage import records
    from search.trials.confirmation import SUFFIX
    from search.views import export as exports
    from search.views import standing

    stored = records.load(*stored_study(study, name))
    if stored.file.settings.study.confirms and not csv:
        confirmed = stored.name.removesuffix(SUFFIX)
        raise UsageError(
            f"{stored.name} has the fresh trainings of {confirmed}, the best of which is luck; export {confirmed}, with "
            "both numbers of its configs, or use --csv for all fresh trainings"
        )
    if model is not None:
        _export_model(stored, model, trial)
        return
    best = exports.best(stored, top)
    text = exports.to_csv(stored) if csv else exports.to_json(best)
    if not csv and (output is not None or best.ahead):
        echo(standing.line(stored, top))
    if output is None:
        # Escape control characters for a terminal, which would obey them; a program gets the exact text.
        print(printable(text) if sys.stdout.isatty() else text, end="")
        return
    exports.check_target(output, stored)
    exports.write(output, text)
    echo(f"written: {output}")


def dashboard(
    study: Target,
    name: Name = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Only 127.0.0.1; for any other address the error has the command for an SSH tunnel.")
    ] = "127.0.0.1",
) -> None:
    """Open optuna-dashboard on a study, read-only, on 127.0.0.1. Ctrl-C ends it.

    Example: [bold]manyfit dashboard studies/digits.toml --port 8081[/]
    """
    from search.views import dashboard as dashboards

    dashboards.check_address(host, port)
    path, name = stored_study(study, name)
    dashboards.serve(
        path, port, study=name, on_ready=lambda url: echo(f"optuna-dashboard, read-only: {url}\nCtrl-C ends it")
    )


def _export_model(stored: Stored, path: Path, number: int | None) -> None:
    from search.sessions import saving
    from search.views import console, export, standing, text

    if path.suffix != ".keras":
        raise UsageError(f"--model: a model is saved as a .keras file; received {path}")
    export.check_target(path, stored)
    chosen = [t for t in stored.trials if t.number == number] if number is not None else stored.complete[:1]
    if not chosen:
        raise UsageError("no trial is complete yet" if number is None else f"--trial: the study has no trial {number}")
    saved = saving.save_model(stored, chosen[0], path, console.ConsoleReporter(console.stderr()))
    objective, value = stored.file.settings.study.objective, text.number(saved.stored)
    result = f"{objective} {value}"
    if saved.value is not None:
        when = "evaluated once more" if saved.is_from_file else "evaluated once more before it was written"
        result = f"{objective} {text.number(saved.value)}, {when} (in the study: {value})"
    training = f" ({saved.training})" if saved.training else ""
    echo(f"written: {path}, the model of trial {chosen[0].number}{training}; {result}")
    for line in saved.lines:
        echo(f"  {line}")
    if number is None:
        echo(f"  {standing.line(stored, 1)}")
