"""The study that a command line names: a study file, or a database with --name."""

from __future__ import annotations

import json
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.brought import Brought, write
from search.errors import ManyfitError, StoreError, UsageError

if TYPE_CHECKING:
    from search.sessions.reporter import Reporter
    from search.spec.study import StudyFile
    from search.storage.studies import Stored

# pathlib shortens the // of an address: postgresql:/user:password@host/name.
_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*):/")

_STUDY = typer.Argument(metavar="STUDY", help="A study file (TOML), or a database with --name.")
Target = Annotated[Path, _STUDY]
TargetOrNone = Annotated[Path | None, _STUDY]
Name = Annotated[str, typer.Option("--name", "-n", help="The study's name, if it differs from the file's.")]


def study_file(
    brought: Brought, name: str, overrides: list[str], reporter: Reporter, *, allow_unused: bool
) -> StudyFile:
    """Return the study that a command line names: from a study file, from a database, or of a builder and data."""
    from search.reading import studyfile
    from search.sessions.space_finder import SpaceFinder
    from search.spec.names import plain_name
    from search.storage import records

    name = plain_name(name)
    if name:
        overrides = [*overrides, f"study.name={json.dumps(name)}"]
    path = brought.study
    if path is None or not is_database(path):
        if path is None:
            file = brought.read(overrides, reporter)
        else:
            file = studyfile.read(path, overrides, allow_unused=allow_unused, find=SpaceFinder(reporter))
        return file if brought.write is None else write(file, brought.write)
    if brought.write is not None:
        raise UsageError(f"--write: {path} is a database; `manyfit show {path} --settings` prints its settings as TOML")
    stored = records.load(path, name or records.only_name(path), with_trials=False)
    return studyfile.stored_with(stored.file, path, [o for o in overrides if not o.startswith("study.name=")])


def stored_study(path: Path, name: str) -> tuple[Path, str]:
    """Return database and name of a stored study; StoreError if it has not been run yet."""
    from search.reading import studyfile
    from search.spec.names import plain_name
    from search.storage import records
    from search.storage.advice import check_gone

    name = plain_name(name)
    if is_database(path):
        path = resolved(path)  # the lock belongs to the target of a link
        return path, name or records.only_name(path)
    storage, own_name = studyfile.locate(path)
    if not storage.exists():
        check_gone(storage)
        studyfile.read(path)  # raises the errors of an invalid study file first
        raise StoreError(f"{path} has not been run yet; `manyfit run {shlex.quote(str(path))}` does")
    return storage, name or own_name


def words_for(stored: Stored, path: Path) -> str:
    """Return the words by which a command line names a stored study: `path` if that leads to it, else its database."""
    own, named = [str(path)], ["--name", stored.name]
    database = os.path.relpath(stored.path) if stored.path.is_relative_to(Path.cwd()) else str(stored.path)
    for words, name in (([*own], ""), ([*own, *named], stored.name), ([database], "")):
        with suppress(ManyfitError):
            if stored_study(Path(words[0]), name) == (stored.path, stored.name):
                return shlex.join(words)
    return shlex.join([database, *named])


def database(path: Path) -> Path:
    """Return the path of the database that a command line names. The file may be damaged or missing."""
    from search.reading import studyfile

    return resolved(path) if is_database(path) else studyfile.locate(path)[0]


def databases(path: Path) -> list[Path]:
    """Return the databases in a folder and the folders in it, or the one of a study file; none if that was not run yet."""
    if path.is_dir():
        inside = [*path.glob("*.db"), *path.glob("[!.]*/*.db")]
        return sorted(database for database in inside if database.is_file())
    if is_database(path):
        return [path]
    from search.reading import studyfile

    storage, _ = studyfile.locate(path)
    if not storage.exists():
        studyfile.read(path)
        return []
    return [storage]


def is_database(path: Path) -> bool:
    """Return whether a path names a database; UsageError for an address."""
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


def resolved(path: Path) -> Path:
    """Return where the links of a path lead; UsageError if that is nowhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the first from Python 3.13 on
        raise UsageError(f"{path}: its links lead in a circle, so that there is no file; mend the link") from None
