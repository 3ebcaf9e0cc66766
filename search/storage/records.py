"""Read studies from the database at a path: for recovery, views and exports. Nothing here writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from search.errors import DamagedError, ManyfitError, StoreError, UsageError
from search.spec.resolved import Resolved
from search.spec.study import StudyFile
from search.storage import column_values, connecting, leftovers, studies
from search.storage.advice import advice, advising, check_gone
from search.storage.studies import Stored
from search.trials.confirmation import is_of
from search.trials.trial import REFUSED


@dataclass(frozen=True)
class Brief:
    """A summary of a study, for lists.

    Attributes:
        best: the best value of the COMPLETE trials.
        ahead: value, number and state of the best trial that was not trained fully, if it beats `best`.
        confirms: the study that it confirms, or "".
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
    confirms: str = ""

    @property
    def ended_trials(self) -> int:
        """How many trials have ended, failed ones included."""
        return sum(self.counts.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL", "REFUSED"))


def briefs(path: Path) -> list[Brief]:
    """Return a summary of every study of a database, without reading its trials one by one."""
    with _reading(path) as connection:
        column_values.check(connection, path, briefly=True)
        rows = connection.execute(
            f"SELECT study_id, study_name, settings, seconds, ended FROM {leftovers.OUR_STUDIES} ORDER BY study_id"  # noqa: S608
        ).fetchall()
        return [_brief(connection, path, row) for row in rows]


def names(path: Path) -> list[str]:
    """Return the names of the studies that manyfit keeps in a database."""
    with _reading(path) as connection:
        return studies.names(connection)


def main_names(path: Path) -> list[str]:
    """Return the names of the studies of a database, but for those that `confirm` made beside the ones they confirm."""
    with _reading(path) as connection:
        return [name for name in studies.names(connection) if not studies.confirmed_by(connection, name)]


def only_name(path: Path) -> str:
    """Return the name of the only one of `main_names`; StoreError if there is none, UsageError if there are several."""
    present = main_names(path)
    if len(present) == 1:
        return present[0]
    if not present:
        raise StoreError(f"{path} has no study yet")
    raise UsageError(f"{path} holds several studies; choose one with --name: {', '.join(present)}")


def load(path: Path, name: str, *, with_trials: bool = True) -> Stored:
    """Read a study; StoreError if it is missing or the database can't be read."""
    with _reading(path) as connection:
        return studies.read(connection, path, name, with_trials=with_trials)


def find(path: Path, name: str, *, with_trials: bool = True) -> Stored | None:
    """Return a study, or None if `path` does not hold it; StoreError as from `exists` and `load`."""
    if not path.exists():
        check_gone(path)
        return None
    with _reading(path) as connection:
        is_there = studies.holds(connection, path, name)
        return studies.read(connection, path, name, with_trials=with_trials) if is_there else None


def confirming(stored: Stored) -> Stored | None:
    """Return the study that confirms a study; None if there is none."""
    if not stored.path.exists():
        return None
    with _reading(stored.path) as connection:
        name = studies.confirming(connection, stored.name)
        again = name and studies.read(connection, stored.path, name)
    return again if again and is_of(again, stored) else None


def resolved(stored: Stored) -> Resolved:
    """Return what a study was resolved to at its first start; DamagedError if the database has lost that."""
    try:
        return Resolved(**stored.resolved)
    except TypeError:
        lacks = "manyfit_studies.resolved does not say what the study was resolved to"
        raise DamagedError(f"{stored.path} is damaged: {lacks}; {advice(stored.path)}") from None


def exists(path: Path, name: str) -> bool:
    """Return whether `path` holds the study; False if there is no file.

    StoreError if the file is not a database of ours, if only its journal or its backup is left, or if another program made
    the study.
    """
    if not path.exists():
        check_gone(path)
        return False
    with _reading(path) as connection:
        return studies.holds(connection, path, name)


def check_pages(path: Path, *, interruption: Callable[[], int] = lambda: 0) -> None:
    """Check all pages and the schema of a database; StoreError if it can't be read.

    Interrupted if `interruption` returns the number of a signal while another program holds the database locked.
    """
    with advising():
        connecting.connect(path, readonly=True, whole=True, interruption=interruption).close()


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with advising(), closing(connecting.connect(path, readonly=True)) as connection:
        try:
            yield connection
        except (sqlite3.Error, MemoryError) as error:
            raise StoreError(f"{path} can't be read: {connecting.cause(error)}", advise_on=path) from None
        except ManyfitError:
            raise
        except Exception as error:  # noqa: BLE001 (a row that another program or damage has changed may raise anything)
            # Corruption can pass SQLite's own checks: a zeroed page may decode as malformed text.
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise StoreError(
                f"{path} is damaged, for its studies can't be read ({what:.200})", advise_on=path
            ) from None


def _brief(connection: sqlite3.Connection, path: Path, row: sqlite3.Row) -> Brief:
    file = StudyFile.stored(path, json.loads(row["settings"]))
    counts = dict(
        connection.execute("SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state", (row["study_id"],))
    )
    (refused,) = connection.execute(
        "SELECT count(*) FROM trial_user_attributes JOIN trials USING (trial_id) "
        "WHERE study_id = ? AND key = 'ended' AND value_json = ?",
        (row["study_id"], json.dumps(REFUSED)),
    ).fetchone()
    if refused:
        # In Optuna's table they are pruned.
        counts |= {"PRUNED": counts.get("PRUNED", 0) - refused, REFUSED.upper(): refused}
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
        confirms=studies.confirmed_by(connection, row["study_name"]),
    )


def _best(
    connection: sqlite3.Connection, study_id: int, direction: str
) -> tuple[float | None, tuple[float, int, str] | None]:
    """Return the best value of the COMPLETE trials, and (value, number, state) of a better trial of another state."""
    better, order = (max, "DESC") if direction == "maximize" else (min, "ASC")
    # A running or waiting trial has epochs but no value yet. A diverged or failed trial has no value.
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
