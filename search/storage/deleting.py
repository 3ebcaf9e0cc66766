"""`manyfit delete`: remove a study, its rows and its files, so that no backup brings it back."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from search.errors import DamagedError, StoreError
from search.failpoints import failpoint
from search.spec import keras_callbacks
from search.storage import backup, connecting, leftovers, studies, upkeep
from search.storage.advice import advising
from search.storage.holding import hold
from search.storage.paths import backup_of, lock_of, remove
from search.trials.files import StudyFiles, size_of


@dataclass(frozen=True)
class Deletion:
    """What deleting a study removes.

    Attributes:
        trials: its number of trials, in any state.
        files: the files beside the database: weights, checkpoints, best.json, log; a folder counts as one.
        bytes: the size of these files, and of the database and its backup if they are removed, too.
        with_database: whether the database holds no other study, so that it is removed with its backup.
        confirmation: the study that confirms it, which is removed first; "" if there is none.
    """

    path: Path
    name: str
    trials: int
    files: list[Path]
    bytes: int
    with_database: bool
    confirmation: str = ""


@advising()
def plan_deletion(path: Path, name: str) -> Deletion:
    """Return what `delete` would remove; StoreError if there is no such study, or if manyfit did not make it."""
    with closing(connecting.connect(path, readonly=True)) as connection:
        return _plan(connection, path, name)


@advising()
def delete(path: Path, name: str) -> Deletion:
    """Delete the rows and files of a study; return what was removed.

    The backup is removed first, or rewritten without the study, so that `verify --restore` never brings the study back. After
    a kill at any moment, the same call completes the deletion. StoreError while another process holds the database.
    """
    if confirmation := plan_deletion(path, name).confirmation:
        _delete(path, confirmation)
    return _delete(path, name)


def _delete(path: Path, name: str) -> Deletion:
    with hold(path):
        connection = connecting.connect(path, readonly=False)
        try:
            deletion = _plan(connection, path, name)
            if deletion.with_database:
                remove(backup_of(path))
            elif backup_of(path).exists() and (why := _leave_out_of_backup(connection, path, name)):
                raise StoreError(f"{name!r} was not deleted, for the backup would bring it back: {why}")
            _delete_all(connection, deletion)
        finally:
            failpoint("before the -wal of a smaller database is given up")
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.close()
        if deletion.with_database:
            remove(path)
            # Two processes can't hold the lock even now: filelock compares inodes, and `hold` also locks the database file.
            lock_of(path).unlink(missing_ok=True)
    return deletion


def _leave_out_of_backup(connection: sqlite3.Connection, path: Path, name: str) -> str:
    """Write a backup without a study; return why that failed, or ""."""
    try:
        with advising():
            return backup.make(connection, path, without=name)
    except DamagedError as error:  # another study of the database is damaged
        return str(error)


def _plan(connection: sqlite3.Connection, path: Path, name: str) -> Deletion:
    study_id = studies.id_of(connection, path, name, cure="`optuna delete-study` deletes it")
    names = [study for (study,) in connection.execute("SELECT study_name FROM studies")]
    (trials,) = connection.execute("SELECT count(*) FROM trials WHERE study_id = ?", (study_id,)).fetchone()
    confirmation = studies.confirming(connection, name)
    with_database = {*names} <= {name, confirmation}
    files = [file for one in filter(None, (name, confirmation)) for file in StudyFiles(path, one).all()]
    files = [file for file in files if file.exists() or file.is_symlink()]
    removed = [*files, *([path, backup_of(path)] if with_database else [])]
    return Deletion(path, name, trials, files, sum(map(size_of, removed)), with_database, confirmation)


def _delete_all(connection: sqlite3.Connection, deletion: Deletion) -> None:
    """Delete files within the transaction that deletes the rows: until it commits, the same command can be repeated."""
    try:
        connecting.run_waiting(connection, "BEGIN IMMEDIATE")
        row = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (deletion.name,)).fetchone()
        leftovers.delete_study(connection, row["study_id"])
        leftovers.drop(connection)
        failpoint("before the files of a study are deleted")
        for file in deletion.files:
            if file.is_dir() and not file.is_symlink():
                # Only what manyfit has written there.
                files = StudyFiles(deletion.path, deletion.name)
                upkeep.delete_of_callbacks(files, keras_callbacks.FILES)
                upkeep.tidy(files, [], [])
            else:
                with suppress(OSError):
                    file.unlink()
        failpoint("after the files of a study are deleted")
        connection.execute("COMMIT")
        failpoint("after the rows of a study are deleted")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise StoreError(f"{deletion.path} can't be written: {error}; {deletion.name!r} is still in it") from None
    # Shrink the file if possible. If not, the next trials use its free pages.
    with suppress(sqlite3.Error):
        connection.execute("VACUUM")
