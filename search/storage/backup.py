"""The backup beside a database: made while a study runs, brought back when the database is damaged.

There is one backup, NAME.db.backup. Only a copy whose pages and rows are sound replaces it.
"""

from __future__ import annotations

import glob
import shutil
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from search import durable
from search.errors import StoreError
from search.failpoints import failpoint
from search.storage import checks, connecting, leftovers
from search.storage.paths import backup_of, partial_of, remove

Ended = set[tuple[str, int]]
"""Trials that have ended: (study, number)."""


@dataclass(frozen=True)
class Backup:
    """A sound backup of a known schema: its path, when it was made, and the trials that had ended."""

    path: Path
    at: datetime
    ended: Ended


@dataclass(frozen=True)
class Restored:
    """What `restore` did.

    Attributes:
        kept: where the damaged database is now; None if there was none.
        lost: trials that had ended in the damaged database and are not in the backup; None if that can't be read.
        left_out: studies of the backup that were not restored, because they had been deleted since.
    """

    backup: Backup
    kept: Path | None
    lost: Ended | None
    left_out: tuple[str, ...] = ()


def make(
    connection: sqlite3.Connection,
    path: Path,
    *,
    without: str | None = None,
    check: Callable[[sqlite3.Connection], None] = lambda _: None,
) -> str:
    """Copy the database of `connection` to its backup; return why that failed (the old backup stays), or "".

    If `without` names a study that is about to be deleted, the copy has neither that study nor rows of deleted ones.
    Raises DamagedError if the copy shows that the database is damaged, or what `check` raises for the copy; the old backup
    stays then, too. Other programs may read and write meanwhile.
    """
    partial = partial_of(backup_of(path))
    try:
        remove(partial)
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            failpoint("before the backup is copied")
            connection.backup(copy)
            # In this mode the database is one file, without a -wal.
            copy.execute("PRAGMA journal_mode = DELETE")
            if without is not None:
                _leave_out(copy, [without])
            connecting.check_whole(copy, path)
            check(copy)
            copy.row_factory = sqlite3.Row
            checks.check_rows(copy, path)
        durable.replace(partial, backup_of(path))
    except (OSError, sqlite3.Error, MemoryError) as error:
        return f"{backup_of(path)} can't be written: {connecting.cause(error)}"
    finally:
        with suppress(OSError):
            remove(partial)
    return ""


def moment(path: Path) -> datetime | None:
    """Return when the backup of a database was made, or None without one."""
    with suppress(OSError):
        return datetime.fromtimestamp(backup_of(path).stat().st_mtime, UTC)
    return None


def find(path: Path) -> Backup | None:
    """Return the backup of a database, or None without one; StoreError if its pages or rows are damaged."""
    backup, at = backup_of(path), moment(path)
    if at is None:
        return None
    try:
        with closing(connecting.connect(backup, readonly=True)) as connection:
            connecting.check_whole(connection, backup)
            checks.check_rows(connection, backup)
            ended = _ended(connection)
        return Backup(backup, at, ended)
    except (OSError, sqlite3.Error, MemoryError) as error:
        raise StoreError(f"{backup} can't be read: {connecting.cause(error)}; it was left as it is") from None


def restore(path: Path, *, deleted: Collection[str] = ()) -> Restored:
    """Replace a database by its backup and keep the damaged one beside it; the caller holds the lock on `path`.

    The studies in `deleted` are left out. The backup file stays. StoreError if there is no backup, if it is damaged, or if
    files can't be written. After a kill in the middle there is no database at `path` until `restore` runs again.
    """
    backup = find(path)
    if backup is None:
        raise StoreError(f"{path} has no backup: {backup_of(path).name} is not beside it; bring back a copy of yours")
    lost = _lost(path, backup)
    partial = partial_of(path)
    try:
        remove(partial)
        shutil.copyfile(backup.path, partial)
        left_out = []
        if deleted:
            with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                left_out = _leave_out(copy, deleted)
        kept = _move_away(path)
        durable.replace(partial, path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{path} can't be restored: {getattr(error, 'strerror', None) or error}; the backup is untouched: mend the "
            "cause and repeat the command"
        ) from None
    finally:
        with suppress(OSError):
            remove(partial)
    return Restored(backup, kept, lost, tuple(left_out))


def _leave_out(copy: sqlite3.Connection, names: Collection[str]) -> list[str]:
    """Delete studies from a copy; return the names of those that were in it."""
    ids = dict(copy.execute("SELECT study_name, study_id FROM studies").fetchall())
    deleted = [name for name in names if name in ids]
    failpoint("before studies are left out of a copy")
    copy.execute("BEGIN")
    for name in deleted:
        leftovers.delete_study(copy, ids[name])
    leftovers.drop(copy)
    copy.execute("COMMIT")
    # Without it the file would still hold the deleted rows, in its free pages.
    copy.execute("VACUUM")
    return deleted


def _move_away(path: Path) -> Path | None:
    """Move a database and its journals to another name, the database first; return that name, or None if nothing moved."""
    kept = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    has_moved = path.exists()
    if has_moved:
        durable.move(path, kept)
    else:
        # An earlier restore may have been killed between these moves: its journals belong to the database it moved last.
        kept = max(path.parent.glob(f"{glob.escape(path.name)}.damaged-*Z"), default=kept)
    # SQLite would replay the journals of the damaged database into the restored one.
    for suffix in ("-wal", "-shm", "-journal"):
        journal, target = (database.with_name(f"{database.name}{suffix}") for database in (path, kept))
        if journal.exists() and not target.exists():
            durable.move(journal, target)
            has_moved = True
        journal.unlink(missing_ok=True)
    return kept if has_moved else None


def _lost(path: Path, backup: Backup) -> Ended | None:
    if not path.exists():
        return set()
    try:
        with closing(connecting.connect(path, readonly=True)) as connection:
            return _ended(connection) - backup.ended
    except (StoreError, sqlite3.Error):
        return None


def _ended(connection: sqlite3.Connection) -> Ended:
    return {
        (name, number)
        for name, number in connection.execute(
            "SELECT study_name, number FROM trials JOIN studies USING (study_id) "
            "WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')"
        )
    }
