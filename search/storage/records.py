"""Reading studies back out of a database: for recovery, and for everything that shows or exports. Writes nothing."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import DamagedError, ManyfitError, StoreError, UsageError
from search.spec.resolved import Resolved
from search.spec.study import StudyFile, beside
from search.storage import columns, leftovers, rows, schema
from search.trials.history import History
from search.trials.trial import Trial
from spaces import Space


@dataclass(frozen=True, kw_only=True)
class Stored(History):
    """A study as its database, at `path`, holds it."""

    path: Path
    name: str

    @property
    def files(self) -> Path:
        """The folder of its checkpoints and of the weights of its best trials; it need not be there."""
        return beside(self.path, self.name, ".files")


@dataclass(frozen=True)
class Brief:
    """A line about a study, for lists.

    Attributes:
        best: of the COMPLETE trials.
        ahead: value, number and state of the best trial that was not trained fully, where that beats `best`.
    """

    path: Path
    name: str
    objective: str
    trials: int
    wanted: int
    counts: dict[str, int]
    best: float | None
    ended: str
    seconds: float
    ahead: tuple[float, int, str] | None = None

    @property
    def ended_trials(self) -> int:
        """How many trials have ended, failed ones included."""
        return sum(self.counts.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL"))


def briefs(path: Path) -> list[Brief]:
    """Return a line about every study of a database, without reading its trials one by one."""
    with _reading(path) as connection:
        for problem in columns.problems(connection, briefly=True):
            raise DamagedError(f"{path} is damaged: {problem}; {schema.advice(path)}")
        rows = connection.execute(
            f"SELECT study_id, study_name, settings, seconds, ended FROM {leftovers.OUR_STUDIES} ORDER BY study_id"  # noqa: S608
        ).fetchall()
        return [_brief(connection, path, row) for row in rows]


def names(path: Path) -> list[str]:
    """Return the names of the studies that manyfit keeps in a database."""
    with _reading(path) as connection:
        return [
            row[0]
            for row in connection.execute(
                f"SELECT study_name FROM {leftovers.OUR_STUDIES} ORDER BY study_id"  # noqa: S608
            )
        ]


def load(path: Path, name: str, *, with_trials: bool = True) -> Stored:
    """Read a study; StoreError if it is missing or the database can't be read."""
    with _reading(path) as connection:
        return read(connection, path, name, with_trials=with_trials)


def resolved(stored: Stored) -> Resolved:
    """Return what a study was resolved to at its first start; DamagedError if that is not in its database any more."""
    try:
        return Resolved(**stored.resolved)
    except TypeError:
        lacks = "manyfit_studies.resolved does not say what the study was resolved to"
        raise DamagedError(f"{stored.path} is damaged: {lacks}; {schema.advice(stored.path)}") from None


def exists(path: Path, name: str) -> bool:
    """Tell whether `path` holds the study; False if there is no file.

    StoreError for a file that is no database of ours, and for what is left of one that is gone.
    """
    if not path.exists():
        schema.check_gone(path)
        return False
    return name in names(path)


def only_name(path: Path) -> str:
    """Return the name of the one study of a database; UsageError if there are several to choose from, or none."""
    found = names(path)
    if len(found) == 1:
        return found[0]
    if not found:
        raise StoreError(f"{path} has no study yet")
    raise UsageError(f"{path} holds several studies; choose one with --name: {', '.join(found)}")


def check_trials(connection: sqlite3.Connection, path: Path, name: str) -> tuple[int, Space]:
    """Make sure that a search can go on with the trials of a study; return its study_id and its space.

    StoreError if the study is missing or a trial of it is another program's, DamagedError if they are not numbered 0..n-1.
    """
    study = connection.execute(
        f"SELECT study_id, settings FROM {leftovers.OUR_STUDIES} WHERE study_name = ?",  # noqa: S608
        (name,),
    ).fetchone()
    if study is None:
        raise StoreError(f"{path} has no study {name!r}")
    space = StudyFile.stored(path, json.loads(study["settings"])).space
    always = {name for name, parameter in space.items() if not parameter.when}
    rows = connection.execute(
        "SELECT trial_id, number, datetime_start, state IN ('COMPLETE', 'PRUNED', 'FAIL') AS is_ended, "
        "EXISTS (SELECT 1 FROM trial_user_attributes u WHERE u.trial_id = t.trial_id AND key = 'ended') AS has_ending, "
        "EXISTS (SELECT 1 FROM trial_intermediate_values v WHERE v.trial_id = t.trial_id) AS has_values, "
        "EXISTS (SELECT 1 FROM manyfit_epochs e WHERE e.trial_id = t.trial_id) AS has_epochs "
        "FROM trials t WHERE study_id = ? ORDER BY number, trial_id",
        (study["study_id"],),
    ).fetchall()

    def is_strange(row: sqlite3.Row) -> bool:
        if row["is_ended"]:
            return not row["has_ending"]
        params = connection.execute("SELECT param_name FROM trial_params WHERE trial_id = ?", (row["trial_id"],))
        is_whole = always <= {param for (param,) in params} and row["datetime_start"] is not None
        return not is_whole or row["has_values"] != row["has_epochs"]

    if strange := {row["trial_id"]: row["number"] for row in rows if is_strange(row)}:
        raise strange_trials(path, strange)
    if [row["number"] for row in rows] != list(range(len(rows))):
        tells = f"`manyfit verify {shlex.quote(str(path))}`"
        raise DamagedError(
            f"{path}: the trials of {name!r} are not numbered 0 to {len(rows) - 1}, once each; {tells} "
            f"tells which are wrong; {schema.advice(path)}"
        )
    return int(study["study_id"]), space


def strange_trials(path: Path, found: Mapping[int, int]) -> StoreError:
    """Return the error of trials, number by trial_id, that another program has added to a study of ours."""
    which, them = ("trial", "it") if len(found) == 1 else ("trials", "them")
    numbers, ids = (", ".join(map(str, some)) for some in (found.values(), found))
    # Without a study they are nobody's: neither Optuna nor manyfit shows them, and what they hold stays.
    taking_out = f"UPDATE trials SET study_id = NULL WHERE trial_id IN ({ids})"  # noqa: S608 (ids are numbers)
    return StoreError(
        f"{path}: another program has added {which} {numbers}, and no search can go on with {them}; all that was stored "
        f"is kept: take {them} out by `{shlex.join(['sqlite3', str(path), taking_out])}`, then repeat the command"
    )


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(schema.connect(path, readonly=True)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise StoreError(f"{path} can't be read: {error}; {schema.advice(path)}") from None
        except ManyfitError:
            raise
        except Exception as error:  # noqa: BLE001 (rows that another program, or damage, has changed may make anything raise)
            # Corruption can pass SQLite's own checks: a zeroed page may decode as malformed text.
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise StoreError(
                f"{path} is damaged, for its studies can't be read ({what:.200}); {schema.advice(path)}"
            ) from None


def _brief(connection: sqlite3.Connection, path: Path, row: sqlite3.Row) -> Brief:
    file = StudyFile.stored(path, json.loads(row["settings"]))
    counts = dict(
        connection.execute("SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state", (row["study_id"],))
    )
    best, ahead = _best(connection, row["study_id"], file.direction)
    return Brief(
        path=path,
        name=row["study_name"],
        objective=file.settings.study.objective,
        trials=sum(counts.values()),
        wanted=file.settings.study.trials,
        counts=counts,
        best=best,
        ended=row["ended"],
        seconds=row["seconds"],
        ahead=ahead,
    )


def _best(
    connection: sqlite3.Connection, study_id: int, direction: str
) -> tuple[float | None, tuple[float, int, str] | None]:
    """Return the best value of the COMPLETE trials, and (value, number, state) of another that is better."""
    better, order = (max, "DESC") if direction == "maximize" else (min, "ASC")
    # Trials that go on have no value yet, only epochs. Diverged and failed ones have none.
    rows = connection.execute(
        "SELECT state, number, value FROM ("  # noqa: S608 (the words are ours)
        "SELECT t.state, t.number, v.value FROM trial_values v JOIN trials t USING (trial_id) WHERE t.study_id = :study "
        f"UNION ALL SELECT t.state, t.number, {better.__name__}(i.intermediate_value) FROM trial_intermediate_values i "
        "JOIN trials t USING (trial_id) WHERE t.study_id = :study AND t.state IN ('RUNNING', 'WAITING') GROUP BY t.number"
        f") WHERE value IS NOT NULL ORDER BY value {order}, number",
        {"study": study_id},
    ).fetchall()
    best = next((row["value"] for row in rows if row["state"] == "COMPLETE"), None)
    other = next((row for row in rows if row["state"] in ("PRUNED", "RUNNING", "WAITING")), None)
    if other is None or (best is not None and better(best, other["value"]) == best):
        return best, None
    return best, (other["value"], other["number"], other["state"])


def read(
    connection: sqlite3.Connection, path: Path, name: str, *, with_trials: bool = True, whatever: bool = False
) -> Stored:
    """Read a study by a connection that is in no transaction, and leave it in one; StoreError if the study is missing.

    DamagedError if a column holds what does not belong there, unless `whatever`: then anything may be raised.
    """
    # One read transaction, so that a running study is seen at one moment.
    connection.execute("BEGIN")
    for problem in () if whatever else columns.problems(connection):
        raise DamagedError(f"{path} is damaged: {problem}; {schema.advice(path)}")
    row = connection.execute(
        f"SELECT * FROM {leftovers.OUR_STUDIES} WHERE study_name = ?",  # noqa: S608
        (name,),
    ).fetchone()
    if row is None:
        known = ", ".join(names(path)) or "none"
        raise StoreError(f"{path} has no study {name!r}; it has {known}")
    study_id = row["study_id"]
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
        trials=_trials(connection, path, study_id, file) if with_trials else [],
        events=[rows.read_event(*event) for event in events],
        study_attrs={key: json.loads(value) for key, value in attrs},
        spent=json.loads(row["spent"]),
    )


def _trials(connection: sqlite3.Connection, path: Path, study_id: int, file: StudyFile) -> list[Trial]:
    of_study = "JOIN trials t USING (trial_id) WHERE t.study_id = ?"
    users = _attrs(connection, "trial_user_attributes", of_study, study_id)
    params: dict[int, dict[str, float]] = defaultdict(dict)
    strange: dict[int, int] = {}
    query = f"SELECT trial_id, number, param_name, param_value FROM trial_params {of_study} ORDER BY param_id"  # noqa: S608
    for trial_id, number, name, value in connection.execute(query, (study_id,)):
        params[trial_id][name] = value
        if name not in file.space and "ended" not in users[trial_id]:
            strange[trial_id] = number
    if strange:
        raise strange_trials(path, strange)
    systems = _attrs(connection, "trial_system_attributes", of_study, study_id)
    values = dict(
        connection.execute(f"SELECT trial_id, v.value FROM trial_values v {of_study}", (study_id,))  # noqa: S608
    )
    curves: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for trial_id, seconds, metrics in connection.execute(
        f"SELECT trial_id, e.seconds, e.metrics FROM manyfit_epochs e {of_study} ORDER BY trial_id, epoch",  # noqa: S608
        (study_id,),
    ):
        curves[trial_id].append((seconds, metrics))
    return [
        rows.trial(
            file,
            row,
            values=params[row["trial_id"]],
            curve=curves[row["trial_id"]],
            value=values.get(row["trial_id"]),
            shown=users[row["trial_id"]],
            attrs=systems[row["trial_id"]],
        )
        for row in connection.execute("SELECT * FROM trials WHERE study_id = ? ORDER BY number", (study_id,))
    ]


def _attrs(connection: sqlite3.Connection, table: str, of_study: str, study_id: int) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    query = f"SELECT trial_id, key, value_json FROM {table} {of_study}"  # noqa: S608 (names are ours)
    for trial_id, key, value in connection.execute(query, (study_id,)):
        found[trial_id][key] = json.loads(value)
    return found
