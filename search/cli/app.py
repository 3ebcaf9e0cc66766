"""The commands of `manyfit`, each a thin function over the library. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import errno
import functools
import json
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from search import __version__
from search.cli import streams
from search.cli.brought import Brought, Build, Data, Write
from search.cli.brought import write as written
from search.cli.commandline import Command, Group
from search.errors import ManyfitError, StoreError, UsageError, masked
from search.views.printable import printable

if TYPE_CHECKING:
    from search.sessions.reporter import Reporter

P = ParamSpec("P")

# pathlib shortens the // of an address: postgresql:/user:password@host/name.
_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*):/")

app = typer.Typer(
    name="manyfit",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for Keras that loses nothing.\n\nExample: [bold]manyfit run studies/digits.toml[/]",
)

_STUDY = typer.Argument(metavar="STUDY", help="A study file (TOML), or a database with --name.")
Target = Annotated[Path, _STUDY]
TargetOrNone = Annotated[Path | None, _STUDY]
Name = Annotated[str, typer.Option("--name", "-n", help="The study's name, where it is not the file's.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


class _State:
    debug = False


def _command(function: Callable[P, None]) -> Callable[P, None]:
    """Register a command whose errors become one line on stderr and an exit code; a traceback only with --debug."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
            # A failed print does not fail `run`: its results are in files.
            if function.__name__ != "run":
                _check_stdout()
        except ManyfitError as error:
            if _State.debug:
                _echo(traceback.format_exc().rstrip())
            _echo(f"manyfit: {error}")
            raise typer.Exit(error.exit_code) from None
        except (typer.Exit, typer.Abort, KeyboardInterrupt):
            raise
        except OSError as error:
            if _State.debug:
                _echo(traceback.format_exc().rstrip())
            file = f": {_shorten(str(error.filename))}" if error.filename else ""
            _echo(f"manyfit: {error.strerror or error}{file}")
            # An impossible file name is a mistake on the command line.
            raise typer.Exit(2 if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else 1) from None
        except Exception as error:  # noqa: BLE001 (the outermost edge: users get a line, not a traceback)
            if _State.debug:
                _echo(traceback.format_exc().rstrip())
            _echo(
                f"manyfit: this should not have happened: {type(error).__name__}: {error}; "
                "what was stored is safe. Run `manyfit --debug ...` for a traceback and report it"
            )
            raise typer.Exit(1) from None

    return app.command(function.__name__.rstrip("_"), cls=Command)(guarded)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"manyfit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    _State.debug = debug


@_command
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
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the file.")] = None,
    allow_unused: Annotated[
        bool,
        typer.Option("--allow-unused", help="Start a new study although nothing reads some of what its file sets."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors on stderr.")] = False,
) -> None:
    """Start a study, or resume it. If it is finished, say so and exit with 0.

    The best config goes to stdout as JSON, and the best five to NAME.best.json beside the database. Ctrl-C stops cleanly.

    Example: [bold]manyfit run studies/digits.toml --trials 40 --set space.dropout.high=0.6 --name digits-wide[/]
    """
    from search.sessions import run as sessions
    from search.views import export, report, standing
    from search.views.console import ConsoleReporter, stderr
    from search.views.text import number

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
    file = _study_file(brought, name, overrides, ConsoleReporter(console), allow_unused=allow_unused)
    outcome = sessions.run(file, ConsoleReporter(console), allow_unused=allow_unused)
    stored = outcome.stored
    chosen = shlex.join([str(brought.target), *(["--name", stored.name] if name else [])])
    for line in report.outcome_lines(outcome):
        console.print(line, markup=False)
    if stored.complete:
        best = export.best(stored, 1).configs[0]
        console.print(standing.line(stored, export.DEFAULT_TOP))
        console.print(
            f"best: {stored.file.settings.study.objective} {number(best.value)}, trial {best.trial}, epoch {best.epoch}"
        )
        print(json.dumps(best.model_dump(mode="json", exclude={"curve", "seconds", "config", "rank"}), indent=2))
        if error := streams.stdout_error():
            console.print(
                f"stdout can't be written ({error.strerror}): the best config is in {outcome.best_path.name} only"
            )
    else:
        console.print(f"no trial is complete, so there is no best config yet; {standing.line(stored, 1)}")
    console.print(
        f"written: {_relative(outcome.best_path)}; look closer: manyfit show {chosen}, manyfit dashboard {chosen}",
        markup=False,
    )
    if stored.trials and all(trial.ended == "refused" for trial in stored.trials):
        raise ManyfitError(
            f"every trial was refused by a limit, the last one by: {stored.trials[-1].why}; raise the limit under another "
            "--name, or narrow the space"
        )
    if stored.trials and all(trial.state == "FAIL" for trial in stored.trials):
        done = len(stored.trials)
        raise ManyfitError(
            f"every trial failed, the last one by: {stored.trials[-1].why}; mend the cause and repeat the command: with a "
            f"changed builder the study begins anew; else --trials {2 * done} tries {done} more"
        )


@_command
def list_(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Folders, databases or study files; default: studies/, or here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the studies in a folder, with state, trials and best value.

    Example: [bold]manyfit list studies/[/]
    """
    from search.storage import records
    from search.views import report

    paths = paths or [Path("studies") if Path("studies").is_dir() else Path()]
    briefs, unread = [], 0
    for database in [file for path in paths for file in _databases(path)]:
        try:
            briefs += records.briefs(database)
        except StoreError as error:
            unread += 1
            _echo(f"manyfit: {error}")
    if as_json:
        print(json.dumps([report.brief_json(brief) for brief in briefs], indent=2))
    elif briefs:
        _stdout().print(report.list_table(briefs, Path.cwd()))
    elif not unread:
        _echo(f"no studies in {', '.join(map(str, paths))}; `manyfit run` with a study file makes one")
    if unread:
        raise typer.Exit(StoreError.exit_code)


@_command
def show(
    study: Target,
    name: Name = "",
    top: Annotated[int, typer.Option(min=1, help="How many of the best configs.")] = 5,
    trial: Annotated[int | None, typer.Option(min=0, help="One trial: its config, its curve, why it ended.")] = None,
    settings: Annotated[bool, typer.Option("--settings", help="All its settings, as TOML.")] = False,
    as_json: Json = False,
) -> None:
    """Show a study: history, curves, what the search believes, importance, what ended the trials, and the best configs last.

    Example: [bold]manyfit show studies/digits.toml --top 3[/], or [bold]--trial 7[/]
    """
    from search.storage import records
    from search.views import report

    stored = records.load(*_stored(study, name))
    if as_json:
        table = report.show_json(stored, top) if trial is None else report.trial_json(stored, trial)
        print(json.dumps(table, indent=2, allow_nan=False))
    elif settings:
        print(report.settings_toml(stored))
    elif trial is None:
        report.show(stored, top, _stdout())
    else:
        report.show_trial(stored, trial, _stdout())


@_command
def export(
    study: Target,
    name: Name = "",
    top: Annotated[int, typer.Option(min=1, help="How many of the best configs.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; default: stdout.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="All trials as CSV instead.")] = False,
    model: Annotated[
        Path | None, typer.Option("--model", help="Save the best trial's model here, a .keras file.")
    ] = None,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="With --model: another trial's.")] = None,
) -> None:
    """Export the best configs as JSON, all trials as CSV, or a trained model as a .keras file.

    A model gets the weights of its trial's best epoch, opens with `keras.models.load_model`, and takes rows as the source has
    them: scaling is inside. The written file is evaluated once more.

    Example: [bold]manyfit export studies/digits.toml --top 5 -o best.json[/], or [bold]--model best.keras[/]
    """
    from search.storage import records
    from search.views import export as exports
    from search.views import standing

    stored = records.load(*_stored(study, name))
    if model is not None:
        _export_model(stored, model, trial)
        return
    best = exports.best(stored, top)
    text = exports.to_csv(stored) if csv else exports.to_json(best)
    if not csv and (output is not None or best.ahead):
        _echo(standing.line(stored, top))
    if output is None:
        # Escape control characters for a terminal, which would obey them; a program gets the exact text.
        print(printable(text) if sys.stdout.isatty() else text, end="")
        return
    exports.check_target(output, stored)
    exports.write(output, text)
    _echo(f"written: {output}")


def _export_model(stored: Any, path: Path, number: int | None) -> None:
    from search.sessions import run as sessions
    from search.views import console, export, standing, text

    if path.suffix != ".keras":
        raise UsageError(f"--model: a model is saved as a .keras file; received {path}")
    export.check_target(path, stored)
    chosen = [t for t in stored.trials if t.number == number] if number is not None else stored.complete[:1]
    if not chosen:
        raise UsageError("no trial is complete yet" if number is None else f"--trial: the study has no trial {number}")
    saved = sessions.save_model(stored, chosen[0], path, console.ConsoleReporter(console.stderr()))
    objective, value = stored.file.settings.study.objective, text.number(saved.stored)
    result = f"{objective} {value}"
    if saved.value is not None:
        when = "evaluated once more" if saved.is_from_file else "evaluated once more before it was written"
        result = f"{objective} {text.number(saved.value)}, {when} (in the study: {value})"
    training = f" ({saved.training})" if saved.training else ""
    _echo(f"written: {path}, the model of trial {chosen[0].number}{training}; {result}")
    for line in saved.lines:
        _echo(f"  {line}")
    if number is None:
        _echo(f"  {standing.line(stored, 1)}")


@_command
def verify(
    study: Target,
    restore: Annotated[bool, typer.Option("--restore", help="Bring back the backup of a damaged database.")] = False,
    as_json: Json = False,
) -> None:
    """Check that a database holds together: its pages, its schema, and the numbers, curves and values of all its studies.

    Each problem is printed on a line of its own, with exit code 3. --restore replaces a damaged database by its backup; the
    damaged file is kept beside it.

    Example: [bold]manyfit verify studies/digits.toml[/]
    """
    from search.storage import verify as verifying
    from search.views import soundness

    path, restored = _database(study), None
    if restore:
        report, restored = verifying.restore(path)
    else:
        report = verifying.verify(path)
    if as_json:
        print(json.dumps(soundness.to_json(report, restored), indent=2))
    else:
        print(printable("\n".join(soundness.restored_lines(report, restored) if restored else soundness.lines(report))))
        if restore and restored is None:
            _echo("nothing to restore" if report.is_sound else "nothing that a backup would mend")
    if not report.is_sound and restored is None:
        what = f"{len(report.problems)} things are" if len(report.problems) > 1 else "something is"
        remedy = soundness.remedy(report, study)
        raise StoreError(f"{path}: {what} wrong; it was left as it is" + (f"; {remedy}" if remedy else ""))


@_command
def clean(
    study: Target,
    name: Name = "",
    weights: Annotated[bool, typer.Option("--weights", help="Also the weights of the best trials.")] = False,
) -> None:
    """Delete what no longer serves a study: old checkpoints, weights that are not among the best, half-written files.

    The database stays as it is, and so do checkpoints that an unfinished study goes on from.

    Example: [bold]manyfit clean studies/digits.toml[/]
    """
    from search.storage import upkeep
    from search.views.text import size

    done = upkeep.clean(*_stored(study, name), weights=weights)
    _echo(
        f"deleted: {len(done.gone)} files, {size(done.bytes)}; kept: {done.kept} files of weights, {size(done.kept_bytes)}"
    )


@_command
def delete(
    study: Target,
    name: Name = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a study: its trials, its weights and checkpoints, its best.json and its log. Nothing brings it back.

    Other studies of the database stay as they are. With the last one the database goes, and its backup. The study file stays.

    Example: [bold]manyfit delete studies/digits.toml[/], or [bold]studies/all.db --name digits --yes[/]
    """
    from search.storage import deleting
    from search.views.text import size

    path, name = _stored(study, name)
    deletion = deleting.plan_deletion(path, name)
    parts = [f"{deletion.trials} trials", *(file.name for file in deletion.files)]
    if deletion.with_database:
        parts.append(f"{path.name} and its backup, for no other study is in it")
    what = f"study {name!r} of {path}: {', '.join(parts)} ({size(deletion.bytes)})"
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                "delete asks first, and there is no terminal to ask at; add --yes to delete without being asked"
            )
        _echo(f"this deletes {what}")
        if not typer.confirm("delete it?", err=True):
            _echo("nothing was deleted")
            raise typer.Exit(1)
    deleting.delete(path, name)
    _echo(f"deleted: {what}")


@_command
def dashboard(
    study: Target,
    name: Name = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8080,
    host: Annotated[
        str, typer.Option(help="127.0.0.1; another is refused, with the line for an SSH tunnel.")
    ] = "127.0.0.1",
) -> None:
    """Open optuna-dashboard on a study, read-only, on 127.0.0.1. Ctrl-C ends it.

    Example: [bold]manyfit dashboard studies/digits.toml --port 8081[/]
    """
    from search.views import dashboard as dashboards

    dashboards.check_address(host, port)
    path, name = _stored(study, name)
    dashboards.serve(
        path, port, study=name, on_ready=lambda url: _echo(f"optuna-dashboard, read-only: {url}\nCtrl-C ends it")
    )


@_command
def plan(
    study: TargetOrNone = None,
    name: Name = "",
    build: Build = "",
    data: Data = "",
    write: Write = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the file.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a study would run, where and why, without running it: loads the data and builds one model.

    Example: [bold]manyfit plan studies/digits.toml[/]
    """
    from search.sessions.planning import plan
    from search.views import planning
    from search.views.console import ConsoleReporter, stderr

    brought = Brought(study, build, data, write)
    brought.check()
    planned = plan(_study_file(brought, name, set_ or [], ConsoleReporter(stderr()), allow_unused=True))
    if as_json:
        print(json.dumps(planned, indent=2))
    else:
        _stdout().print(planning.table(planned))


@_command
def doctor(as_json: Json = False) -> None:
    """Look at this machine: versions, backends (each tried) and devices.

    Example: [bold]manyfit doctor[/]
    """
    from search.views import doctor as doctors

    findings = doctors.examine(Path.cwd())
    if as_json:
        print(json.dumps(findings, indent=2))
    else:
        _stdout().print(doctors.table(findings))
    problems = doctors.problems(findings)
    for problem in problems:
        _echo(f"manyfit: {problem}")
    if problems:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    streams.guard()
    app()


def _check_stdout() -> None:
    """Raise OSError, for exit code 1, if stdout could not be written. A reader that closed the pipe early is not an error."""
    error = streams.stdout_error()
    if error is not None and not isinstance(error, BrokenPipeError):
        raise OSError(error.errno, error.strerror, "stdout")


def _study_file(brought: Brought, name: str, overrides: list[str], reporter: Reporter, *, allow_unused: bool) -> Any:
    """Return the study that a command line names: from a study file, from a database, or of a builder and data."""
    from search.reading import studyfile
    from search.sessions.finding import SpaceFinder
    from search.spec.settings import plain_name
    from search.storage import records

    name = plain_name(name)
    if name:
        overrides = [*overrides, f"study.name={json.dumps(name)}"]
    path = brought.study
    if path is None or not _is_database(path):
        if path is None:
            file = brought.read(overrides, reporter)
        else:
            file = studyfile.read(path, overrides, allow_unused=allow_unused, find=SpaceFinder(reporter))
        return file if brought.write is None else written(file, brought.write)
    if brought.write is not None:
        raise UsageError(f"--write: {path} is a database; `manyfit show {path} --settings` prints its settings as TOML")
    stored = records.load(path, name or records.only_name(path), with_trials=False)
    return studyfile.stored_with(stored.file, path, [o for o in overrides if not o.startswith("study.name=")])


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
        count = len(records.load(*_stored(study, name)).trials)
    except StoreError:
        count = 0
    raise UsageError(
        f"--trials is the study's total; received {trials}; "
        + (f"--trials {count + more} adds {more} to its {count}" if count else f"write --trials {more}")
    )


def _stored(path: Path, name: str) -> tuple[Path, str]:
    """Return database and name of a stored study; StoreError if it has not been run yet."""
    from search.reading import studyfile
    from search.spec.settings import plain_name
    from search.storage import records
    from search.storage.advice import check_gone

    name = plain_name(name)
    if _is_database(path):
        path = _resolved(path)  # the lock belongs to the target of a link
        return path, name or records.only_name(path)
    storage, own_name = studyfile.locate(path)
    if not storage.exists():
        check_gone(storage)
        studyfile.read(path)  # raises the errors of an invalid study file first
        raise StoreError(f"{path} has not been run yet; `manyfit run {shlex.quote(str(path))}` does")
    return storage, name or own_name


def _database(path: Path) -> Path:
    """Return the path of the database that a command line names. The file may be damaged or missing."""
    from search.reading import studyfile

    return _resolved(path) if _is_database(path) else studyfile.locate(path)[0]


def _is_database(path: Path) -> bool:
    if address := _ADDRESS.match(str(path)):
        # Print only the scheme: the address may contain a password.
        raise UsageError(
            f"a study is a file; received an address of {address[1]!r}; name a study file or an SQLite file"
        )
    try:
        with path.open("rb") as file:
            return file.read(15) == b"SQLite format 3" or path.suffix in (".db", ".sqlite", ".sqlite3")
    except (OSError, ValueError):
        return path.suffix in (".db", ".sqlite", ".sqlite3")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the first from Python 3.13 on
        raise UsageError(f"{path}: its links lead in a circle, so that there is no file; mend the link") from None


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:80]}...{text[-80:]}"


def _databases(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(database for database in path.glob("*.db") if database.is_file())
    if _is_database(path):
        return [path]
    from search.reading import studyfile

    storage, _ = studyfile.locate(path)
    if not storage.exists():
        studyfile.read(path)
        return []
    return [storage]


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _stdout() -> Any:
    from search.views.plain import PlainConsole

    # When stdout is not a terminal, use 200 columns so that tables are not cut.
    return PlainConsole(width=None if sys.stdout.isatty() else 200)


def _echo(text: str) -> None:
    print(printable(masked(text)), file=sys.stderr)
