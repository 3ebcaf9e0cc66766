"""Check the rows of a database: what every study stores must agree with itself, and Optuna's tables with ours.

A check is a function of a study and of the connection that the study was read by; it yields what is wrong. Add a new check
to CHECKS. Nothing here writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import DamagedError
from search.storage import column_values, connecting, leftovers, studies
from search.storage.studies import Stored
from search.trials.distributions import is_stored_as
from search.trials.events import Member
from search.trials.objective import Objective
from spaces import MAX_GRID_CONFIGS, Choice, Float, Parameter, SpaceError, is_number

ENDINGS = {
    "RUNNING": {""},
    "WAITING": {""},
    "COMPLETE": {"finished", "stopped early", "callback", "timeout", "time"},
    "PRUNED": {"pruned", "diverged", "refused"},
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


def check_rows(connection: sqlite3.Connection, path: Path) -> None:
    """Check the rows of all studies; DamagedError if any are damaged. The pages of the file are not checked.

    Raises sqlite3.Error or MemoryError if something else prevents the check: a lock, a full disk.
    Takes 1.5 s for 1,000 trials of 100 epochs (18 MB).
    """
    try:
        # One transaction, so that all rows are of the same moment.
        connection.execute("BEGIN")
        try:
            problem = next(_damage(connection, path), None)
        finally:
            # A full disk may have ended the transaction.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if not connecting.is_damage(error):
            raise
        raise DamagedError(f"{path} is damaged: {error}", advise_on=path) from None
    if problem is not None:
        raise DamagedError(f"{path} is damaged: {problem}", advise_on=path)


def _damage(connection: sqlite3.Connection, path: Path) -> Iterator[Problem]:
    yield from orphans(connection)
    yield from map(Problem, column_values.problems(connection))
    for name in studies.names(connection):
        yield from (problem for problem in check_study(connection, path, name)[1] if problem.is_damage)


def orphans(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Yield the first rows that belong to nothing, other than those that a deletion leaves."""
    for table, row, parent in leftovers.orphans(connection)[:20]:
        yield Problem(f"row {row} of {table} belongs to nothing in {parent}")


def check_study(connection: sqlite3.Connection, path: Path, name: str) -> tuple[Stored | None, list[Problem]]:
    """Return a study, or None if its damage prevents reading it, and its problems.

    Raises sqlite3.Error or MemoryError if something else prevents it.
    """
    problems: list[Problem] = []
    try:
        foreign = studies.foreign_trials(connection, path, studies.id_of(connection, path, name))
        if foreign:
            # Not damage: the study itself is as it was, and a backup may hold these trials, too.
            problems.append(Problem(str(studies.foreign_trials_error(path, foreign)), name, is_damage=False))
        stored = studies.read(connection, path, name, unchecked=True, without=foreign)
        for check in CHECKS:
            problems += [Problem(what, name, trial) for trial, what in check(stored, connection)]
        problems += [Problem(what, name, trial, is_damage=False) for trial, what in _steps(stored)]
    except Exception as error:
        # A damaged row may raise anything, and that is the problem to report.
        if not connecting.is_damage(error):
            raise
        what = " ".join(str(error).split())
        return None, [*problems, Problem(f"can't be read: {type(error).__name__}: {what[:300]}", name)]
    return stored, problems


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
    epochs: dict[Member, list[int]] = defaultdict(list)
    # In the order in which the curve of a member was read.
    for number, replica, epoch in connection.execute(
        f"SELECT t.number, replica, epoch FROM manyfit_epochs {_OF_STUDY} ORDER BY trial_id, epoch",  # noqa: S608
        (stored.name,),
    ):
        epochs[Member(number, replica)].append(epoch)
    values: dict[int, dict[int, float | None]] = defaultdict(dict)
    for number, step, value in connection.execute(
        f"SELECT t.number, step, intermediate_value FROM trial_intermediate_values {_OF_STUDY}",  # noqa: S608
        (stored.name,),
    ):
        values[number][step] = value
    for trial in stored.trials:
        intermediate = values[trial.number]
        for training in trial.trainings:
            trained = epochs[training.member]
            if gaps := sorted(set(range(1, max(trained, default=0) + 1)) - set(trained)):
                yield trial.number, f"its curve lacks {_epochs(gaps)}"
            if outside := [epoch for epoch in trained if not 1 <= epoch <= trial.epochs]:
                yield trial.number, f"its curve has {_epochs(outside)}, of at most {trial.epochs}"
        reached = sorted(set[int].intersection(*(set(epochs[member]) for member in trial.members)))
        curve = {epoch: metrics.get(objective) for epoch, metrics in zip(reached, trial.curve, strict=False)}
        if differing := sorted(e for e in {*curve, *intermediate} if curve.get(e) != intermediate.get(e)):
            yield trial.number, f"its intermediate values are not its curve's {objective} at {_epochs(differing)}"
        if empty := [epoch for epoch, value in curve.items() if value is None]:
            yield trial.number, f"its curve has no {objective} at {_epochs(empty)}"


def _values(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """An ended trial has the value of its best epoch; one that failed, diverged, was refused or still runs has none."""
    values: dict[int, float | None] = dict(
        connection.execute(f"SELECT t.number, value FROM trial_values v {_OF_STUDY}", (stored.name,))  # noqa: S608
    )
    for trial in stored.trials:
        has_value = trial.is_ended and not trial.has_no_value
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


def _optuna(stored: Stored, connection: sqlite3.Connection) -> Findings:
    """Optuna reads the study as manyfit does: its direction, the distributions of its params, its values."""
    objective = Objective.of(stored.file)
    directions = connection.execute(
        "SELECT objective, direction FROM study_directions JOIN studies USING (study_id) WHERE study_name = ?",
        (stored.name,),
    ).fetchall()
    if [tuple(row) for row in directions] != [(0, objective.direction.upper())]:
        received = ", ".join(f"{direction} ({number})" for number, direction in directions) or "none"
        yield None, f"its direction in Optuna's table is {received}, and should be {objective.direction.upper()} (0)"
    for table in ("study_user_attributes", "study_system_attributes"):
        for key, text in connection.execute(
            f"SELECT key, value_json FROM {table} JOIN studies USING (study_id) WHERE study_name = ?",  # noqa: S608
            (stored.name,),
        ):
            if not _is_json(text):
                yield None, f"its attribute {key} is {text[:100]!r} in Optuna's table, which is not JSON"
    trials = {trial.number for trial in stored.trials}
    wrong: dict[tuple[str, str], bool] = {}
    for number, name, text in connection.execute(
        f"SELECT t.number, param_name, distribution_json FROM trial_params {_OF_STUDY}",  # noqa: S608
        (stored.name,),
    ):
        if number not in trials:
            continue
        if (name, text) not in wrong:
            wrong[name, text] = not is_stored_as(stored.file.space[name], text)
        if wrong[name, text]:
            yield number, f"its {name} has the distribution {text[:100]!r} in Optuna's table, which is not the space's"
    for number, what in connection.execute(
        f"SELECT t.number, 'value' FROM trial_values {_OF_STUDY} AND (objective != 0 OR value_type != 'FINITE') "  # noqa: S608
        "UNION ALL SELECT t.number, 'intermediate value of epoch ' || step FROM trial_intermediate_values "
        f"{_OF_STUDY} AND intermediate_value_type != 'FINITE'",
        (stored.name, stored.name),
    ):
        if number in trials:
            yield number, f"Optuna's table has its {what} with a type, or for an objective, that manyfit never stores"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _steps(stored: Stored) -> Findings:
    """No value lies between the steps of its range. Samplers of an earlier version drew such values.

    They are not damage: the trial was trained with exactly that value, and a backup holds the same value.
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


CHECKS: tuple[Callable[[Stored, sqlite3.Connection], Findings], ...] = (
    _whole,
    _numbers,
    _curves,
    _values,
    _endings,
    _params,
    _optuna,
)


def _epochs(epochs: list[int]) -> str:
    shown = ", ".join(map(str, epochs[:5])) + (f" and {len(epochs) - 5} more" if len(epochs) > 5 else "")
    return f"epoch {shown}" if len(epochs) == 1 else f"epochs {shown}"
