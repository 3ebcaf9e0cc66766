"""The commands that keep databases in order: verify, clean, delete."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from search.cli.printing import Json, echo
from search.cli.study_argument import Name, Target, database, stored_study
from search.errors import StoreError, UsageError
from search.views.printable import printable


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
    weights: Annotated[bool, typer.Option("--weights", help="Also the weights of the best trials.")] = False,
) -> None:
    """Delete what no longer serves a study: old checkpoints, weights that are not among the best, half-written files.

    The database stays as it is, and so do checkpoints that an unfinished study goes on from.

    Example: [bold]manyfit clean studies/digits.toml[/]
    """
    from search.storage import upkeep
    from search.views.text import size

    done = upkeep.clean(*stored_study(study, name), weights=weights)
    echo(
        f"deleted: {len(done.gone)} files, {size(done.bytes)}; kept: {done.kept} files of weights, {size(done.kept_bytes)}"
    )


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

    path, name = stored_study(study, name)
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
        echo(f"this deletes {what}")
        if not typer.confirm("delete it?", err=True):
            echo("nothing was deleted")
            raise typer.Exit(1)
    deleting.delete(path, name)
    echo(f"deleted: {what}")
