"""`manyfit delete`: a study goes, with its rows and its files, and no backup brings it back."""

from __future__ import annotations

import glob
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from search.engines import checkpoints
from search.errors import StoreError
from search.failpoints import failpoint
from search.spec.study import beside
from search.storage import backup, leftovers, schema
from search.storage.holding import hold


@dataclass(frozen=True)
class Doomed:
    """What deleting a study deletes.

    Attributes:
        trials: how many it has, whatever became of them.
        files: beside the database: weights, checkpoints, best.json, log; folders as one.
        bytes: of these files, and of the database if that goes, too.
        with_database: whether no other study is in the database, so that it goes with its backup.
    """

    path: Path
    name: str
    trials: int
    files: list[Path]
    bytes: int
    with_database: bool


def look(path: Path, name: str) -> Doomed:
    """Return what `delete` would delete; StoreError if there is no such study, or it is not manyfit's."""
    with closing(schema.connect(path, readonly=True)) as connection:
        return _look(connection, path, name)


def delete(path: Path, name: str) -> Doomed:
    """Delete a study from its database and its files; return what is gone.

    The backup goes first, or is made anew without the study: repeated after a kill at any moment, the command ends what it
    began, and `verify --restore` never brings the study back. StoreError while another process holds the database.
    """
    with hold(path):
        connection = schema.connect(path, readonly=False)
        try:
            doomed = _look(connection, path, name)
            if doomed.with_database:
                schema.remove(schema.backup_of(path))
            elif schema.backup_of(path).exists() and (why := backup.make(connection, path, without=name)):
                raise StoreError(f"{name!r} was not deleted, for the backup would bring it back: {why}")
            _delete_all(connection, doomed)
        finally:
            failpoint("before the -wal of a smaller database is given up")
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.close()
        if doomed.with_database:
            schema.remove(path)
            # The lock of the file itself, and filelock's look at the inode, keep two from holding what is unlinked.
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    return doomed


def _look(connection: sqlite3.Connection, path: Path, name: str) -> Doomed:
    row = connection.execute(
        f"SELECT study_id FROM {leftovers.OUR_STUDIES} WHERE study_name = ?",  # noqa: S608
        (name,),
    ).fetchone()
    names = [found for (found,) in connection.execute("SELECT study_name FROM studies ORDER BY study_id")]
    if row is None and name in names:
        raise StoreError(f"{path} has a study {name!r} that manyfit did not make; `optuna delete-study` deletes it")
    if row is None:
        raise StoreError(f"{path} has no study {name!r}; it has {', '.join(names) or 'none'}")
    (trials,) = connection.execute("SELECT count(*) FROM trials WHERE study_id = ?", tuple(row)).fetchone()
    with_database = names == [name]
    files = [found for found in _files(path, name) if found.exists() or found.is_symlink()]
    counted = [*files, *([path, schema.backup_of(path)] if with_database else [])]
    return Doomed(path, name, trials, files, sum(map(_size, counted)), with_database)


def _files(path: Path, name: str) -> list[Path]:
    log, best = (beside(path, name, suffix) for suffix in (".log", ".best.json"))
    halves = path.parent.glob(f".{glob.escape(best.name)}.[0-9]*.partial")
    return [beside(path, name, ".files"), best, log, log.with_name(f"{log.name}.1"), *sorted(halves)]


def _size(path: Path) -> int:
    with suppress(OSError):
        return checkpoints.used(path) if path.is_dir() else path.stat().st_size
    return 0


def _delete_all(connection: sqlite3.Connection, doomed: Doomed) -> None:
    """Delete rows and files in one transaction: as long as it is not committed, the study is there to be deleted again."""
    try:
        schema.waiting(connection, "BEGIN IMMEDIATE")
        (study_id,) = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (doomed.name,)).fetchone()
        leftovers.delete_study(connection, study_id)
        leftovers.drop(connection)
        failpoint("before the files of a study are deleted")
        for file in doomed.files:
            _remove(file)
        failpoint("after the files of a study are deleted")
        connection.execute("COMMIT")
        failpoint("after the rows of a study are deleted")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise StoreError(f"{doomed.path} can't be written: {error}; {doomed.name!r} is still in it") from None
    # The room that the rows took is given back where that is possible; where not, the next trials use it.
    with suppress(sqlite3.Error):
        connection.execute("VACUUM")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
