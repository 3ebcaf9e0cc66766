"""Check that a database is consistent: its pages, its schema and the rows of every study. Nothing here writes.

A check is a function of a study and of the connection that the study was read by; it yields what is wrong. Add a new check
to CHECKS.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.engines import checkpoints
from search.errors import DamagedError, StoreError
from search.storage import backup, columns, leftovers, records, schema
from search.storage.backup import Backup, Restored
from search.storage.holding import hold
from search.storage.records import Stored
from search.trials.objective import Objective
from spaces import MAX_GRID_CONFIGS, Choice, Float, Parameter, SpaceError, is_number

ENDINGS = {
    "RUNNING": {""},
    "WAITING": {""},
    "COMPLETE": {"finished", "stopped early", "callback", "timeout", "time"},
    "PRUNED": {"pruned", "diverged"},
    "FAIL": {"failed", "crashed", "callback", "timeout", "time"},
}
"""State of a trial -> what may have ended the trial."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        study: "" if it concerns the whole file; `trial` is None if it concerns no single trial.
        is_damage: whether the database itself is damaged, which a backup repairs; else it is a lock, a checkpoint, a version.
    """

    what: str
    study: str = ""
    trial: int | None = None
    is_damage: bool = True

    def __str__(self) -> str:
        trial = "" if self.trial is None else f"trial {self.trial}: "
        return f"{self.study}: {trial}{self.what}" if self.study else self.what


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


def verify(path: Path) -> Report:
    """Check a database and its backup; return a report. StoreError only if neither exists."""
    report = Report(path)
    try:
        report.backup = backup.find(path)
    except StoreError as error:
        report.problems.append(Problem(f"its backup: {error}", is_damage=False))
    if not path.exists() and report.backup is None and not report.problems:
        schema.check_file(path)
    _check_database(path, report)
    return report


def restore(path: Path) -> tuple[Report, Restored | None]:
    """Replace a damaged database by its backup; return None, and change nothing, if the database is not damaged.

    Raises StoreError if another process holds the database, if there is no sound backup, or if files can't be written.
    """
    if not path.exists() and not schema.backup_of(path).exists():
        schema.check_file(path)
    with hold(path):
        report = verify(path)
        if not report.is_damaged:
            return report, None
        if report.backup is not None:
            of_backup = Report(report.backup.path)
            _check_database(of_backup.path, of_backup)
            if of_backup.problems:
                raise StoreError(
                    f"{path} is damaged, and so is its backup: {of_backup.problems[0]}; nothing was changed: bring back a "
                    "copy of yours"
                )
        return report, backup.restore(path, deleted=_deleted(path))


def _deleted(path: Path) -> set[str]:
    """Return the studies of a backup of which the database still holds leftovers, if its pages are sound.

    Leftovers prove a deletion. A missing study proves nothing: another database may have been written over this one.
    """
    try:
        with closing(schema.reader(path)) as connection, closing(schema.reader(schema.backup_of(path))) as copy:
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
        with closing(schema.connect(path, readonly=True)) as connection:
            damage = list(_file_problems(connection))
            report.problems += damage
            report.problems += [Problem(what) for what in columns.problems(connection)] if not damage else []
            # Not damage, because a backup holds these objects, too.
            report.problems += [Problem(what, is_damage=False) for what in schema.foreign_objects(connection)]
            # The rows on damaged pages prove nothing about the studies.
            report.deleted = 0 if damage else leftovers.count_studies(connection)
            for name in [] if damage else _names(connection):
                _check_study(connection, path, name, report)
    except StoreError as error:
        report.problems.append(Problem(str(error), is_damage=isinstance(error, DamagedError)))
    except sqlite3.Error as error:
        is_damage = isinstance(error, sqlite3.DatabaseError) and "CORRUPT" in getattr(error, "sqlite_errorname", "")
        report.problems.append(Problem(f"{path} can't be read: {error}", is_damage=is_damage))


def _file_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (result,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if result != "ok":
            yield Problem(f"the file is damaged: {' '.join(result.split())}")
    for table, row, parent in leftovers.orphans(connection)[:20]:
        yield Problem(f"row {row} of {table} belongs to nothing in {parent}")


def _names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute(f"SELECT study_name FROM {leftovers.OUR_STUDIES}")]  # noqa: S608


def _check_study(connection: sqlite3.Connection, path: Path, name: str, report: Report) -> None:
    try:
        # `read` begins a transaction, and the checks read in it, too, because the study may be running.
        stored = records.read(connection, path, name, unchecked=True)
        report.studies[name] = len(stored.trials)
        report.epochs += sum(len(trial.curve) for trial in stored.trials)
        for check in CHECKS:
            report.problems += [Problem(what, name, trial) for trial, what in check(stored, connection)]
        report.problems += [Problem(what, name, trial, is_damage=False) for trial, what in _steps(stored)]
        report.problems += [Problem(what, name, is_damage=False) for what in _damaged_files(stored.files)]
    except Exception as error:  # noqa: BLE001 (a damaged row may raise anything, and that is the problem to report)
        what = " ".join(str(error).split())
        report.problems.append(Problem(f"can't be read: {type(error).__name__}: {what[:300]}", name))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


Findings = Iterator[tuple[int | None, str]]
"""(number of a trial or None, what is wrong)"""

_OF_STUDY = "JOIN trials t USING (trial_id) JOIN studies s USING (study_id) WHERE s.study_name = ?"


def _numbers(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """Trials are numbered 0..n-1, once each."""
    del connection
    counts = Counter(trial.number for trial in stored.trials)
    for number in sorted(set(range(max(counts, default=-1) + 1)) - set(counts)):
        yield number, "is missing, and later ones are there"
    for number, times in counts.items():
        if times > 1:
            yield number, f"is there {times} times"


def _whole(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """The study has all keys of what it was resolved to and of its identity."""
    del connection
    for column, table, keys in (
        ("resolved", stored.resolved, ("engine", "backend", "devices", "versions")),
        ("identity", stored.identity, ("data", "model")),
    ):
        if missing := [key for key in keys if key not in table]:
            yield None, f"its {column} lacks {', '.join(missing)}"


def _curves(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """The epochs of a curve are 1..n, and Optuna's intermediate values are its objective."""
    objective = stored.file.settings.study.objective
    curves: dict[int, dict[int, float | None]] = defaultdict(dict)
    for number, epoch, metrics in connection.execute(
        f"SELECT t.number, epoch, metrics FROM manyfit_epochs {_OF_STUDY} AND replica = 0",  # noqa: S608
        (stored.name,),
    ):
        curves[number][epoch] = json.loads(metrics).get(objective)
    values: dict[int, dict[int, float | None]] = defaultdict(dict)
    for number, step, value in connection.execute(
        f"SELECT t.number, step, intermediate_value FROM trial_intermediate_values {_OF_STUDY}",  # noqa: S608
        (stored.name,),
    ):
        values[number][step] = value
    for trial in stored.trials:
        curve, intermediate = curves[trial.number], values[trial.number]
        if gaps := sorted(set(range(1, max(curve, default=0) + 1)) - set(curve)):
            yield trial.number, f"its curve lacks {_epochs(gaps)}"
        if outside := [epoch for epoch in curve if not 1 <= epoch <= trial.epochs]:
            yield trial.number, f"its curve has {_epochs(outside)}, of at most {trial.epochs}"
        if differing := sorted(e for e in {*curve, *intermediate} if curve.get(e) != intermediate.get(e)):
            yield trial.number, f"its intermediate values are not its curve's {objective} at {_epochs(differing)}"
        if empty := [epoch for epoch, value in curve.items() if value is None]:
            yield trial.number, f"its curve has no {objective} at {_epochs(empty)}"


def _values(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """An ended trial has the value of its best epoch; a trial that failed, diverged or still runs has no value."""
    values: dict[int, float | None] = dict(
        connection.execute(f"SELECT t.number, value FROM trial_values v {_OF_STUDY}", (stored.name,))  # noqa: S608
    )
    for trial in stored.trials:
        has_value = trial.is_ended and trial.state != "FAIL" and trial.ended != "diverged"
        value, epoch = Objective.of(stored.file).best_of(trial.curve) if has_value else (None, None)
        if values.get(trial.number) != value:
            why = f"its best epoch's is {value}" if has_value else f"it should have none, being {trial.state}"
            yield trial.number, f"its value is {values.get(trial.number)}, and {why}"
        if trial.is_ended and trial.best_epoch != epoch:
            yield trial.number, f"its best epoch is said to be {trial.best_epoch}, and is {epoch}"
        if trial.state == "COMPLETE" and value is None:
            yield trial.number, "is COMPLETE without an epoch"


def _endings(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """State, ending and length of a trial agree, and an ended trial has the moment of its end."""
    del connection
    for trial in stored.trials:
        if trial.ended not in ENDINGS.get(trial.state, set()):
            yield trial.number, f"is {trial.state}, and was ended by {trial.ended!r}"
        if trial.is_ended != (trial.ended_at is not None):
            yield trial.number, f"is {trial.state}, and the moment of its end is {trial.ended_at}"
        if trial.ended == "finished" and len(trial.curve) != trial.epochs:
            yield trial.number, f"is finished with {len(trial.curve)} of its {trial.epochs} epochs"


def _params(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """Every trial has the parameters that are active in it, each within the space."""
    del connection
    space = stored.file.space
    for trial in stored.trials:
        active = {name for name in space if space.is_active(name, trial.params)}
        if missing := sorted(active - set(trial.params)):
            yield trial.number, f"has no {', '.join(missing)}"
        for name, value in trial.params.items():
            if not _is_in(space[name], value) and not _is_between_steps(space[name], value):
                yield trial.number, f"its {name} is {value}, outside of the space"


def _steps(stored: Stored) -> Findings:
    """No value lies between the steps of its range. Samplers of an earlier version drew such values.

    They are no damage: the trial was trained with exactly that value, and a backup holds the same value.
    """
    space = stored.file.space
    for trial in stored.trials:
        for name, value in trial.params.items():
            parameter = space[name]
            if not isinstance(parameter, Choice) and _is_between_steps(parameter, value):
                yield (
                    trial.number,
                    f"its {name} is {value}, between steps of {parameter.step}; it was drawn and trained so",
                )


def _is_in(parameter: Parameter, value: Any) -> bool:
    try:
        parameter.check(value)
    except SpaceError:
        return False
    return True


def _is_between_steps(parameter: Parameter, value: Any) -> bool:
    """Return whether a value lies between steps, in a range of so many that samplers of an earlier version ignored them."""
    if isinstance(parameter, Choice) or (parameter.count or 0) <= MAX_GRID_CONFIGS or _is_in(parameter, value):
        return False
    has_type = isinstance(value, int) or isinstance(parameter, Float)
    return is_number(value) and has_type and parameter.low <= value <= parameter.high


def _damaged_files(folder: Path) -> Iterator[str]:
    """Check checkpoints and kept weights. A missing file is no problem: the disk may have been full."""
    for path in checkpoints.files(folder):
        try:
            checkpoints.read(path)
        except checkpoints.CheckpointError as error:
            if not path.exists():
                continue  # the study is running and has replaced it
            is_kept = path.parent == folder
            effect = "its trial's weights are lost" if is_kept else "its trials go on from an older one, or begin anew"
            yield f"{error}; delete it: {effect}"


CHECKS: tuple[Callable[[Stored, sqlite3.Connection], Findings], ...] = (
    _whole,
    _numbers,
    _curves,
    _values,
    _endings,
    _params,
)


def _epochs(epochs: list[int]) -> str:
    shown = ", ".join(map(str, epochs[:5])) + (f" and {len(epochs) - 5} more" if len(epochs) > 5 else "")
    return f"epoch {shown}" if len(epochs) == 1 else f"epochs {shown}"
