"""The database: Optuna's schema, made by Optuna and pinned, and our own tables beside it.

Nothing here writes trials; that is the store's. Nothing here migrates anything: an unknown schema is refused.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from search.errors import StoreError

# What Optuna 5.0 writes; `tests/unit/test_store.py` holds these against the installed Optuna.
OPTUNA_SCHEMA = 12
OPTUNA_REVISION = "v3.2.0.a"

# Another program may hold the database for a while; a long busy timeout of SQLite's own would keep signals waiting.
BUSY_FOR_S = 60.0

FORMAT = 1
"""Of our own tables. A database of a newer one is refused."""

TABLES = """
CREATE TABLE manyfit_studies (
    study_id INTEGER PRIMARY KEY REFERENCES studies (study_id),
    format INTEGER NOT NULL,
    file TEXT NOT NULL,         -- the study file it was first started from
    settings TEXT NOT NULL,     -- JSON: the file's sections, defaults filled in
    resolved TEXT NOT NULL,     -- JSON: what "auto" came to, and versions
    identity TEXT NOT NULL,     -- JSON: what may not change
    seconds REAL NOT NULL,      -- spent so far
    spent TEXT NOT NULL,        -- JSON: where the workers' time went, seconds by part
    ended TEXT NOT NULL         -- why it is done, or ''
);
CREATE TABLE manyfit_epochs (
    trial_id INTEGER NOT NULL REFERENCES trials (trial_id),
    replica INTEGER NOT NULL,
    epoch INTEGER NOT NULL,     -- from 1
    seconds REAL NOT NULL,
    metrics TEXT NOT NULL,      -- JSON: name -> number, null where it was not finite
    PRIMARY KEY (trial_id, replica, epoch)
) WITHOUT ROWID;
CREATE TABLE manyfit_events (
    event_id INTEGER PRIMARY KEY,
    study_id INTEGER NOT NULL REFERENCES studies (study_id),
    at TEXT NOT NULL,           -- UTC
    kind TEXT NOT NULL,
    detail TEXT NOT NULL        -- JSON
);
"""


def connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """Open a database that is there; StoreError if it is missing, damaged, no database, or of another schema.

    Never makes a file, and never writes to one that is not whole.
    """
    check_header(path)
    mode = "ro" if readonly else "rw"
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, timeout=0.5
        )
        connection.row_factory = sqlite3.Row
        _check_schema(connection, path)
        if not readonly:
            waiting(connection, "PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise StoreError(f"{path} can't be opened: {error}; {_advice(error)}") from None
    return connection


def waiting(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement that other programs may keep waiting, in short steps so that signals get through.

    Raises sqlite3.OperationalError if the database is still locked after BUSY_FOR_S.
    """
    until = time.monotonic() + BUSY_FOR_S
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        else:
            return


def check_header(path: Path) -> None:
    """Make sure that there is an SQLite file at `path`, without opening it as one; StoreError if not."""
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such study; `manyfit run` with a study file makes one") from None
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}; it was left as it is") from None
    if header != b"SQLite format 3\0":
        what = "is empty" if not header else "is no SQLite database, or is damaged"
        raise StoreError(f"{path} {what}; it was left as it is: move it away, or bring back a copy of it")


def create(path: Path) -> None:
    """Make an empty database of both schemas at `path`, whole or not at all; the caller holds the lock on `path`."""
    from optuna.storages import RDBStorage

    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    try:
        storage = RDBStorage(f"sqlite:///{partial}")
        storage.remove_session()
        storage.engine.dispose()
        connection = sqlite3.connect(partial, isolation_level=None)
        try:
            connection.executescript(f"BEGIN; {TABLES} COMMIT;")
            _check_schema(connection, path)
        finally:
            connection.close()
        partial.rename(path)
    except OSError as error:
        raise StoreError(f"{path} can't be made: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"version_info", "alembic_version", "studies"} <= tables:
        raise StoreError(f"{path} is a database of something else; name another file in run.storage")
    schema = connection.execute("SELECT schema_version FROM version_info").fetchone()
    revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    found = (schema and schema[0], revision and revision[0])
    if found != (OPTUNA_SCHEMA, OPTUNA_REVISION):
        raise StoreError(
            f"{path} has Optuna's schema {found[0]} ({found[1]}); this manyfit knows {OPTUNA_SCHEMA} ({OPTUNA_REVISION}); "
            f"copy the file, then run `optuna storage upgrade --storage sqlite:///{path.name}` in its folder"
        )
    if "manyfit_studies" not in tables:
        raise StoreError(f"{path} holds studies of plain Optuna and none of manyfit; name another file in run.storage")
    newest = connection.execute("SELECT max(format) FROM manyfit_studies").fetchone()[0]
    if newest is not None and newest > FORMAT:
        raise StoreError(f"{path} was written by a newer manyfit (format {newest}, known is {FORMAT}); update manyfit")


def _advice(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "another program holds it locked; try again when that has ended"
    if "full" in str(error):
        return "free some space and repeat the command"
    return "it was left as it is: bring back a copy of it, or move it away"
