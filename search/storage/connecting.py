"""Open databases, wait for other programs, and check a file and its pages. Nothing here creates a database."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from search.errors import DamagedError, Interrupted, StoreError
from search.failpoints import failpoint
from search.storage.schema import check_objects, check_schema

# Wait this long for another program, but in short steps: a long busy timeout of SQLite itself would delay signals.
BUSY_FOR_S = 60.0
_BUSY_STEP_S = 0.5

# After a signal: long enough for a write of another program, short enough for a person who pressed Ctrl-C.
INTERRUPTED_FOR_S = 2.0


def connect(
    path: Path, *, readonly: bool, whole: bool = False, interruption: Callable[[], int] = lambda: 0
) -> sqlite3.Connection:
    """Open an existing database; StoreError if it is missing, damaged, no database, or of another schema.

    Reads and checks all pages first, unless `readonly` without `whole`. Never creates a file, and never writes to a damaged
    one. Waits while another program holds the database locked; Interrupted if `interruption` returns the number of a signal
    meanwhile.
    """
    check_file(path)
    connection: sqlite3.Connection | None = None
    try:
        try:
            connection = _open(path, "ro", interruption)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            # A process died during a transaction; SQLite undoes that transaction once a connection may write.
            _open(path, "rw", interruption).close()
            connection = _open(path, "ro", interruption)
        _check_length(connection, path)
        check_schema(connection, path)
        if not readonly:
            check_objects(connection, path)
        if whole or not readonly:
            # Check on the read-only connection: closing a writable one would copy the -wal into a damaged file.
            check_whole(connection, path)
        if not readonly:
            connection.close()
            connection = _open(path, "rw", interruption)
            failpoint("before the journal is a -wal")
            run_waiting(connection, "PRAGMA journal_mode = WAL", interruption)
            failpoint("after the journal is a -wal")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname == "SQLITE_NOTADB":
            raise DamagedError(f"{path} is no SQLite database, or is damaged", advise_on=path) from None
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
            raise DamagedError(f"{path} is damaged: {error}", advise_on=path) from None
        if isinstance(error, sqlite3.Error):
            raise _unopenable(path, error) from None
        raise
    return connection


def _unopenable(path: Path, error: sqlite3.Error) -> StoreError:
    what = f"{path} can't be opened: {error}"
    if "locked" in str(error):
        return StoreError(f"{what}; another program holds it locked; try again when that has ended")
    if "full" in str(error):
        return StoreError(f"{what}; free some space and repeat the command")
    return StoreError(what, advise_on=path)


def reader(path: Path) -> sqlite3.Connection:
    """Open a database read-only although it may be damaged; sqlite3.Error if that is impossible."""
    return _open(path, "ro", lambda: 0)


def _open(path: Path, mode: str, interruption: Callable[[], int]) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_STEP_S
    )
    connection.row_factory = sqlite3.Row
    try:
        # SQLite opens lazily: locks and damaged headers raise at this first read.
        run_waiting(connection, "SELECT count(*) FROM sqlite_master", interruption)
    except BaseException:
        connection.close()
        raise
    return connection


def run_waiting(connection: sqlite3.Connection, statement: str, interruption: Callable[[], int] = lambda: 0) -> None:
    """Execute a statement, waiting for other programs in short steps so that signals get through.

    Raises sqlite3.OperationalError if the database is still locked after BUSY_FOR_S, and Interrupted INTERRUPTED_FOR_S
    after a signal whose number `interruption` returns.
    """
    until = time.monotonic() + BUSY_FOR_S
    interrupted_until = None
    while True:
        try:
            connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            if "locked" not in str(error) or now > until:
                raise
            if number := interruption():
                interrupted_until = interrupted_until or now + INTERRUPTED_FOR_S
                if now > interrupted_until:
                    raise Interrupted(
                        "stopped while another program held the database locked; the same command goes on", number
                    ) from None
        else:
            return


def is_damage(error: Exception) -> bool:
    """Return whether an error that reading a database has raised shows damage, not a lock, a bad disk or little memory."""
    # Python gives no code to text that it can't decode. SQLite's functions refuse malformed JSON with SQLITE_ERROR.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    codes = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)
    return code in codes and not isinstance(error, MemoryError)


def cause(error: Exception) -> str:
    """Return why a database or a file can't be read or written, for an error message."""
    return (
        "there is not enough memory" if isinstance(error, MemoryError) else getattr(error, "strerror", "") or str(error)
    )


def check_file(path: Path) -> None:
    """Check that `path` is a readable file and not empty; StoreError if not.

    Does not open the file: closing it would drop all locks that this process has on it, also those of an open store. The next
    program to close the database would then delete the -wal that the store uses (sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise StoreError(f"{path}: no such study; `manyfit run` with a study file makes one", advise_on=path) from None
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}; it was left as it is") from None
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} can't be read: it is a folder, or no file; it was left as it is")
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path} can't be read: Permission denied; it was left as it is")
    if not status.st_size:
        raise DamagedError(f"{path} is empty", advise_on=path)


def _check_length(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a database consists of whole pages: SQLite reads a cut last page as if it ended in zeros."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and journal.stat().st_size:
        return  # after a power cut the -wal still holds the last page
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    if path.stat().st_size % page_size:
        raise DamagedError(f"{path} is damaged: its last page is cut", advise_on=path)


def check_whole(connection: sqlite3.Connection, path: Path, *, indexes: bool = False) -> None:
    """Read a whole database and check its pages; DamagedError if one is damaged.

    With `indexes`, also compare each index with its table: in a mix of sound pages of two databases they differ.

    Takes 0.04 s for 10,000 trials of 20 epochs (32 MB), much less than the start of a worker.
    """
    (result,) = connection.execute(f"PRAGMA {'integrity' if indexes else 'quick'}_check(1)").fetchone()
    if result != "ok":
        raise DamagedError(f"{path} is damaged: {' '.join(result.split())}", advise_on=path)
