"""The database's schema: Optuna's tables, made by Optuna and pinned to a version, and our own tables beside them.

Nothing here writes trials; the store does that. Nothing here migrates a database: an unknown schema is refused.
"""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

from search import durable
from search.errors import DamagedError, StoreError
from search.failpoints import failpoint
from search.storage.paths import backup_of, partial_of, remove

# What Optuna 5.0 writes; `tests/unit/test_store.py` compares these with the installed Optuna.
OPTUNA_SCHEMA = 12
OPTUNA_REVISION = "v3.2.0.a"

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
OUR_TABLES = frozenset(("manyfit_studies", "manyfit_epochs", "manyfit_events"))
# The unique indexes that Optuna makes.
_INDEXES = frozenset(("ix_studies_study_name",))


@cache
def optunas() -> sqlite3.Connection:
    """Return an empty database of Optuna's schema, in memory. The first call takes up to a second; `create` needs it."""
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import StaticPool

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    # Optuna gets this one connection only, and closes none.
    RDBStorage("sqlite://", engine_kwargs={"creator": lambda: connection, "poolclass": StaticPool}).remove_session()
    return connection


def create(path: Path) -> None:
    """Create an empty database of both schemas at `path`, whole or not at all; the caller holds the lock on `path`.

    StoreError if that fails. The caller has checked that no journal or backup of an older database is left there.
    """
    partial = partial_of(path)
    try:
        remove(partial)
        with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            optunas().backup(connection)
            failpoint("before our own tables are made")
            connection.executescript(f"BEGIN; {TABLES} COMMIT;")
            check_schema(connection, path)
        durable.replace(partial, path)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{path} can't be made: {' '.join(str(reason).split())}; nothing was left behind") from None
    finally:
        with suppress(OSError):
            remove(partial)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a database has both schemas, in the versions that this manyfit knows; StoreError if not."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    views = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    if replaced := sorted(views & (_OPTUNA_TABLES | OUR_TABLES)):
        raise DamagedError(f"{path} is damaged: {replaced[0]} is a view where a table belongs", advise_on=path)
    if not tables and backup_of(path).exists():
        # Another program created or emptied it. A new study here would overwrite the backup.
        raise DamagedError(f"{path} is empty", advise_on=path)
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
            f"{path} is damaged: manyfit_studies.format holds {other[0]!r} where a whole number belongs", advise_on=path
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
        what = (
            f"on {table}, which changes what is stored"
            if object_type == "trigger"
            else "that neither Optuna nor manyfit made"
        )
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
