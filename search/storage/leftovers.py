"""Leftovers: rows of ours whose study or trial is gone. Optuna deletes a study from its own tables only.

SQLite reuses the ids of deleted rows, so a leftover would later belong to another study.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container
from contextlib import closing
from pathlib import Path

from search.errors import StoreError
from search.storage import connecting
from search.storage.paths import backup_of
from search.storage.schema import OUR_TABLES

# The first transaction of every study of ours sets this attribute. A study that Optuna makes under a reused id lacks it.
OUR_STUDIES = (
    "(SELECT m.*, s.study_name FROM manyfit_studies m JOIN studies s USING (study_id) WHERE EXISTS "
    "(SELECT 1 FROM study_system_attributes a WHERE a.study_id = m.study_id AND a.key = 'study:metric_names'))"
)
"""A table to select from: manyfit_studies with study_name, without leftovers."""

_OURS = f"SELECT study_id FROM {OUR_STUDIES}"  # noqa: S608 (nothing in it comes from outside)
# A trial with study_id NULL was detached from its study by hand: its epochs are not leftovers.
_LEFT_EPOCHS = f"trial_id NOT IN (SELECT trial_id FROM trials WHERE study_id IS NULL OR study_id IN ({_OURS}))"  # noqa: S608


def count_studies(connection: sqlite3.Connection) -> int:
    """Count the deleted studies that left rows."""
    (count,) = connection.execute(f"SELECT count(*) FROM manyfit_studies WHERE study_id NOT IN ({_OURS})").fetchone()  # noqa: S608
    return int(count)


_ROW = "m.study_id, m.file, m.resolved, m.identity"


def deleted_rows(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    """Return the rows of deleted studies that are left in manyfit_studies, as tuples like the values of `rows_by_name`."""
    rows = connection.execute(f"SELECT {_ROW} FROM manyfit_studies m WHERE study_id NOT IN ({_OURS})")  # noqa: S608
    return set(map(tuple, rows))


def rows_by_name(connection: sqlite3.Connection) -> dict[str, tuple[object, ...]]:
    """Return the name of each study -> the values in manyfit_studies that identify it."""
    rows = connection.execute(f"SELECT study_name, {_ROW} FROM manyfit_studies m JOIN studies USING (study_id)")  # noqa: S608
    return {name: tuple(row) for name, *row in rows}


def are_there(connection: sqlite3.Connection) -> bool:
    """Return whether a deleted study or trial has left rows."""
    for where in (
        f"manyfit_studies WHERE study_id NOT IN ({_OURS})",
        f"manyfit_events WHERE study_id NOT IN ({_OURS})",
        f"(SELECT DISTINCT trial_id FROM manyfit_epochs) WHERE {_LEFT_EPOCHS}",  # noqa: S608
    ):
        if connection.execute(f"SELECT 1 FROM {where} LIMIT 1").fetchone():  # noqa: S608
            return True
    return False


def orphans(connection: sqlite3.Connection) -> list[tuple[str, int, str]]:
    """Return rows of other tables without a parent row: (table, row, table of the parent).

    If a deleted study has left rows, only those are returned whose trial the backup holds for a study that is still there.
    The others then count as leftovers: Optuna reads what it deletes before it locks the database, so what a search stores
    meanwhile stays behind.
    """
    return _without_parent(connection, _trials_of_present_studies(connection) if count_studies(connection) else None)


def _without_parent(connection: sqlite3.Connection, of_trials: Container[int] | None) -> list[tuple[str, int, str]]:
    """Return (table, row, table of the parent) of rows without a parent row; `of_trials`: only those of these trials."""
    orphaned = []
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        # Optuna never deletes from our own tables.
        if table not in OUR_TABLES and (of_trials is None or _trial_of(connection, table, row) in of_trials):
            orphaned.append((table, row, parent))
    return orphaned


def _trial_of(connection: sqlite3.Connection, table: str, row: int) -> int | None:
    try:
        trial = connection.execute(f'SELECT trial_id FROM "{table}" WHERE rowid = ?', (row,)).fetchone()  # noqa: S608
    except sqlite3.OperationalError:  # a table of studies
        return None
    return trial and int(trial[0])


def _trials_of_present_studies(connection: sqlite3.Connection) -> frozenset[int]:
    """Return the trial_id of each trial that the backup holds for a study that is still in the database."""
    (path,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    present = rows_by_name(connection)
    try:
        with closing(connecting.connect(backup_of(Path(path)), readonly=True)) as backup:
            names = [name for name, row in rows_by_name(backup).items() if present.get(name) == row]
            trials = backup.execute("SELECT study_name, trial_id FROM trials JOIN studies USING (study_id)").fetchall()
    except (sqlite3.Error, StoreError):
        return frozenset()
    return frozenset(trial_id for name, trial_id in trials if name in names)


def drop(connection: sqlite3.Connection) -> None:
    """Delete the leftovers of deleted studies and trials; the caller has begun a transaction."""
    if count_studies(connection):
        kept = orphans(connection)
        # Twice: deleting a trial without a study leaves its own rows without a parent.
        for _ in range(2):
            for table, row, parent in _without_parent(connection, None):
                if (table, row, parent) not in kept:
                    connection.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (row,))  # noqa: S608 (a name of the schema)
    connection.execute(f"DELETE FROM manyfit_epochs WHERE {_LEFT_EPOCHS}")  # noqa: S608
    connection.execute(f"DELETE FROM manyfit_studies WHERE study_id NOT IN ({_OURS})")  # noqa: S608
    connection.execute("DELETE FROM manyfit_events WHERE study_id NOT IN (SELECT study_id FROM manyfit_studies)")


def delete_study(connection: sqlite3.Connection, study_id: int) -> None:
    """Delete all rows of a study, in Optuna's tables and ours; the caller has begun a transaction."""
    columns: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    ).fetchall():
        columns.setdefault(table, set()).add(column)
    # The order follows the foreign keys: rows of trials, rows of the study, the trials, the study.
    of_trials = [table for table, names in columns.items() if "trial_id" in names and table != "trials"]
    of_study = [table for table, names in columns.items() if "study_id" in names and table not in ("trials", "studies")]
    for table in of_trials:
        connection.execute(
            f'DELETE FROM "{table}" WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)',  # noqa: S608
            (study_id,),
        )
    for table in (*of_study, "trials", "studies"):
        connection.execute(f'DELETE FROM "{table}" WHERE study_id = ?', (study_id,))  # noqa: S608
