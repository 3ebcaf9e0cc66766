"""Write the rows of a study, in Optuna's tables and ours, within one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from search.errors import StoreError
from search.failpoints import failpoint
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.storage import connecting, rows, schema, studies
from search.trials import known
from search.trials.history import Commit, Epoch, HistoryEvent, TrialStart, TrialState
from spaces import Space

# The tables with rows of a trial, and last the table of trials.
_OF_TRIALS = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
    "manyfit_epochs",
    "trials",
)


class Transaction:
    """BEGIN IMMEDIATE ... COMMIT as a context manager; it waits in short steps, so that signals get through."""

    def __init__(self, connection: sqlite3.Connection, path: Path, interruption: Callable[[], int]) -> None:
        self._connection, self._path, self._interruption = connection, path, interruption

    def __enter__(self) -> None:
        try:
            connecting.run_waiting(self._connection, "BEGIN IMMEDIATE", self._interruption)
        except sqlite3.OperationalError as error:
            raise _unwritable(self._path, error) from None

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        problem = error
        try:
            failpoint("before a commit")
            self._connection.execute("COMMIT" if error is None else "ROLLBACK")
            failpoint("after a commit")
        except sqlite3.Error as commit_error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            problem = error or commit_error
        if isinstance(problem, sqlite3.Error):
            raise _unwritable(self._path, problem) from None


def _unwritable(path: Path, error: sqlite3.Error) -> StoreError:
    what = str(error)
    if "locked" in what:
        what = f"another program has held it locked for {connecting.BUSY_FOR_S:.0f} s"
    elif "I/O" in what:
        # SQLite reports a file at its size limit as an I/O error, like a broken disk.
        what = f"{what} (a full disk, or a limit on the size of files?)"
    return StoreError(
        f"{path} can't be written: {what}; all earlier trials are in it: mend the cause, repeat the command"
    )


def insert_study(connection: sqlite3.Connection, file: StudyFile, record: Record) -> int:
    """Write the rows of a new study; return its study_id."""
    study_id = connection.execute("INSERT INTO studies (study_name) VALUES (?)", (file.name,)).lastrowid
    assert study_id is not None  # noqa: S101 (an INSERT has a row)
    connection.execute(
        "INSERT INTO study_directions (direction, study_id, objective) VALUES (?, ?, 0)",
        (file.direction.upper(), study_id),
    )
    connection.execute(
        "INSERT INTO manyfit_studies (study_id, format, file, settings, resolved, identity, seconds, spent, ended) "
        "VALUES (?, ?, ?, ?, ?, ?, 0, '{}', '')",
        (
            study_id,
            schema.FORMAT,
            rows.path_value(file.path),
            file.settings.model_dump_json(),
            json.dumps(record.resolved),
            json.dumps(record.identity),
        ),
    )
    attrs = {"study:metric_names": [file.settings.study.objective], **rows.note_attrs(record.note), **record.known}
    _set_attrs(connection, "study_system_attributes", study_id, attrs)
    return study_id


class Writer:
    """Writes the rows of a study, within transactions of the caller, and knows the ids of its trials.

    Attributes:
        trial_ids: number -> trial_id of each trial that was stored.
        last_id: the highest of these trial_ids; 0 without trials.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, study_id: int, space: Space) -> None:
        self._connection, self._path, self._study_id, self._space = connection, path, study_id, space
        trials = connection.execute("SELECT number, trial_id FROM trials WHERE study_id = ?", (study_id,))
        self.trial_ids: dict[int, int] = {row["number"]: row["trial_id"] for row in trials}
        self.last_id = max(self.trial_ids.values(), default=0)

    def write(self, commit: Commit) -> None:
        """Write a commit; StoreError if another program has added a trial. Call `forget` if its transaction fails."""
        for trial in commit.started:
            self._insert_trial(trial)
        self._insert_epochs(commit.epochs)
        for state in commit.states:
            self._update_trial(state)
        _set_attrs(self._connection, "study_system_attributes", self._study_id, commit.study_attrs)
        self.insert_events(commit.events)
        self._connection.execute(
            "UPDATE manyfit_studies SET seconds = ?, spent = ?, ended = ? WHERE study_id = ?",
            (commit.seconds, json.dumps(commit.spent), commit.ended, self._study_id),
        )

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget trials without rows: they were deleted, or the transaction that wrote them was rolled back."""
        for number in numbers:
            self.trial_ids.pop(number, None)
        self.last_id = max(self.trial_ids.values(), default=0)

    def insert_events(self, events: Iterable[HistoryEvent]) -> None:
        self._connection.executemany(
            "INSERT INTO manyfit_events (study_id, at, kind, detail) VALUES (?, ?, ?, ?)",
            [rows.event(event, self._study_id) for event in events],
        )

    def update_settings(
        self, file: StudyFile, identity: Mapping[str, Any] | None, resolved: Mapping[str, Any] | None
    ) -> None:
        """Replace the settings of the study and, unless None, its identity and what it was resolved to."""
        self._connection.execute(
            "UPDATE manyfit_studies SET settings = ?, identity = coalesce(?, identity), resolved = coalesce(?, resolved) "
            "WHERE study_id = ?",
            (
                file.settings.model_dump_json(),
                identity and json.dumps(identity),
                resolved and json.dumps(resolved),
                self._study_id,
            ),
        )

    def delete_trials(self) -> None:
        """Delete all trials, none of which was trained, and the attributes that the study's sampler keeps.

        StoreError if another program has added a trial. Call `forget` once the transaction is committed.
        """
        trained = self._connection.execute(
            "SELECT 1 FROM manyfit_epochs JOIN trials USING (trial_id) WHERE study_id = ?", (self._study_id,)
        ).fetchone()
        assert trained is None  # noqa: S101 (no epoch is ever deleted)
        trials = self._connection.execute(
            "SELECT trial_id, number FROM trials WHERE study_id = ?", (self._study_id,)
        ).fetchall()
        if foreign := [row for row in trials if row[0] not in self.trial_ids.values()]:
            raise studies.foreign_trials_error(self._path, dict(foreign))
        for table in _OF_TRIALS:
            self._connection.execute(
                f"DELETE FROM {table} WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)",  # noqa: S608
                (self._study_id,),
            )
        self._connection.execute(
            "DELETE FROM study_system_attributes WHERE study_id = ? AND key NOT LIKE 'dashboard:%' "
            "AND key NOT IN ('study:metric_names', ?)",
            (self._study_id, known.KEY),
        )

    def _insert_trial(self, trial: TrialStart) -> None:
        # Optuna numbers trials by counting, so a trial of another program would have the number of this one.
        foreign = self._connection.execute(
            "SELECT trial_id, number FROM trials WHERE study_id = ? AND trial_id > ? ORDER BY trial_id",
            (self._study_id, self.last_id),
        ).fetchall()
        if foreign:
            raise studies.foreign_trials_error(self._path, dict(foreign))
        trial_id = self._connection.execute(
            "INSERT INTO trials (number, study_id, state, datetime_start) VALUES (?, ?, 'RUNNING', ?)",
            (trial.number, self._study_id, rows.moment(trial.at)),
        ).lastrowid
        assert trial_id is not None  # noqa: S101 (an INSERT has a row)
        self.trial_ids[trial.number] = self.last_id = trial_id
        # SQLite reuses the id of a deleted trial, and Optuna deletes a study without our rows.
        self._connection.execute("DELETE FROM manyfit_epochs WHERE trial_id = ?", (trial_id,))
        self._connection.executemany(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
            [(trial_id, *row) for row in rows.param_rows(trial.params, self._space)],
        )
        _set_attrs(self._connection, "trial_system_attributes", trial_id, trial.attrs)

    def _insert_epochs(self, epochs: Sequence[Epoch]) -> None:
        owned = [(self.trial_ids[one.member.trial], one) for one in epochs]
        self._connection.executemany(
            "INSERT INTO manyfit_epochs (trial_id, replica, epoch, seconds, metrics) VALUES (?, ?, ?, ?, ?)",
            [rows.epoch(one, trial_id) for trial_id, one in owned],
        )
        self._connection.executemany(
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
            "VALUES (?, ?, ?, 'FINITE')",
            [(trial_id, one.epoch, one.value) for trial_id, one in owned if one.value is not None],
        )

    def _update_trial(self, state: TrialState) -> None:
        trial_id = self.trial_ids[state.number]
        self._connection.execute(
            "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?",
            (state.state, rows.moment(state.ended_at), trial_id),
        )
        if not state.is_ended:
            return
        if state.value is not None:
            self._connection.execute(
                "INSERT OR REPLACE INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')",
                (trial_id, state.value),
            )
        _set_attrs(self._connection, "trial_user_attributes", trial_id, rows.shown_attrs(state))
        _set_attrs(self._connection, "trial_system_attributes", trial_id, state.attrs)


def _set_attrs(connection: sqlite3.Connection, table: str, owner_id: int, attrs: Mapping[str, Any]) -> None:
    """Set attributes of a study or of a trial; the table is one of Optuna's, named after its owner."""
    owner = f"{table.partition('_')[0]}_id"
    connection.executemany(
        f"INSERT INTO {table} ({owner}, key, value_json) VALUES (?, ?, ?) "  # noqa: S608 (names are ours)
        f"ON CONFLICT ({owner}, key) DO UPDATE SET value_json = excluded.value_json",
        [(owner_id, key, json.dumps(value)) for key, value in attrs.items()],
    )
