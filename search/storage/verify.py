"""Whether a database holds together: its pages, its schema, and what every study in it says of itself. Writes nothing.

A check is a function of a study as it was read and of the connection that it was read by; it yields what is wrong. One that
looks at something new goes into CHECKS.
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
from spaces import MAX_GRID_POINTS, Choice, Float, Parameter, SpaceError, is_number

ENDINGS = {
    "RUNNING": {""},
    "WAITING": {""},
    "COMPLETE": {"finished", "stopped early", "callback", "timeout", "time"},
    "PRUNED": {"pruned", "diverged"},
    "FAIL": {"failed", "crashed", "callback", "timeout", "time"},
}
"""What may have ended a trial of each state."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        study: "" where it concerns the whole file; `trial` is None where no one trial.
        is_damage: of the database itself, so that a backup mends it; else its surroundings: a lock, a checkpoint, a version.
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
    """What was found in a database: how much of it, what is wrong with it, and what its backup holds.

    `deleted` counts studies that another program has deleted and of which rows are left, which is no fault.
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
        """Whether something is wrong that a backup mends."""
        return any(problem.is_damage for problem in self.problems)


def verify(path: Path) -> Report:
    """Check a database and its backup; what is wrong is in the report. Raises StoreError only if neither is there."""
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
    """Bring back the backup of a damaged database; of one that is not damaged return None, and leave it as it is.

    Raises StoreError if another process holds the database, if there is no sound backup, or if files can't be written.
    """
    if not path.exists() and not schema.backup_of(path).exists():
        schema.check_file(path)
    with hold(path):
        report = verify(path)
        if not report.is_damaged:
            return report, None
        if report.backup is not None:
            held = Report(report.backup.path)
            _check_database(held.path, held)
            if held.problems:
                raise StoreError(
                    f"{path} is damaged, and so is its backup: {held.problems[0]}; nothing was changed: bring back a copy "
                    "of yours"
                )
        return report, backup.restore(path, deleted=_deleted(path))


def _deleted(path: Path) -> set[str]:
    """Return the studies of a backup of which the database shows that they were deleted, where its pages are sound.

    That they are not in it shows nothing: another database may have been written over it.
    """
    try:
        with closing(schema.reader(path)) as connection, closing(schema.reader(schema.backup_of(path))) as copy:
            if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                return set()
            there = {name for (name,) in connection.execute("SELECT study_name FROM studies")}
            left = leftovers.rows(connection)
            return {name for name, row in leftovers.names(copy).items() if row in left} - there
    except (OSError, sqlite3.Error):
        return set()


def _check_database(path: Path, report: Report) -> None:
    """Add to a report what is wrong with a database, and how much there is in it."""
    try:
        with closing(schema.connect(path, readonly=True)) as connection:
            damage = list(_file_problems(connection))
            report.problems += damage
            report.problems += [Problem(what) for what in columns.problems(connection)] if not damage else []
            # A backup holds them, too.
            report.problems += [Problem(what, is_damage=False) for what in schema.strange_objects(connection)]
            # What damaged pages say of the studies is not worth reading.
            report.deleted = 0 if damage else leftovers.studies(connection)
            for name in [] if damage else _names(connection):
                _check_study(connection, path, name, report)
    except StoreError as error:
        report.problems.append(Problem(str(error), is_damage=isinstance(error, DamagedError)))
    except sqlite3.Error as error:
        is_damage = isinstance(error, sqlite3.DatabaseError) and "CORRUPT" in getattr(error, "sqlite_errorname", "")
        report.problems.append(Problem(f"{path} can't be read: {error}", is_damage=is_damage))


def _file_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (found,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if found != "ok":
            yield Problem(f"the file is damaged: {' '.join(found.split())}")
    for table, row, parent in leftovers.strays(connection)[:20]:
        yield Problem(f"row {row} of {table} belongs to nothing in {parent}")


def _names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute(f"SELECT study_name FROM {leftovers.OUR_STUDIES}")]  # noqa: S608


def _check_study(connection: sqlite3.Connection, path: Path, name: str, report: Report) -> None:
    try:
        # It begins the read transaction in which the checks look, too: the study may be running.
        stored = records.read(connection, path, name, whatever=True)
        report.studies[name] = len(stored.trials)
        report.epochs += sum(len(trial.curve) for trial in stored.trials)
        for check in CHECKS:
            report.problems += [Problem(what, name, trial) for trial, what in check(stored, connection)]
        report.problems += [Problem(what, name, trial, is_damage=False) for trial, what in _steps(stored)]
        report.problems += [Problem(what, name, is_damage=False) for what in _damaged_files(stored.files)]
    except Exception as error:  # noqa: BLE001 (whatever a damaged row makes raise: that it can't be read is what is wrong)
        what = " ".join(str(error).split())
        report.problems.append(Problem(f"can't be read: {type(error).__name__}: {what[:300]}", name))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


Found = Iterator[tuple[int | None, str]]
"""(number of a trial or None, what is wrong)"""

_OF_STUDY = "JOIN trials t USING (trial_id) JOIN studies s USING (study_id) WHERE s.study_name = ?"


def _numbers(stored: Stored, connection: sqlite3.Connection) -> Found:
    """Trials are numbered 0..n-1, once each."""
    del connection
    counts = Counter(trial.number for trial in stored.trials)
    for number in sorted(set(range(max(counts, default=-1) + 1)) - set(counts)):
        yield number, "is missing, and later ones are there"
    for number, times in counts.items():
        if times > 1:
            yield number, f"is there {times} times"


def _whole(stored: Stored, connection: sqlite3.Connection) -> Found:
    """What the study was resolved to, and what identifies it, is there."""
    del connection
    for column, table, keys in (
        ("resolved", stored.resolved, ("engine", "backend", "devices", "versions")),
        ("identity", stored.identity, ("data", "model")),
    ):
        if missing := [key for key in keys if key not in table]:
            yield None, f"its {column} lacks {', '.join(missing)}"


def _curves(stored: Stored, connection: sqlite3.Connection) -> Found:
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
        curve, seen = curves[trial.number], values[trial.number]
        if gaps := sorted(set(range(1, max(curve, default=0) + 1)) - set(curve)):
            yield trial.number, f"its curve lacks {_epochs(gaps)}"
        if strange := [epoch for epoch in curve if not 1 <= epoch <= trial.epochs]:
            yield trial.number, f"its curve has {_epochs(strange)}, of at most {trial.epochs}"
        if differing := sorted(epoch for epoch in {*curve, *seen} if curve.get(epoch) != seen.get(epoch)):
            yield trial.number, f"its intermediate values are not its curve's {objective} at {_epochs(differing)}"
        if empty := [epoch for epoch, value in curve.items() if value is None]:
            yield trial.number, f"its curve has no {objective} at {_epochs(empty)}"


def _values(stored: Stored, connection: sqlite3.Connection) -> Found:
    """A trial that has ended with a value has its best epoch's; one that failed, diverged or goes on has none."""
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


def _endings(stored: Stored, connection: sqlite3.Connection) -> Found:
    """State, ending and length of a trial agree, and what has ended has a moment of it."""
    del connection
    for trial in stored.trials:
        if trial.ended not in ENDINGS.get(trial.state, set()):
            yield trial.number, f"is {trial.state}, and was ended by {trial.ended!r}"
        if trial.is_ended != (trial.ended_at is not None):
            yield trial.number, f"is {trial.state}, and the moment of its end is {trial.ended_at}"
        if trial.ended == "finished" and len(trial.curve) != trial.epochs:
            yield trial.number, f"is finished with {len(trial.curve)} of its {trial.epochs} epochs"


def _params(stored: Stored, connection: sqlite3.Connection) -> Found:
    """Every trial has the parameters that are active in it, each within the space."""
    del connection
    space = stored.file.space
    for trial in stored.trials:
        active = {name for name in space if space.is_active(name, trial.params)}
        if missing := sorted(active - set(trial.params)):
            yield trial.number, f"has no {', '.join(missing)}"
        for name, label in trial.params.items():
            if not _is_in(space[name], label) and not _is_between_steps(space[name], label):
                yield trial.number, f"its {name} is {label}, outside of the space"


def _steps(stored: Stored) -> Found:
    """No value lies between the steps of its range. In studies that an earlier version began some may.

    The database is sound then: the trial was trained with just that value, and no backup has another.
    """
    space = stored.file.space
    for trial in stored.trials:
        for name, label in trial.params.items():
            parameter = space[name]
            if not isinstance(parameter, Choice) and _is_between_steps(parameter, label):
                yield (
                    trial.number,
                    f"its {name} is {label}, between steps of {parameter.step}; it was drawn and trained so",
                )


def _is_in(parameter: Parameter, label: Any) -> bool:
    try:
        parameter.check(label)
    except SpaceError:
        return False
    return True


def _is_between_steps(parameter: Parameter, label: Any) -> bool:
    """Tell whether a value is off the steps of a range of very many, where a sampler of an earlier version ignored steps."""
    if isinstance(parameter, Choice) or (parameter.count or 0) <= MAX_GRID_POINTS or _is_in(parameter, label):
        return False
    whole = isinstance(label, int) or isinstance(parameter, Float)
    return is_number(label) and whole and parameter.low <= label <= parameter.high


def _damaged_files(folder: Path) -> Iterator[str]:
    """Check checkpoints and kept weights. What was never kept is no fault: a full disk may have been the reason."""
    for path in checkpoints.files(folder):
        try:
            checkpoints.read(path)
        except checkpoints.CheckpointError as error:
            if not path.exists():
                continue  # the study is running, and has newer ones
            is_kept = path.parent == folder
            rest = "its trial's weights are lost" if is_kept else "its trials go on from an older one, or begin anew"
            yield f"{error}; delete it: {rest}"


CHECKS: tuple[Callable[[Stored, sqlite3.Connection], Found], ...] = (
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
