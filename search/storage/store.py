"""The only writer of a study: lock, recovery, one transaction per commit.

Writes Optuna's tables directly (their schema is pinned in `schema`), because Optuna's own storage costs 58 ms a trial of 20
epochs where this costs one or two transactions.
"""

from __future__ import annotations

import json
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from search.errors import DamagedError, StoreError
from search.failpoints import failpoint
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.storage import backup, checks, leftovers, records, rows, schema
from search.storage.holding import Hold, hold
from search.storage.presence import Presence, check_other_names
from search.trials.events import Noted
from search.trials.history import Commit, Epoch, HistoryEvent, TrialStart, TrialState
from spaces import Space

# A damaged disk may cost a minute of work. A backup is written at most this often, and takes at most a hundredth of the time:
# copying and checking the 32 MB of 10,000 trials of 20 epochs takes 3 s, and the time grows with the size. Where the last
# backup of this command took longer than its size says, as on a busy machine, its duration counts.
BACKUP_EVERY_S = 60.0
BACKUP_SHARE = 0.01
BACKUP_BYTES_PER_S = 1e7

# A command that ends, perhaps by Ctrl-C, waits at most this long for its last backup.
LAST_BACKUP_S = 20.0


_COUNT_EPOCHS = "SELECT count(*) FROM manyfit_epochs JOIN trials USING (trial_id) WHERE study_id = ?"
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


class Store:
    """An open study in its database, held by this process alone. A context manager; leaving it releases the lock."""

    def __init__(
        self,
        path: Path,
        lock: Hold,
        connection: sqlite3.Connection,
        study: tuple[int, str],
        space: Space,
        interruption: Callable[[], int],
        *,
        had_leftovers: bool,
    ) -> None:
        self.path = path
        self.study_id, self.name = study
        study_id = self.study_id
        self.seconds = 0.0
        self.commits = 0
        self._space = space
        self._lock, self._connection, self._interruption = lock, connection, interruption
        trials = connection.execute("SELECT number, trial_id FROM trials WHERE study_id = ?", (study_id,))
        self._trial_ids: dict[int, int] = {row["number"]: row["trial_id"] for row in trials}
        self._last_id = max(self._trial_ids.values(), default=0)
        self._backed_up = time.monotonic()
        # How long the last backup took; 0 before the first. A busy machine takes longer than the size of the file says.
        self._last_backup_s = 0.0
        # The number of trials and epochs that the backup lacks. Count them here: a kill may have prevented the last backup,
        # and a study that is done would never get one.
        (self._not_backed_up,) = connection.execute(
            "SELECT count(*) FROM trials WHERE coalesce(datetime_complete, '9') > ?",
            (rows.moment(backup.moment(path)) or "",),
        ).fetchone()
        # What identifies the study, even if another program renames it.
        self._row = leftovers.rows_by_name(connection)[self.name]
        self._backup_problem = ""
        self._is_damaged = False
        self._presence = Presence(lock, connection)
        (self._epochs,) = connection.execute(_COUNT_EPOCHS, (study_id,)).fetchone()
        # The backup must not bring back deleted studies. If it can't be written now, count it as due.
        if had_leftovers and schema.backup_of(path).exists() and backup.make(connection, path):
            self._not_backed_up += 1

    @classmethod
    def open(cls, path: Path, name: str, *, interruption: Callable[[], int] = lambda: 0) -> Store:
        """Open the study `name` for writing; StoreError if it is missing, damaged, in use or has another program's trials.

        Whenever the store waits for another program it calls `interruption`, and raises Interrupted soon after that has
        returned the number of a signal.
        """
        lock = hold(path)
        try:
            check_other_names(path)
            _check_rows(path, interruption)
            connection = schema.connect(path, readonly=False, interruption=interruption)
            try:
                had_leftovers = _drop_leftovers(connection, path, interruption)
                study_id, space = records.check_trials(connection, path, name)
                return cls(path, lock, connection, (study_id, name), space, interruption, had_leftovers=had_leftovers)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise

    @classmethod
    def exists(cls, file: StudyFile) -> bool:
        """Return whether the study that `file` describes exists; StoreError if its storage is not a database of ours."""
        return records.exists(file.storage, file.name)

    @classmethod
    def of(cls, file: StudyFile, *, interruption: Callable[[], int] = lambda: 0) -> Store:
        """Open the study that `file` describes, in the database that `file` names."""
        return cls.open(file.storage, file.name, interruption=interruption)

    @classmethod
    def create(cls, file: StudyFile, record: Record, *, interruption: Callable[[], int] = lambda: 0) -> Store:
        """Create a study, and its database if that does not exist; a failure leaves no half of either behind."""
        path = file.storage
        lock = hold(path)
        try:
            check_other_names(path)
            if not path.exists():
                schema.create(path)
                lock.take_file()
            _check_rows(path, interruption)
            connection = schema.connect(path, readonly=False, interruption=interruption)
            try:
                had_leftovers = _drop_leftovers(connection, path, interruption)
                study = _insert_study(connection, file, record, interruption), file.name
                return cls(path, lock, connection, study, file.space, interruption, had_leftovers=had_leftovers)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and release the lock; safe to call twice."""
        if self._is_damaged:
            self._close_without_checkpoint()
        with suppress(sqlite3.Error):
            # Later readers then leave no -wal and -shm beside the database. Fails harmlessly while another program reads.
            failpoint("before the -wal is given up")
            self._connection.execute("PRAGMA journal_mode = DELETE")
            failpoint("after the -wal is given up")
        with suppress(sqlite3.Error):
            self._connection.close()
        self._lock.release()

    def _close_without_checkpoint(self) -> None:
        """Close the connection while another is open: only the last one to close copies the -wal into the database."""
        with suppress(sqlite3.Error), closing(schema.reader(self.path)):
            self._connection.close()

    def load(self) -> records.Stored:
        """Read the study; StoreError if the database is no longer the one that was opened."""
        stored = records.load(self.path, self.name)
        self.check()  # after the load, which may have read another file
        return stored

    def append(self, commit: Commit) -> Sequence[Noted]:
        """Write a commit in one transaction; return an event if a backup was due and failed.

        StoreError if the commit can't be written; the database then holds all earlier commits and nothing of this one.
        """
        began = time.perf_counter()
        self.check()
        last_id = self._last_id
        try:
            with self._transaction() as connection:
                self._check_rows(connection)
                self._write(connection, commit)
        except BaseException:
            # The trials of a transaction that was rolled back have no rows.
            self._last_id = last_id
            for trial in commit.started:
                self._trial_ids.pop(trial.number, None)
            raise
        self.commits += 1
        self._epochs += len(commit.epochs)
        self._not_backed_up += len(commit.epochs) + len(commit.states)
        noted: list[Noted] = []
        waited_s = time.monotonic() - self._backed_up
        if self._not_backed_up and waited_s >= max(BACKUP_EVERY_S, self._backup_takes_s() / BACKUP_SHARE):
            problem = self.back_up()
            if problem and problem != self._backup_problem:
                noted.append(Noted("backup failed", {"why": problem}))
            self._backup_problem = problem
        self.seconds += time.perf_counter() - began
        return noted

    def check(self) -> None:
        """Check that the database is still the one that was opened; StoreError, with what to do, if it is not."""
        if not self._presence.check():
            return
        # Either SQLite copied the -wal into the file, or another program wrote over the file. A full check shows which.
        try:
            with closing(schema.connect(self.path, readonly=True)) as connection:
                self._check_content(connection)
        except (StoreError, sqlite3.DatabaseError) as error:
            # The -wal may not belong to the file any more: no backup may be made of the two.
            self._is_damaged = True
            if not schema.is_damage(error):
                raise StoreError(f"{self.path} can't be read: {error}; mend the cause, repeat the command") from None
            if isinstance(error, sqlite3.DatabaseError):
                raise self._overwritten(f"{error}") from None
            raise
        self._presence.accept()

    def _check_content(self, connection: sqlite3.Connection) -> None:
        schema.check_whole(connection, self.path, indexes=True)
        self._check_rows(connection)
        (epochs,) = connection.execute(_COUNT_EPOCHS, (self.study_id,)).fetchone()
        (trials,) = connection.execute(
            "SELECT count(*) FROM trials WHERE study_id = ? AND trial_id <= ?", (self.study_id, self._last_id)
        ).fetchone()
        for what, stored, present in (("epochs", self._epochs, epochs), ("trials", len(self._trial_ids), trials)):
            if stored != present:
                raise self._overwritten(f"{stored} {what} were stored, and {present} are there")
        if orphans := leftovers.orphans(connection):
            raise self._overwritten(f"{len(orphans)} rows belong to nothing, the first of them in {orphans[0][0]}")

    def _check_rows(self, connection: sqlite3.Connection) -> None:
        """Check that the study and its trials still exist: another program may have deleted them."""
        names = connection.execute(
            f"SELECT study_name FROM {leftovers.OUR_STUDIES} WHERE study_id = ?",  # noqa: S608
            (self.study_id,),
        ).fetchall()
        if [name for (name,) in names] != [self.name]:
            if new_name := self._new_name(connection):
                back = f"UPDATE studies SET study_name = '{self.name}' WHERE study_id = {self.study_id}"  # noqa: S608 (a name has no quotes)
                raise StoreError(
                    f"{self.path}: study {self.name!r} was renamed to {new_name!r} while this command worked on it; all "
                    f"trials so far are in it: rename it back by `{shlex.join(['sqlite3', str(self.path), back])}`, then "
                    "repeat the command"
                )
            raise StoreError(
                f"{self.path} has no study {self.name!r} any more: another program deleted it, or wrote over the file, while "
                "this command worked on it; the same command begins the study anew"
            )
        (trials,) = connection.execute("SELECT count(*) FROM trials WHERE study_id = ?", (self.study_id,)).fetchone()
        if trials < len(self._trial_ids):
            raise self._overwritten(f"{len(self._trial_ids)} trials were stored, and {trials} are there")

    def _new_name(self, connection: sqlite3.Connection) -> str:
        """Return the name that another program has given to the study, or "" if the study is gone."""
        rows_by_name = leftovers.rows_by_name(connection)
        return next((name for name, row in rows_by_name.items() if row == self._row), "")

    def _overwritten(self, what: str) -> StoreError:
        return StoreError(
            f"{self.path}: another program has deleted trials or written over the file while this command worked on it: "
            f"{what}; `manyfit verify {self.path}` tells what is wrong; {schema.advice(self.path)}"
        )

    def back_up(self) -> str:
        """Write the backup if anything is new since the last one; return why that failed, or "".

        Only a sound copy with all that this store has written replaces the last backup; StoreError if the database is damaged
        or another program has deleted rows.
        """
        if not self._not_backed_up or self._backup_takes_s() > max(
            LAST_BACKUP_S, BACKUP_SHARE * (time.monotonic() - self._backed_up)
        ):
            return ""
        self.check()
        began = time.monotonic()
        try:
            problem = backup.make(self._connection, self.path, check=self._check_content)
        except DamagedError:
            self._is_damaged = True
            raise
        self._backed_up = time.monotonic()
        self._last_backup_s = self._backed_up - began
        if not problem:
            self._not_backed_up = 0
        return problem

    def _backup_takes_s(self) -> float:
        return max(self._lock.size / BACKUP_BYTES_PER_S, self._last_backup_s)

    def _write(self, connection: sqlite3.Connection, commit: Commit) -> None:
        for trial in commit.started:
            self._insert_trial(connection, trial)
        self._insert_epochs(connection, commit.epochs)
        for state in commit.states:
            self._update_trial(connection, state)
        for key, value in commit.study_attrs.items():
            _set_attr(connection, "study_system_attributes", "study_id", self.study_id, key, value)
        self._insert_events(connection, commit.events)
        connection.execute(
            "UPDATE manyfit_studies SET seconds = ?, spent = ?, ended = ? WHERE study_id = ?",
            (commit.seconds, json.dumps(commit.spent), commit.ended, self.study_id),
        )

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection, self.path, self._interruption)

    def renew(
        self,
        file: StudyFile,
        identity: Mapping[str, Any] | None = None,
        resolved: Mapping[str, Any] | None = None,
        *,
        anew: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the settings to resume with: the budget may have changed, or a broken builder may have been mended.

        With `anew`, the detail of the event to record, also delete all trials, none of which was trained. StoreError if the
        database is no longer the one that was opened or, with `anew`, if another program has added a trial.
        """
        self.check()
        with self._transaction() as connection:
            self._check_rows(connection)
            connection.execute(
                "UPDATE manyfit_studies SET settings = ?, identity = coalesce(?, identity), resolved = coalesce(?, resolved) "
                "WHERE study_id = ?",
                (
                    file.settings.model_dump_json(),
                    identity and json.dumps(identity),
                    resolved and json.dumps(resolved),
                    self.study_id,
                ),
            )
            self._row = leftovers.rows_by_name(connection)[self.name]
            if anew is not None:
                self._delete_trials(connection)
                self._insert_events(connection, [HistoryEvent("builder mended", dict(anew), datetime.now(UTC))])
        if anew is not None:
            self._trial_ids.clear()
            self._last_id = 0
            self._not_backed_up += 1  # else the backup would bring them back

    def _delete_trials(self, connection: sqlite3.Connection) -> None:
        """Delete all trials of the study, none of which was trained, and the attributes that its sampler keeps."""
        trained = connection.execute(
            "SELECT 1 FROM manyfit_epochs JOIN trials USING (trial_id) WHERE study_id = ?", (self.study_id,)
        ).fetchone()
        assert trained is None  # noqa: S101 (no epoch is ever deleted)
        trials = connection.execute(
            "SELECT trial_id, number FROM trials WHERE study_id = ?", (self.study_id,)
        ).fetchall()
        if foreign := [row for row in trials if row[0] not in self._trial_ids.values()]:
            raise records.foreign_trials_error(self.path, dict(foreign))
        for table in _OF_TRIALS:
            connection.execute(
                f"DELETE FROM {table} WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)",  # noqa: S608
                (self.study_id,),
            )
        connection.execute(
            "DELETE FROM study_system_attributes WHERE study_id = ? AND key NOT LIKE 'dashboard:%' "
            "AND key != 'study:metric_names'",
            (self.study_id,),
        )

    def _insert_trial(self, connection: sqlite3.Connection, trial: TrialStart) -> None:
        # Optuna numbers trials by counting, so a trial of another program would have the number of this one.
        foreign = connection.execute(
            "SELECT trial_id, number FROM trials WHERE study_id = ? AND trial_id > ? ORDER BY trial_id",
            (self.study_id, self._last_id),
        ).fetchall()
        if foreign:
            raise records.foreign_trials_error(self.path, dict(foreign))
        cursor = connection.execute(
            "INSERT INTO trials (number, study_id, state, datetime_start) VALUES (?, ?, 'RUNNING', ?)",
            (trial.number, self.study_id, rows.moment(trial.at)),
        )
        trial_id = cursor.lastrowid
        assert trial_id is not None  # noqa: S101 (an INSERT has a row)
        self._trial_ids[trial.number] = self._last_id = trial_id
        # SQLite reuses the id of a deleted trial, and Optuna deletes a study without our rows.
        connection.execute("DELETE FROM manyfit_epochs WHERE trial_id = ?", (trial_id,))
        connection.executemany(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
            [(trial_id, *row) for row in rows.param_rows(trial.params, self._space)],
        )
        _set_attrs(connection, "trial_system_attributes", trial_id, trial.attrs)

    def _insert_events(self, connection: sqlite3.Connection, events: Iterable[HistoryEvent]) -> None:
        connection.executemany(
            "INSERT INTO manyfit_events (study_id, at, kind, detail) VALUES (?, ?, ?, ?)",
            [rows.event(event, self.study_id) for event in events],
        )

    def _insert_epochs(self, connection: sqlite3.Connection, epochs: Sequence[Epoch]) -> None:
        owned = [(self._trial_ids[one.member.trial], one) for one in epochs]
        connection.executemany(
            "INSERT INTO manyfit_epochs (trial_id, replica, epoch, seconds, metrics) VALUES (?, ?, ?, ?, ?)",
            [rows.epoch(one, trial_id) for trial_id, one in owned],
        )
        connection.executemany(
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
            "VALUES (?, ?, ?, 'FINITE')",
            [(trial_id, one.epoch, one.value) for trial_id, one in owned if one.value is not None],
        )

    def _update_trial(self, connection: sqlite3.Connection, state: TrialState) -> None:
        trial_id = self._trial_ids[state.number]
        connection.execute(
            "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?",
            (state.state, rows.moment(state.ended_at), trial_id),
        )
        if not state.is_ended:
            return
        if state.value is not None:
            connection.execute(
                "INSERT OR REPLACE INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')",
                (trial_id, state.value),
            )
        _set_attrs(connection, "trial_user_attributes", trial_id, rows.shown_attrs(state))
        _set_attrs(connection, "trial_system_attributes", trial_id, state.attrs)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT as a context manager; it waits in short steps, so that signals get through."""

    def __init__(self, connection: sqlite3.Connection, path: Path, interruption: Callable[[], int]) -> None:
        self._connection, self._path, self._interruption = connection, path, interruption

    def __enter__(self) -> sqlite3.Connection:
        try:
            schema.run_waiting(self._connection, "BEGIN IMMEDIATE", self._interruption)
        except sqlite3.OperationalError as error:
            raise _unwritable(self._path, error) from None
        return self._connection

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
        what = f"another program has held it locked for {schema.BUSY_FOR_S:.0f} s"
    elif "I/O" in what:
        # SQLite reports a file at its size limit as an I/O error, like a broken disk.
        what = f"{what} (a full disk, or a limit on the size of files?)"
    return StoreError(
        f"{path} can't be written: {what}; all earlier trials are in it: mend the cause, repeat the command"
    )


def _check_rows(path: Path, interruption: Callable[[], int]) -> None:
    """Check the rows of all studies on a read-only connection, which leaves a damaged file as it is."""
    with closing(schema.connect(path, readonly=True, interruption=interruption)) as connection:
        try:
            checks.check_rows(connection, path)
        except (sqlite3.Error, MemoryError) as error:
            raise StoreError(
                f"{path} can't be read: {schema.cause(error)}; it was left as it is: mend the cause, repeat the command"
            ) from None


def _drop_leftovers(connection: sqlite3.Connection, path: Path, interruption: Callable[[], int]) -> bool:
    """Delete the leftovers of studies that another program has deleted; return whether there were any."""
    if not leftovers.are_there(connection):
        return False
    with _Transaction(connection, path, interruption):
        leftovers.drop(connection)
    return True


def _insert_study(
    connection: sqlite3.Connection, file: StudyFile, record: Record, interruption: Callable[[], int]
) -> int:
    if records.holds(connection, file.storage, file.name):
        raise StoreError(f"{file.storage} has a study {file.name!r} already; give another --name")
    with _Transaction(connection, file.storage, interruption):
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
        attrs = {"study:metric_names": [file.settings.study.objective], **rows.note_attrs(record.note)}
        for key, value in attrs.items():
            _set_attr(connection, "study_system_attributes", "study_id", study_id, key, value)
    return study_id


def _set_attrs(connection: sqlite3.Connection, table: str, trial_id: int, attrs: Mapping[str, Any]) -> None:
    for key, value in attrs.items():
        _set_attr(connection, table, "trial_id", trial_id, key, value)


def _set_attr(connection: sqlite3.Connection, table: str, owner: str, owner_id: int, key: str, value: Any) -> None:
    connection.execute(
        f"INSERT INTO {table} ({owner}, key, value_json) VALUES (?, ?, ?) "  # noqa: S608 (names are ours)
        f"ON CONFLICT ({owner}, key) DO UPDATE SET value_json = excluded.value_json",
        (owner_id, key, json.dumps(value)),
    )
