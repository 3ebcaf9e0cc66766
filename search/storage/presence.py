"""Check that the database at a path is still the one that a command has open, with the rows that the command stored.

A file can be renamed, deleted, replaced or overwritten under a running command, and SQLite notices none of that.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from search import durable
from search.errors import StoreError
from search.failpoints import failpoint
from search.storage.connecting import check_whole
from search.storage.holding import Hold
from search.storage.paths import backup_of, partial_of, remove


class Presence:
    """Watches the file that a store writes to."""

    def __init__(self, hold: Hold, connection: sqlite3.Connection) -> None:
        self._hold, self._connection = hold, connection
        self._accepted = self._current = self._state()

    def check(self) -> bool:
        """Check that the path still leads to the open file; return whether its content has changed since `accept`.

        Costs three system calls. The StoreError says where the trials are and what to do.
        """
        if not self._hold.is_at_its_name:
            raise self._gone()
        self._current = self._state()
        return self._current != self._accepted

    def accept(self) -> None:
        """Accept the content at the last `check` as the right one."""
        self._accepted = self._current

    def _state(self) -> tuple[int, int]:
        # SQLite writes to the database file only at a checkpoint, when it copies the -wal into it.
        try:
            status = self._hold.path.stat()
        except OSError:
            return (-1, -1)
        return status.st_size, status.st_mtime_ns

    def _gone(self) -> StoreError:
        path = self._hold.path
        if now_at := self._hold.now_at:
            aside = f"move what is at {path.name} now away, " if path.exists() else ""
            return StoreError(
                f"{path} was renamed to {now_at} while this command worked on it, and all trials so far are in that file; "
                f"{aside}move it back and repeat the command"
            )
        how = "replaced by another file" if path.exists() else "deleted"
        if not self._hold.is_deleted:
            return StoreError(
                f"{path} is no longer the file that this command works on, and where that is now can't be known; all trials "
                "so far are in it: move it back and repeat the command"
            )
        saved = path.with_name(f"{path.name}.rescued-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        if why := self._rescue(saved):
            return StoreError(
                f"{path} was {how} while this command worked on it, and the trials so far could not be saved: {why}; "
                f"what there is of them is in {backup_of(path).name}"
            )
        return StoreError(
            f"{path} was {how} while this command worked on it; all trials so far are saved in {saved.name}; to go on with "
            f"them, move that to {path.name} and repeat the command"
        )

    def _rescue(self, saved: Path) -> str:
        """Copy the open file, which has no name any more, to a new one; return why that failed, or ""."""
        partial = partial_of(saved)
        try:
            with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                failpoint("before a deleted database is copied")
                self._connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                check_whole(copy, saved)
            durable.replace(partial, saved)
        except (OSError, sqlite3.Error, StoreError) as error:
            return str(getattr(error, "strerror", None) or error)
        finally:
            with suppress(OSError):
                remove(partial)
        return ""


def check_other_names(path: Path) -> None:
    """Refuse a database with several hard links if another link has a journal: SQLite would not read that journal."""
    with suppress(OSError):
        status = path.stat()
        if status.st_nlink < 2:
            return
        for other in os.scandir(path.parent):
            is_link = other.name != path.name and other.inode() == status.st_ino
            for suffix in ("-wal", "-journal") if is_link else ():
                journal = Path(f"{other.path}{suffix}")
                if journal.exists() and journal.stat().st_size:
                    raise StoreError(
                        f"{path} and {other.name} are one file, and {journal.name} holds the newest trials of it; use the "
                        f"name {other.name}"
                    )
