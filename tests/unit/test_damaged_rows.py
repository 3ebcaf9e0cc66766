"""Whatever stands in a column, `verify` says a line and every command ends with one: no traceback, no claim of soundness."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support import query, replay, replay_file
from typer.testing import CliRunner

from search import cli
from search.errors import StoreError
from search.storage import connecting, records

VALUES = [None, '{"a": "b"}']
MORE = [
    pytest.param(value, marks=pytest.mark.gallery)
    for value in ("text", "1e999", "NaN", "Infinity", "-Infinity", "[]", '"x"', b"\xff\xfe", -1, 9e999)
]
# What may stand there and mean nothing to us, or is another valid value of that column.
FREE = {
    "alembic_version", "version_info", "trial_heartbeats", "study_user_attributes", "sqlite_sequence", "sqlite_stat1",
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    file = replay_file(tmp_path_factory.mktemp("study"), study__trials=6)
    path = replay(file).path
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO manyfit_events (study_id, at, kind, detail) VALUES (1, '2026-01-01 00:00:00', 'note', '{}')"
        )
    return path


def columns_of(path: Path) -> list[tuple[str, str]]:
    tables = [name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [(t, row[1]) for t in tables if t not in FREE for row in query(path, f"PRAGMA table_info({t})")]


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, list(map(str, arguments)))
    return done.exit_code, done.output


@pytest.mark.parametrize("value", [*VALUES, *MORE], ids=repr)
def test_any_value_in_any_column_is_said_in_a_line(study, tmp_path, value):
    for number, (table, column) in enumerate(columns_of(study)):
        path = tmp_path / f"{number}.db"
        path.write_bytes(study.read_bytes())
        # Most tables have rowids; the first row of the one that has none is named by its key.
        row = "epoch = 1 AND trial_id = 1" if table == "manyfit_epochs" else f"rowid = (SELECT min(rowid) FROM {table})"  # noqa: S608
        with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.Error), connection:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", (value,))  # noqa: S608
        where = f"{table}.{column} = {value!r}"
        # `verify` for all; the others, which are slower, where it finds nothing.
        sound = run("verify", path)[0] == 0
        for command in ("verify", "list", *(("show",) if sound else ())):
            code, output = run(command, path)
            assert code in (0, 2, 3), (where, command, output)
            assert "should not have happened" not in output, (where, command, output)
            assert "Traceback" not in output, (where, command, output)
        path.unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "UPDATE manyfit_epochs SET seconds = 'abc' WHERE epoch = 1",
            "manyfit_epochs.seconds holds 'abc' where a number",
        ),
        (
            "UPDATE manyfit_epochs SET metrics = '[]' WHERE epoch = 1",
            "manyfit_epochs.metrics holds '[]' where a JSON object",
        ),
        (
            'UPDATE manyfit_epochs SET metrics = \'{"val_loss": "x"}\' WHERE epoch = 1',
            "where a JSON object of numbers belongs",
        ),
        ("UPDATE manyfit_studies SET settings = '[]'", "manyfit_studies.settings holds '[]'"),
        ("UPDATE manyfit_studies SET identity = 'null'", "manyfit_studies.identity holds 'null'"),
        ("UPDATE trial_params SET param_value = 'x' WHERE param_id = 1", "trial_params.param_value holds 'x'"),
        (
            "UPDATE trials SET datetime_start = 'noon' WHERE trial_id = 1",
            "trials.datetime_start holds 'noon' where a moment",
        ),
        ("UPDATE trials SET number = -4 WHERE trial_id = 1", "trials.number holds '-4'"),
        ("UPDATE trial_user_attributes SET value_json = '[1]' WHERE key = 'why'", "where what 'why' is belongs"),
        *(
            (
                f"UPDATE trial_user_attributes SET value_json = '{value}' WHERE key = '{key}'",  # noqa: S608 (words of this file)
                f"{value}' where what '{key}' is belongs",
            )
            for key in ("ended", "why", "epochs", "best_epoch", "seconds")
            for value in ("NaN", "Infinity", "-Infinity", "1e999")
        ),
        (
            'UPDATE manyfit_epochs SET metrics = \'{"val_loss": 0.5, "loss": 1e999}\' WHERE epoch = 1',
            "where a JSON object of numbers belongs",
        ),
        ("UPDATE manyfit_studies SET spent = '{\"train\": -1e999}'", "where a JSON object of numbers belongs"),
        ("UPDATE manyfit_studies SET settings = '{}'", "can't be read"),
        ("UPDATE manyfit_studies SET settings = CAST(x'ff' AS TEXT)", "manyfit_studies.settings holds '\\\\xff'"),
    ],
)
def test_wrong_value_is_named_with_its_table_and_column(study, tmp_path, change, says):
    path = tmp_path / "damaged.db"
    path.write_bytes(study.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    code, output = run("verify", path)
    assert code == 3
    assert says in output
    with pytest.raises(StoreError):
        records.load(path, "replay")


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (
            "CREATE TRIGGER t AFTER INSERT ON trial_values BEGIN UPDATE trial_values SET value = 0; END",
            "a trigger 't' on trial_values",
        ),
        ("CREATE TRIGGER t BEFORE UPDATE ON trials BEGIN DELETE FROM trial_params; END", "a trigger 't' on trials"),
        ("CREATE VIEW v AS SELECT * FROM trials", "a view 'v'"),
        ("CREATE UNIQUE INDEX u ON trials (state)", None),
        ("CREATE UNIQUE INDEX u ON trial_params (param_id)", "a unique index 'u' on trial_params"),
        ("CREATE INDEX i ON trials (state)", ""),
        ("CREATE TABLE notes (text TEXT)", ""),
    ],
)
def test_database_that_changes_what_is_written_is_not_sound(study, tmp_path, made, says):
    path = tmp_path / "made.db"
    path.write_bytes(study.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute(made)
        except sqlite3.IntegrityError:
            assert says is None
            return
    code, output = run("verify", path)
    before = path.read_bytes()
    if not says:
        assert code == 0, output
        connecting.connect(path, readonly=False).close()
        return
    assert code == 3
    assert says in output
    with pytest.raises(StoreError, match="nothing was written"):
        connecting.connect(path, readonly=False)
    assert path.read_bytes() == before
    assert run("show", path)[0] == 0


def test_view_in_the_place_of_a_table_is_damage(study, tmp_path):
    path = tmp_path / "view.db"
    path.write_bytes(study.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE trial_values RENAME TO hidden")
        connection.execute("CREATE VIEW trial_values AS SELECT * FROM hidden")
    for command in ("verify", "show", "list"):
        code, output = run(command, path)
        assert code == 3
        assert "trial_values is a view where a table belongs" in output
