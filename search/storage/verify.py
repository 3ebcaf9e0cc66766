"""`manyfit verify`: check a database and its backup, and bring the backup back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from search import arrayfile
from search.errors import DamagedError, StoreError
from search.storage import backup, checks, column_values, connecting, leftovers, studies
from search.storage.advice import advising
from search.storage.backup import Backup, Restored
from search.storage.checks import Problem
from search.storage.holding import hold
from search.storage.paths import backup_of
from search.storage.schema import foreign_objects
from search.trials.files import StudyFiles


@dataclass
class Report:
    """The result of `verify`: trials by study, the number of epochs, the problems, and the backup.

    `deleted` counts studies of which another program's deletion left rows; that is not a problem.
    """

    path: Path
    studies: dict[str, int] = field(default_factory=dict)
    epochs: int = 0
    problems: list[Problem] = field(default_factory=list)
    backup: Backup | None = None
    deleted: int = 0

    @property
    def is_sound(self) -> bool:
        return not self.problems

    @property
    def is_damaged(self) -> bool:
        """Whether something is wrong that a backup repairs."""
        return any(problem.is_damage for problem in self.problems)


@advising()
def verify(path: Path) -> Report:
    """Check a database and its backup; return a report. StoreError only if neither exists."""
    report = Report(path)
    try:
        with advising():
            report.backup = backup.find(path)
    except StoreError as error:
        report.problems.append(Problem(f"its backup: {error}", is_damage=False))
    if not path.exists() and report.backup is None and not report.problems:
        connecting.check_file(path)
    _check_database(path, report)
    return report


@advising()
def restore(path: Path) -> tuple[Report, Restored | None]:
    """Replace a damaged database by its backup; return None, and change nothing, if the database is not damaged.

    Raises StoreError if another process holds the database, if there is no sound backup, or if files can't be written.
    """
    if not path.exists() and not backup_of(path).exists():
        connecting.check_file(path)
    with hold(path):
        report = verify(path)
        if not report.is_damaged:
            return report, None
        return report, backup.restore(path, deleted=_deleted(path))


def _deleted(path: Path) -> set[str]:
    """Return the studies of a backup of which the database still holds leftovers, if its pages are sound.

    Leftovers prove a deletion. A missing study proves nothing: another database may have been written over this one.
    """
    try:
        with closing(connecting.reader(path)) as connection, closing(connecting.reader(backup_of(path))) as copy:
            if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                return set()
            present = {name for (name,) in connection.execute("SELECT study_name FROM studies")}
            deleted = leftovers.deleted_rows(connection)
            return {name for name, row in leftovers.rows_by_name(copy).items() if row in deleted} - present
    except (OSError, sqlite3.Error):
        return set()


def _check_database(path: Path, report: Report) -> None:
    """Add the problems and the counts of a database to a report."""
    try:
        with advising(), closing(connecting.connect(path, readonly=True)) as connection:
            # One transaction, because a study may be running.
            connection.execute("BEGIN")
            damage = [*_page_problems(connection), *checks.orphans(connection)]
            report.problems += damage
            report.problems += map(Problem, column_values.problems(connection)) if not damage else []
            # Not damage, because a backup holds these objects, too.
            report.problems += [Problem(what, is_damage=False) for what in foreign_objects(connection)]
            # The rows on damaged pages prove nothing about the studies.
            report.deleted = 0 if damage else leftovers.count_studies(connection)
            for name in [] if damage else studies.names(connection):
                stored, problems = checks.check_study(connection, path, name)
                report.problems += problems
                if stored is not None:
                    report.studies[name] = len(stored.trials)
                    report.epochs += sum(len(trial.curve) for trial in stored.trials)
                    report.problems += [Problem(what, name, is_damage=False) for what in _damaged_files(stored.files)]
    except StoreError as error:
        report.problems.append(Problem(str(error), is_damage=isinstance(error, DamagedError)))
    except (sqlite3.Error, MemoryError) as error:
        report.problems.append(
            Problem(f"{path} can't be read: {connecting.cause(error)}", is_damage=connecting.is_damage(error))
        )


def _page_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (result,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if result != "ok":
            yield Problem(f"the file is damaged: {' '.join(result.split())}")


def _damaged_files(files: StudyFiles) -> Iterator[str]:
    """Check checkpoints and kept weights. A missing file is no problem: the disk may have been full."""
    for paths, effect in (
        (files.all_checkpoints(), "its trials go on from an older one, or begin anew"),
        (files.all_weights(), "its trial's weights are lost"),
    ):
        for path in paths:
            try:
                arrayfile.read(path)
            except arrayfile.ArrayFileError as error:
                if path.exists():  # else the study is running and has replaced it
                    yield f"{error}; delete it: {effect}"
