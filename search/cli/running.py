"""The commands that search or prepare a search: run, plan, check, doctor."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.brought import Brought, Build, Data, Write
from search.cli.printing import Json, echo, stdout
from search.cli.study_argument import Name, TargetOrNone, stored_study, study_file, words_for
from search.errors import StoreError, UsageError

if TYPE_CHECKING:
    from search.spec.study import StudyFile

Widen = Annotated[
    list[str] | None,
    typer.Option(
        "--widen",
        metavar="KEY=VALUE",
        help="Start a new study with a wider range, such as space.dropout.high=0.7; it learns from the trials so far.",
    ),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change any key of the file.")]


def run(  # noqa: PLR0913, PLR0917 (typer reads one option from each argument)
    study: TargetOrNone = None,
    name: Name = "",
    build: Build = "",
    data: Data = "",
    write: Write = None,
    trials: Annotated[str | None, typer.Option(metavar="N", help="How many trials the study has in all.")] = None,
    sampler: Annotated[str | None, typer.Option(help="bayes, random, tpe, gp, cmaes, qmc or grid.")] = None,
    pruner: Annotated[str | None, typer.Option(help="none, median, percentile, halving, hyperband or patient.")] = None,
    seed: Annotated[int | None, typer.Option(help="The study's seed.")] = None,
    time: Annotated[str | None, typer.Option(help="Time for the whole study, such as 10m or 1h30m.")] = None,
    backend: Annotated[str | None, typer.Option(help="tensorflow or jax.")] = None,
    set_: Overrides = None,
    widen: Widen = None,
    allow_unused: Annotated[
        bool,
        typer.Option("--allow-unused", help="Start a new study although some settings have no effect."),
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Start a new study without the quick checks of data and model.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False,
) -> None:
    """Start a study, or resume it. If it is finished, say so and exit with 0.

    The best config goes to stdout as JSON, and the best five to NAME.best.json beside the database. Ctrl-C stops cleanly.

    Example: [bold]manyfit run studies/digits.toml --trials 40 --set space.dropout.high=0.6 --name digits-wide[/]
    """
    from search.cli import run_output
    from search.sessions import outcomes
    from search.sessions import run as sessions
    from search.views.console import ConsoleReporter, stderr

    brought = Brought(study, build, data, write)
    brought.check()
    flags = {
        "study.trials": _total_trials(trials, brought.target, name),
        "search.sampler": sampler,
        "search.pruner": pruner,
        "study.seed": seed,
        "study.time": time,
        "run.backend": backend,
    }
    overrides = [*(set_ or []), *(f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None)]
    console = stderr(quiet=quiet)
    if widen:
        file = _widened(brought, name, widen, overrides)
    else:
        file = study_file(brought, name, overrides, ConsoleReporter(console), allow_unused=allow_unused)
    done = sessions.run(file, ConsoleReporter(console), allow_unused=allow_unused, checks=not no_check)
    run_output.show(done, words_for(done.stored, brought.target), console)
    outcomes.check(done, "--trials {trials}")


def plan(
    study: TargetOrNone = None,
    name: Name = "",
    build: Build = "",
    data: Data = "",
    write: Write = None,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print what a study would run, where and why, without running it. Loads the data and builds one model.

    Example: [bold]manyfit plan studies/digits.toml[/]
    """
    from search.sessions.planning import plan
    from search.views import plan_table
    from search.views.console import ConsoleReporter, stderr

    brought = Brought(study, build, data, write)
    brought.check()
    planned = plan(study_file(brought, name, set_ or [], ConsoleReporter(stderr()), allow_unused=True))
    if as_json:
        print(json.dumps(planned, indent=2))
    else:
        stdout().print(plan_table.table(planned))


def check(
    study: TargetOrNone = None,
    name: Name = "",
    build: Build = "",
    data: Data = "",
    set_: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write; default: NAME.check.html beside the database."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a study's data and how its model trains before a search; print one verdict per line: ok, look or stop.

    Trains for some hundred steps, and writes a page with pictures. Exits with 2 if a verdict is stop.

    Example: [bold]manyfit check studies/digits.toml[/]
    """
    from search.sessions.checking import check
    from search.trials.files import StudyFiles
    from search.views import export, findings
    from search.views.console import ConsoleReporter, stderr
    from search.views.pages import checked, page

    brought = Brought(study, build, data)
    brought.check()
    err, out = stderr(), stdout()
    file = study_file(brought, name, set_ or [], ConsoleReporter(err), allow_unused=True)
    path = output or StudyFiles.of(file).check_page
    export.check_free(path, file, file.storage)
    report = check(file, findings.Lines(None if as_json else out, err))
    if as_json:
        print(json.dumps(findings.to_json(report), indent=2, allow_nan=False))
    else:
        for text in findings.end(report):
            out.print(text, soft_wrap=True, highlight=False, markup=False)
    page.write(checked.page(report), path)
    echo(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    if report.has_stop:
        raise typer.Exit(UsageError.exit_code)


def doctor(as_json: Json = False) -> None:
    """Look at this machine: versions, backends (each tried) and devices.

    Example: [bold]manyfit doctor[/]
    """
    from search.views import doctor as doctors

    findings = doctors.examine(Path.cwd())
    if as_json:
        print(json.dumps(findings, indent=2))
    else:
        stdout().print(doctors.table(findings))
    problems = doctors.problems(findings)
    for problem in problems:
        echo(f"manyfit: {problem}")
    if problems:
        raise typer.Exit(1)


def _widened(brought: Brought, name: str, widen: list[str], overrides: list[str]) -> StudyFile:
    from search.sessions import widening
    from search.storage import records

    if brought.study is None or brought.write is not None:
        given = "--write" if brought.study is not None else "--build"
        raise UsageError(f"--widen is for a study that has been run; received {given}, too; leave it out")
    stored = records.load(*stored_study(brought.study, name))
    base = brought.study if brought.study.suffix == ".toml" else None
    return widening.widened(stored, base, widen, overrides)


def _total_trials(trials: str | None, study: Path, name: str) -> int | str | None:
    """Return the value of --trials; UsageError for `+20`, which would add trials again at every repetition."""
    if trials is None:
        return None
    if not re.fullmatch(r"\+\d{1,9}", trials.strip()):
        with suppress(ValueError):
            return int(trials)
        return trials
    from search.storage import records

    more = int(trials)
    try:
        count = len(records.load(*stored_study(study, name)).trials)
    except StoreError:
        count = 0
    raise UsageError(
        f"--trials is the study's total; received {trials}; "
        + (f"--trials {count + more} adds {more} to its {count}" if count else f"write --trials {more}")
    )
