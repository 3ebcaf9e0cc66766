"""The only writer of a study: lock, recovery, one transaction per commit.

It writes Optuna's tables directly (their schema is pinned in `schema`), because Optuna's own storage costs 58 ms a trial of
20 epochs where this costs one or two transactions.
"""

from __future__ import annotations

import shlex
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from search.errors import DamagedError, StoreError
from search.failpoints import failpoint
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.storage import backup, checks, connecting, leftovers, records, rows, schema, studies
from search.storage.advice import advice, advising, check_gone
from search.storage.holding import Hold, hold
from search.storage.paths import backup_of
from search.storage.presence import Presence, check_other_names
from search.storage.studies import Stored
from search.storage.writing import Transaction, Writer, insert_study
from search.trials.events import Noted
from search.trials.history import Commit, HistoryEvent
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
        self.seconds = 0.0
        self.commits = 0
        self._lock, self._connection, self._interruption = lock, connection, interruption
        self._writer = Writer(connection, path, self.study_id, space)
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
        (self._epochs,) = connection.execute(_COUNT_EPOCHS, (self.study_id,)).fetchone()
        # The backup must not bring back deleted studies. If it can't be written now, count it as due.
        if had_leftovers and backup_of(path).exists() and backup.make(connection, path):
            self._not_backed_up += 1

    @classmethod
    def open(cls, path: Path, name: str, *, interruption: Callable[[], int] = lambda: 0) -> Store:
        """Open the study `name` for writing; StoreError if it is missing, damaged, in use or has another program's trials.

        Whenever the store waits for another program it calls `interruption`, and raises Interrupted soon after that has
        returned the number of a signal.
        """

        def find(connection: sqlite3.Connection) -> tuple[int, Space]:
            return studies.check_trials(connection, path, name)

        return cls._open(path, name, find, interruption)

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

        def insert(connection: sqlite3.Connection) -> tuple[int, Space]:
            if studies.holds(connection, file.storage, file.name):
                raise StoreError(f"{file.storage} has a study {file.name!r} already; give another --name")
            with Transaction(connection, file.storage, interruption):
                return insert_study(connection, file, record), file.space

        return cls._open(file.storage, file.name, insert, interruption, may_create=True)

    @classmethod
    @advising()
    def _open(
        cls,
        path: Path,
        name: str,
        study: Callable[[sqlite3.Connection], tuple[int, Space]],
        interruption: Callable[[], int],
        *,
        may_create: bool = False,
    ) -> Store:
        """Lock and check a database, and open the study whose id and space `study` returns for the connection."""
        with ExitStack() as opened:
            lock = opened.enter_context(hold(path))
            check_other_names(path)
            if may_create and not path.exists():
                check_gone(path)
                schema.create(path)
                lock.take_file()
            _check_rows(path, interruption)
            connection = opened.enter_context(
                closing(connecting.connect(path, readonly=False, interruption=interruption))
            )
            had_leftovers = leftovers.are_there(connection)
            if had_leftovers:
                with Transaction(connection, path, interruption):
                    leftovers.drop(connection)
            study_id, space = study(connection)
            store = cls(path, lock, connection, (study_id, name), space, interruption, had_leftovers=had_leftovers)
            opened.pop_all()
            return store

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
        with suppress(sqlite3.Error), closing(connecting.reader(self.path)):
            self._connection.close()

    def load(self) -> Stored:
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
        try:
            with self._transaction():
                self._check_rows(self._connection)
                self._writer.write(commit)
        except BaseException:
            self._writer.forget(trial.number for trial in commit.started)
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

    @advising()
    def check(self) -> None:
        """Check that the database is still the one that was opened; StoreError, with what to do, if it is not."""
        if not self._presence.check():
            return
        # Either SQLite copied the -wal into the file, or another program wrote over the file. A full check shows which.
        try:
            with closing(connecting.connect(self.path, readonly=True)) as connection:
                self._check_content(connection)
        except (StoreError, sqlite3.DatabaseError) as error:
            # The -wal may not belong to the file any more: no backup may be made of the two.
            self._is_damaged = True
            if not connecting.is_damage(error):
                raise StoreError(f"{self.path} can't be read: {error}; mend the cause, repeat the command") from None
            if isinstance(error, sqlite3.DatabaseError):
                raise self._overwritten(f"{error}") from None
            raise
        self._presence.accept()

    def _check_content(self, connection: sqlite3.Connection) -> None:
        connecting.check_whole(connection, self.path, indexes=True)
        self._check_rows(connection)
        (epochs,) = connection.execute(_COUNT_EPOCHS, (self.study_id,)).fetchone()
        (trials,) = connection.execute(
            "SELECT count(*) FROM trials WHERE study_id = ? AND trial_id <= ?", (self.study_id, self._writer.last_id)
        ).fetchone()
        for what, stored, present in (
            ("epochs", self._epochs, epochs),
            ("trials", len(self._writer.trial_ids), trials),
        ):
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
        if trials < (stored := len(self._writer.trial_ids)):
            raise self._overwritten(f"{stored} trials were stored, and {trials} are there")

    def _new_name(self, connection: sqlite3.Connection) -> str:
        """Return the name that another program has given to the study, or "" if the study is gone."""
        rows_by_name = leftovers.rows_by_name(connection)
        return next((name for name, row in rows_by_name.items() if row == self._row), "")

    def _overwritten(self, what: str) -> StoreError:
        return StoreError(
            f"{self.path}: another program has deleted trials or written over the file while this command worked on it: "
            f"{what}; `manyfit verify {self.path}` prints what is wrong; {advice(self.path)}"
        )

    @advising()
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

    def _transaction(self) -> Transaction:
        return Transaction(self._connection, self.path, self._interruption)

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
        with self._transaction():
            self._check_rows(self._connection)
            self._writer.update_settings(file, identity, resolved)
            self._row = leftovers.rows_by_name(self._connection)[self.name]
            if anew is not None:
                self._writer.delete_trials()
                self._writer.insert_events([HistoryEvent("builder mended", dict(anew), datetime.now(UTC))])
        if anew is not None:
            self._writer.forget([*self._writer.trial_ids])
            self._not_backed_up += 1  # else the backup would bring them back


def _check_rows(path: Path, interruption: Callable[[], int]) -> None:
    """Check the rows of all studies on a read-only connection, which leaves a damaged file as it is."""
    with closing(connecting.connect(path, readonly=True, interruption=interruption)) as connection:
        try:
            checks.check_rows(connection, path)
        except (sqlite3.Error, MemoryError) as error:
            raise StoreError(
                f"{path} can't be read: {connecting.cause(error)}; it was left as it is: mend the cause, repeat the command"
            ) from None
