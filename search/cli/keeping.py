"""The commands that keep databases in order: verify, clean, copy, rename, delete."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.printing import Json, echo
from search.cli.study_argument import Name, Target, database, resolved, stored_study
from search.errors import StoreError, UsageError
from search.views.printable import printable

if TYPE_CHECKING:
    from search.storage.copying import Copied

From = Annotated[str, typer.Option("--from", help="The study's present name, if it differs from the file's.")]


def verify(
    study: Target,
    restore: Annotated[bool, typer.Option("--restore", help="Bring back the backup of a damaged database.")] = False,
    as_json: Json = False,
) -> None:
    """Check that a database is sound: its pages, its schema, and the numbers, curves and values of all its studies.

    Prints one line per problem, and exits with 3 if there is one. --restore replaces a damaged database by its backup and
    keeps the damaged file beside it.

    Example: [bold]manyfit verify studies/digits.toml[/]
    """
    from search.storage import verify as verifying
    from search.views import soundness

    path, restored = database(study), None
    if restore:
        report, restored = verifying.restore(path)
    else:
        report = verifying.verify(path)
    if as_json:
        print(json.dumps(soundness.to_json(report, restored), indent=2))
    else:
        print(printable("\n".join(soundness.restored_lines(report, restored) if restored else soundness.lines(report))))
        if restore and restored is None:
            echo("nothing to restore" if report.is_sound else "nothing that a backup would mend")
    if not report.is_sound and restored is None:
        what = f"{len(report.problems)} things are" if len(report.problems) > 1 else "something is"
        remedy = soundness.remedy(report, study)
        raise StoreError(f"{path}: {what} wrong; it was left as it is" + (f"; {remedy}" if remedy else ""))


def clean(
    study: Target,
    name: Name = "",
    weights: Annotated[bool, typer.Option("--weights", help="Also delete the weights of the best trials.")] = False,
    as_json: Json = False,
) -> None:
    """Delete files that a study no longer needs: old checkpoints, weights that are not among the best, half-written files.

    The database stays as it is, and so do checkpoints from which an unfinished study resumes.

    Example: [bold]manyfit clean studies/digits.toml[/]
    """
    from search.storage import upkeep
    from search.views.text import size

    done = upkeep.clean(*stored_study(study, name), weights=weights)
    if as_json:
        kept = {"kept": done.kept, "kept_bytes": done.kept_bytes}
        print(json.dumps({"deleted": [str(file) for file in done.gone], "bytes": done.bytes, **kept}, indent=2))
        return
    echo(
        f"deleted: {len(done.gone)} files, {size(done.bytes)}; kept: {done.kept} files of weights, {size(done.kept_bytes)}"
    )


def copy(
    study: Target,
    name: Annotated[str, typer.Option("--name", "-n", help="The name of the copy; by default the study's own.")] = "",
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DATABASE", help="The database of the copy; by default the study's own."),
    ] = None,
    present: From = "",
    as_json: Json = False,
) -> None:
    """Copy a study, with its trials, weights and checkpoints, to another name or database; `run` goes on with either.

    The command reads the copy back and compares it before it keeps it. The original does not change.

    Example: [bold]manyfit copy studies/digits.toml --name digits-before[/], or [bold]--to /backup/digits.db[/]
    """
    from search.storage import copying

    if not name and to is None:
        raise UsageError("copy needs to know where to; give --name NEW, --to DATABASE, or both")
    path, old = stored_study(study, present)
    copied = copying.copy(path, old, path if to is None else resolved(to), _new_name(name) if name else old)
    _write_best(path, old, copied)
    _tell_copied(copied, "is a copy already" if copied.was_there else "copied", as_json=as_json)


def rename(
    study: Target,
    name: Annotated[str, typer.Option("--name", "-n", help="The new name.")],
    present: From = "",
    as_json: Json = False,
) -> None:
    """Give a study another name, with its weights, its checkpoints and its log. The study file keeps the old one.

    The command copies the study, compares the copy, then deletes the original: after a kill the same command goes on.

    Example: [bold]manyfit rename studies/digits.toml --name first-try[/], and then
    [bold]manyfit run studies/digits.toml --name first-try[/]
    """
    from search.storage import copying, deleting

    path, old = stored_study(study, present)
    copied = copying.copy(path, old, path, _new_name(name))
    _write_best(path, old, copied)
    deleting.delete(path, old)
    _tell_copied(copied, "renamed", as_json=as_json)


def _new_name(name: str) -> str:
    from search.spec.names import checked_name

    try:
        return checked_name(name)
    except ValueError as error:
        raise UsageError(f"--name {error}; received {printable(name)!r}") from None


def _write_best(path: Path, name: str, copied: Copied) -> None:
    """Write the best.json of a copy if the original has one: it names its study."""
    from search.trials.files import StudyFiles
    from search.views import export

    if StudyFiles(path, name).best.is_file():
        export.write(copied.stored.files.best, export.to_json(export.best(copied.stored)))


def _tell_copied(copied: Copied, done: str, *, as_json: bool) -> None:
    from search.views.text import size

    stored = copied.stored
    if copied.backup_problem:
        echo(f"warning: {copied.backup_problem}; the next run makes it")
    if as_json:
        report = {
            "database": str(stored.path),
            "name": stored.name,
            "trials": len(stored.trials),
            "files": [str(file) for file in copied.files],
            "bytes": copied.bytes,
            **({"confirmation": copied.confirmation} if copied.confirmation else {}),
        }
        print(json.dumps(report, indent=2))
        return
    echo(
        f"{done}: study {stored.name!r} of {stored.path}: {len(stored.trials)} trials, compared one by one, and files of "
        f"{size(copied.bytes)}" + (f"; with {copied.confirmation}, which confirms it" if copied.confirmation else "")
    )
    echo(f"go on with it: {shlex.join(['manyfit', 'run', str(stored.path), '--name', stored.name])}")


def delete(
    study: Target,
    name: Name = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a study for good: its trials, its weights and checkpoints, its best.json and its log.

    Other studies of the database stay as they are. If it was the only one, the database and its backup are deleted, too. The
    study file stays.

    Example: [bold]manyfit delete studies/digits.toml[/], or [bold]studies/all.db --name digits --yes[/]
    """
    from search.storage import deleting
    from search.views.text import size

    path, name = stored_study(study, name)
    deletion = deleting.plan_deletion(path, name)
    of_it = [f"{deletion.confirmation}, which confirms it"] if deletion.confirmation else []
    parts = [f"{deletion.trials} trials", *of_it, *(file.name for file in deletion.files)]
    if deletion.with_database:
        parts.append(f"{path.name} and its backup, for no other study is in it")
    what = f"study {name!r} of {path}: {', '.join(parts)} ({size(deletion.bytes)})"
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                "delete asks first, and there is no terminal to ask at; add --yes to delete without being asked"
            )
        echo(f"this deletes {what}")
        if not typer.confirm("delete it?", err=True):
            echo("nothing was deleted")
            raise typer.Exit(1)
    deleting.delete(path, name)
    if as_json:
        files = [str(file) for file in deletion.files]
        answer = {"name": name, "database": str(path), "database_deleted": deletion.with_database}
        answer |= {
            "confirmation": deletion.confirmation,
            "trials": deletion.trials,
            "files": files,
            "bytes": deletion.bytes,
        }
        print(json.dumps(answer, indent=2))
    else:
        echo(f"deleted: {what}")
