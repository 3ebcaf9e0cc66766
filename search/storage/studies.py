"""Studies of an open database, read through its connection. Nothing here writes."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import StoreError
from search.spec.study import StudyFile
from search.storage import column_values, leftovers, rows
from search.trials import confirmation
from search.trials.files import StudyFiles
from search.trials.history import History
from search.trials.trial import Trial
from spaces import Space


@dataclass(frozen=True, kw_only=True)
class Stored(History):
    """A study as the database at `path` holds it."""

    path: Path
    name: str

    @property
    def files(self) -> StudyFiles:
        """Its files: log and best.json, checkpoints, and the weights of its best trials; they may not exist."""
        return StudyFiles(self.path, self.name)


def names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the studies that manyfit made, the oldest first."""
    rows = connection.execute(f"SELECT study_name FROM {leftovers.OUR_STUDIES} ORDER BY study_id")  # noqa: S608
    return [name for (name,) in rows]


def confirmed_by(connection: sqlite3.Connection, name: str) -> str:
    """Return the name of the study of the same database that study `name` confirms, or ""."""
    confirmed = name.removesuffix(confirmation.SUFFIX)
    return confirmed if name == confirming(connection, confirmed) and confirmed in names(connection) else ""


def confirming(connection: sqlite3.Connection, name: str) -> str:
    """Return the name of the study of the same database that confirms study `name`, or ""."""
    row = connection.execute(
        f"SELECT study_name FROM {leftovers.OUR_STUDIES} WHERE study_name = ? "  # noqa: S608
        "AND json_type(settings, '$.study.confirms') = 'array'",
        (name + confirmation.SUFFIX,),
    ).fetchone()
    return "" if row is None else str(row["study_name"])


def holds(connection: sqlite3.Connection, path: Path, name: str) -> bool:
    """Return whether a database holds the study; StoreError if another program made a study of this name."""
    return _id(connection, path, name) is not None


def id_of(connection: sqlite3.Connection, path: Path, name: str, cure: str = "give another --name") -> int:
    """Return the id of a study; StoreError if it is missing or, with `cure`, if another program made it."""
    study_id = _id(connection, path, name, cure)
    if study_id is None:
        raise StoreError(f"{path} has no study {name!r}; it has {', '.join(names(connection)) or 'none'}")
    return study_id


def _id(connection: sqlite3.Connection, path: Path, name: str, cure: str = "give another --name") -> int | None:
    row = connection.execute(
        f"SELECT study_id FROM {leftovers.OUR_STUDIES} WHERE study_name = ?",  # noqa: S608
        (name,),
    ).fetchone()
    if row is None and connection.execute("SELECT 1 FROM studies WHERE study_name = ?", (name,)).fetchone():
        raise StoreError(f"{path} has a study {name!r} that manyfit did not make; {cure}")
    return None if row is None else int(row[0])


def check_trials(connection: sqlite3.Connection, path: Path, name: str) -> tuple[int, Space]:
    """Check that a search can resume with the trials of a study; return its study_id and its space.

    StoreError if the study is missing or another program added a trial.
    """
    study_id = id_of(connection, path, name)
    if foreign := foreign_trials(connection, path, study_id):
        raise foreign_trials_error(path, foreign)
    return study_id, _file(connection, path, study_id).space


def _file(connection: sqlite3.Connection, path: Path, study_id: int) -> StudyFile:
    (settings,) = connection.execute("SELECT settings FROM manyfit_studies WHERE study_id = ?", (study_id,)).fetchone()
    return StudyFile.stored(path, json.loads(settings))


def foreign_trials(connection: sqlite3.Connection, path: Path, study_id: int) -> dict[int, int]:
    """Return the trials, trial_id -> number, that another program has added to a study of ours."""
    file = _file(connection, path, study_id)
    space, has_replicas = file.space, file.settings.study.replicas > 1
    unconditional = {name for name, parameter in space.items() if not parameter.when}
    rows = connection.execute(
        "SELECT trial_id, number, datetime_start, state IN ('COMPLETE', 'PRUNED', 'FAIL') AS is_ended, "
        "EXISTS (SELECT 1 FROM trial_user_attributes u WHERE u.trial_id = t.trial_id AND key = 'ended') AS has_ending, "
        "EXISTS (SELECT 1 FROM trial_intermediate_values v WHERE v.trial_id = t.trial_id) AS has_values, "
        "EXISTS (SELECT 1 FROM manyfit_epochs e WHERE e.trial_id = t.trial_id) AS has_epochs "
        "FROM trials t WHERE study_id = ? ORDER BY number, trial_id",
        (study_id,),
    ).fetchall()

    def is_foreign(row: sqlite3.Row) -> bool:
        if row["is_ended"]:
            return not row["has_ending"]
        rows = connection.execute("SELECT param_name FROM trial_params WHERE trial_id = ?", (row["trial_id"],))
        params = {param for (param,) in rows}
        is_complete = unconditional <= params <= set(space) and row["datetime_start"] is not None
        # A trial has a value at an epoch once all its trainings have reached it.
        has_own_epochs = row["has_values"] == row["has_epochs"] or (has_replicas and row["has_epochs"])
        return not is_complete or not has_own_epochs

    return {row["trial_id"]: row["number"] for row in rows if is_foreign(row)}


def foreign_trials_error(path: Path, trials: Mapping[int, int]) -> StoreError:
    """Return the error for trials, trial_id -> number, that another program has added to a study of ours."""
    which, them = ("trial", "it") if len(trials) == 1 else ("trials", "them")
    numbers, ids = (", ".join(map(str, part)) for part in (trials.values(), trials))
    # A trial without a study keeps its rows, but neither Optuna nor manyfit shows the trial.
    taking_out = f"UPDATE trials SET study_id = NULL WHERE trial_id IN ({ids})"  # noqa: S608 (ids are numbers)
    return StoreError(
        f"{path}: another program has added {which} {numbers}, and no search can go on with {them}; all that was stored "
        f"is kept: take {them} out by `{shlex.join(['sqlite3', str(path), taking_out])}`, then repeat the command"
    )


def read(
    connection: sqlite3.Connection,
    path: Path,
    name: str,
    *,
    with_trials: bool = True,
    unchecked: bool = False,
    without: Collection[int] = (),
) -> Stored:
    """Read a study in a transaction, and leave the connection in it; StoreError if the study is missing.

    DamagedError if a column holds a wrong value. With `unchecked`, wrong values are not looked for and may raise anything.
    The trials whose trial_id is in `without` are left out.
    """
    # One read transaction, so that all rows of a running study are of the same moment.
    if not connection.in_transaction:
        connection.execute("BEGIN")
    if not unchecked:
        column_values.check(connection, path)
    study_id = id_of(connection, path, name)
    row = connection.execute("SELECT * FROM manyfit_studies WHERE study_id = ?", (study_id,)).fetchone()
    file = StudyFile.stored(Path(os.fsdecode(row["file"])), json.loads(row["settings"]))
    attrs = connection.execute(
        "SELECT key, value_json FROM study_system_attributes WHERE study_id = ? AND key NOT LIKE 'dashboard:%' "
        "AND key != 'study:metric_names'",
        (study_id,),
    )
    events = connection.execute(
        "SELECT at, kind, detail FROM manyfit_events WHERE study_id = ? ORDER BY event_id", (study_id,)
    )
    return Stored(
        path=path,
        name=name,
        file=file,
        resolved=json.loads(row["resolved"]),
        identity=json.loads(row["identity"]),
        seconds=row["seconds"],
        ended=row["ended"],
        trials=_trials(connection, path, study_id, file, without) if with_trials else [],
        events=[rows.read_event(*event) for event in events],
        study_attrs={key: json.loads(value) for key, value in attrs},
        spent=json.loads(row["spent"]),
    )


def _trials(
    connection: sqlite3.Connection, path: Path, study_id: int, file: StudyFile, without: Collection[int]
) -> list[Trial]:
    of_study = "JOIN trials t USING (trial_id) WHERE t.study_id = ?"
    user_attrs = _attrs(connection, "trial_user_attributes", of_study, study_id)
    params: dict[int, dict[str, float]] = defaultdict(dict)
    foreign: dict[int, int] = {}
    query = f"SELECT trial_id, number, param_name, param_value FROM trial_params {of_study} ORDER BY param_id"  # noqa: S608
    for trial_id, number, name, value in connection.execute(query, (study_id,)):
        params[trial_id][name] = value
        if name not in file.space and "ended" not in user_attrs[trial_id] and trial_id not in without:
            foreign[trial_id] = number
    if foreign:
        raise foreign_trials_error(path, foreign)
    system_attrs = _attrs(connection, "trial_system_attributes", of_study, study_id)
    values = dict(
        connection.execute(f"SELECT trial_id, v.value FROM trial_values v {of_study}", (study_id,))  # noqa: S608
    )
    curves: dict[int, list[tuple[int, float, str]]] = defaultdict(list)
    for trial_id, *epoch in connection.execute(
        f"SELECT trial_id, e.replica, e.seconds, e.metrics FROM manyfit_epochs e {of_study} ORDER BY trial_id, epoch",  # noqa: S608
        (study_id,),
    ):
        curves[trial_id].append(tuple(epoch))
    return [
        rows.trial(
            file,
            row,
            values=params[row["trial_id"]],
            curve=curves[row["trial_id"]],
            value=values.get(row["trial_id"]),
            shown=user_attrs[row["trial_id"]],
            attrs=system_attrs[row["trial_id"]],
        )
        for row in connection.execute("SELECT * FROM trials WHERE study_id = ? ORDER BY number", (study_id,))
        if row["trial_id"] not in without
    ]


def _attrs(connection: sqlite3.Connection, table: str, of_study: str, study_id: int) -> dict[int, dict[str, Any]]:
    attrs: dict[int, dict[str, Any]] = defaultdict(dict)
    query = f"SELECT trial_id, key, value_json FROM {table} {of_study}"  # noqa: S608 (names are ours)
    for trial_id, key, value in connection.execute(query, (study_id,)):
        attrs[trial_id][key] = json.loads(value)
    return attrs
