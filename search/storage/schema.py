"""The database's schema: Optuna's tables, made by Optuna and pinned to a version, and our own tables beside them.

Nothing here writes trials; the store does that. Nothing here migrates a database: an unknown schema is refused.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from search import durable
from search.errors import DamagedError, Interrupted, StoreError
from search.failpoints import failpoint

# What Optuna 5.0 writes; `tests/unit/test_store.py` compares these with the installed Optuna.
OPTUNA_SCHEMA = 12
OPTUNA_REVISION = "v3.2.0.a"

# Wait this long for another program, but in short steps: a long busy timeout of SQLite itself would delay signals.
BUSY_FOR_S = 60.0
_BUSY_STEP_S = 0.5

# After a signal: long enough for a write of another program, short enough for a person who pressed Ctrl-C.
INTERRUPTED_FOR_S = 2.0

# Suffixes of the database itself and of the files that SQLite writes beside it.
JOURNALS = ("", "-journal", "-wal", "-shm")

FORMAT = 1
"""The version of our own tables. A database of another version is refused."""

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


_OPTUNA_TABLES = frozenset(
    (
        "alembic_version",
        "studies",
        "study_directions",
        "study_system_attributes",
        "study_user_attributes",
        "trial_heartbeats",
        "trial_intermediate_values",
        "trial_params",
        "trial_system_attributes",
        "trial_user_attributes",
        "trial_values",
        "trials",
        "version_info",
    )
)
_OUR_TABLES = frozenset(("manyfit_studies", "manyfit_epochs", "manyfit_events"))
# The unique indexes that Optuna makes.
_INDEXES = frozenset(("ix_studies_study_name",))


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
        _check_schema(connection, path)
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
            raise DamagedError(f"{path} is no SQLite database, or is damaged; {advice(path)}") from None
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
            raise DamagedError(f"{path} is damaged: {error}; {advice(path)}") from None
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{path} can't be opened: {error}; {_advice(path, error)}") from None
        raise
    return connection


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


def check_file(path: Path) -> None:
    """Check that `path` is a readable file and not empty; StoreError if not.

    Does not open the file: closing it would drop all locks that this process has on it, also those of an open store. The next
    program to close the database would then delete the -wal that the store uses (sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        check_gone(path)
        raise StoreError(f"{path}: no such study; `manyfit run` with a study file makes one") from None
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}; it was left as it is") from None
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} can't be read: it is a folder, or no file; it was left as it is")
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path} can't be read: Permission denied; it was left as it is")
    if not status.st_size:
        raise DamagedError(f"{path} is empty; {advice(path)}")


def _check_length(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a database consists of whole pages: SQLite reads a cut last page as if it ended in zeros."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and journal.stat().st_size:
        return  # after a power cut the -wal still holds the last page
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    if path.stat().st_size % page_size:
        raise DamagedError(f"{path} is damaged: its last page is cut; {advice(path)}")


def check_whole(connection: sqlite3.Connection, path: Path, *, indexes: bool = False) -> None:
    """Read a whole database and check its pages; DamagedError if one is damaged.

    With `indexes`, also compare each index with its table: in a mix of sound pages of two databases they differ.

    Takes 0.04 s for 10,000 trials of 20 epochs (32 MB), much less than the start of a worker.
    """
    (result,) = connection.execute(f"PRAGMA {'integrity' if indexes else 'quick'}_check(1)").fetchone()
    if result != "ok":
        raise DamagedError(f"{path} is damaged: {' '.join(result.split())}; {advice(path)}")


def check_gone(path: Path) -> None:
    """Check that a missing database has left neither a journal nor a backup; DamagedError if it has.

    SQLite would replay an old journal into a new database of that name, and the new backup would replace the old one.
    """
    for suffix in ("-wal", "-journal"):
        journal = path.with_name(f"{path.name}{suffix}")
        if journal.exists() and journal.stat().st_size:
            raise DamagedError(
                f"{path} is gone, and {journal.name}, which belongs to it, is there; bring {path.name} back"
                + (
                    f" (`manyfit verify {shlex.quote(str(path))} --restore` brings back its backup)"
                    if _has_sound_backup(path)
                    else ""
                )
                + f", or move {journal.name} away, too"
            )
    if backup_of(path).exists():
        cure = (
            f"and its backup is there; `manyfit verify {shlex.quote(str(path))} --restore` brings it back"
            if _has_sound_backup(path)
            else "and its backup is damaged; bring back a copy of yours"
        )
        raise DamagedError(f"{path} is gone, {cure}; to begin anew, move {backup_of(path).name} away, too")


def backup_of(path: Path) -> Path:
    """Return the path of a database's backup."""
    return path.with_name(f"{path.name}.backup")


def advice(path: Path) -> str:
    """Return what to do about a damaged database, for the end of an error message."""
    if _has_sound_backup(path):
        return f"it was left as it is: `manyfit verify {shlex.quote(str(path))} --restore` brings back its backup"
    of_backup = ", and its backup is damaged, too" if backup_of(path).exists() else ""
    return f"it was left as it is{of_backup}: bring back a copy of it, or move it away"


def _has_sound_backup(path: Path) -> bool:
    """Return whether `verify --restore` would bring back the backup of a database."""
    from search.storage import backup  # which imports this module

    with suppress(StoreError):
        return backup.find(path) is not None
    return False


def create(path: Path) -> None:
    """Create an empty database of both schemas at `path`, whole or not at all; the caller holds the lock on `path`.

    StoreError if that fails, or if a journal or a backup of an older database is left there.
    """
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    check_gone(path)
    partial = path.with_name(f".{path.name}.new")
    try:
        remove(partial)
        # A creator, not a URL: in a URL, a "?" or "%" of a folder's name would have a meaning.
        storage = RDBStorage(
            "sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(partial), "poolclass": NullPool}
        )
        storage.remove_session()
        storage.engine.dispose()
        with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            failpoint("before our own tables are made")
            connection.executescript(f"BEGIN; {TABLES} COMMIT;")
            _check_schema(connection, path)
        durable.replace(partial, path)
    except (OSError, sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error.__cause__ or error
        raise StoreError(f"{path} can't be made: {' '.join(str(reason).split())}; nothing was left behind") from None
    finally:
        with suppress(OSError):
            remove(partial)


def remove(path: Path) -> None:
    """Remove a database that no study needs, and its journals: SQLite would replay them into the next one of that name."""
    for suffix in JOURNALS:
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    views = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    if replaced := sorted(views & (_OPTUNA_TABLES | _OUR_TABLES)):
        raise DamagedError(f"{path} is damaged: {replaced[0]} is a view where a table belongs; {advice(path)}")
    if not tables and backup_of(path).exists():
        # Another program created or emptied it. A new study here would overwrite the backup.
        raise DamagedError(f"{path} is empty; {advice(path)}")
    if not {"version_info", "alembic_version", "studies"} <= tables:
        raise StoreError(f"{path} is a database of something else; name another file in run.storage")
    schema = connection.execute("SELECT schema_version FROM version_info").fetchone()
    revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    stored = (schema and schema[0], revision and revision[0])
    if stored != (OPTUNA_SCHEMA, OPTUNA_REVISION):
        raise StoreError(
            f"{path} has Optuna's schema {stored[0]} ({stored[1]}); this manyfit knows {OPTUNA_SCHEMA} ({OPTUNA_REVISION}); "
            + _upgrade_advice(path, stored)
        )
    if "manyfit_studies" not in tables:
        raise StoreError(f"{path} holds studies of plain Optuna and none of manyfit; name another file in run.storage")
    other = connection.execute(
        "SELECT format, resolved FROM manyfit_studies WHERE format != ? ORDER BY format DESC", (FORMAT,)
    ).fetchone()
    if other is not None and not isinstance(other[0], int):
        raise DamagedError(
            f"{path} is damaged: manyfit_studies.format holds {other[0]!r} where a whole number belongs; {advice(path)}"
        )
    if other is not None:
        age, hint = (
            ("a newer", "run `git pull` in manyfit's folder")
            if other[0] > FORMAT
            else ("an older", _checkout_advice(other[1]))
        )
        raise StoreError(
            f"{path} was written by {age} manyfit, in format {other[0]}; this one knows format {FORMAT}; {hint}"
        )


def check_objects(connection: sqlite3.Connection, path: Path) -> None:
    """Check that no trigger, view or unique index of another program changes or refuses what we write; StoreError if so."""
    for problem in foreign_objects(connection):
        raise StoreError(f"{path}: {problem}; nothing was written")


def foreign_objects(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield a line for each trigger, view and unique index that neither Optuna nor manyfit makes."""
    drop = "drop it with `sqlite3 FILE 'DROP {} \"{}\"'`, if nothing of yours needs it"
    for object_type, name, table in connection.execute(
        "SELECT type, name, tbl_name FROM sqlite_master WHERE type IN ('trigger', 'view') ORDER BY name"
    ):
        what = f"on {table}, which changes what is stored" if object_type == "trigger" else "that is no table of ours"
        yield f"it has a {object_type} {name!r} {what}: {drop.format(object_type.upper(), name)}"
    for name, table, text in connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    ):
        if name not in _INDEXES and text.upper().split()[:2] == ["CREATE", "UNIQUE"]:
            yield f"it has a unique index {name!r} on {table}, which refuses or replaces rows: {drop.format('INDEX', name)}"


def _upgrade_advice(path: Path, stored: tuple[int | None, str | None]) -> str:
    # Revisions such as v3.2.0.a compare as text as long as their numbers have one digit.
    if (stored[0] or 0) > OPTUNA_SCHEMA or (stored[1] or "") > OPTUNA_REVISION:
        return "a newer Optuna upgraded it: run `git pull` in manyfit's folder, then `make run`"
    return f"copy the file, then run `optuna storage upgrade --storage {shlex.quote(f'sqlite:///{path.name}')}` in its folder"


def _checkout_advice(resolved: str) -> str:
    """Return how to check out the manyfit that wrote a study, by the version in the study's `resolved`."""
    version = ""
    with suppress(ValueError, KeyError, TypeError):
        version = str(json.loads(resolved)["versions"]["manyfit"])
    search = shlex.quote(f"-S{version}")
    return f"run `git log {search} -- search/__init__.py` in manyfit's folder for the commit to check out"


def _advice(path: Path, error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "another program holds it locked; try again when that has ended"
    if "full" in str(error):
        return "free some space and repeat the command"
    return advice(path)
