"""Deleting a study, by `manyfit delete` and by Optuna: what goes, what stays, and that nothing brings it back."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from support import MANYFIT, curve, query, record, replay, replay_file, table
from typer.testing import CliRunner

from search import cli
from search.core.loop import search
from search.core.study import Study
from search.errors import StoreError
from search.storage import backup, connecting, leftovers, records
from search.storage.paths import backup_of
from search.storage.store import Store
from search.storage.verify import verify
from search.trials.files import StudyFiles
from search.workers.inprocess import Replaying

OURS = ("manyfit_studies", "manyfit_epochs", "manyfit_events")


def run(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def study_of(folder, name, trials=4):
    return replay_file(folder, study__name=name, study__trials=trials, run__storage="all.db")


def searched(file, curves=curve):
    """Search a study of a database that may hold others."""
    if file.storage.exists() and records.exists(file.storage, file.name):
        return replay(file, curves)
    with Store.create(file, record(file)) as store:
        search(Study(file), store, Replaying(curves), watch=lambda: None)
    return records.load(file.storage, file.name)


def two(folder):
    """Two finished studies in one database, with a backup of both and files beside it."""
    for name in ("first", "second"):
        file = study_of(folder, name)
        searched(file)
        with Store.open(file.storage, name) as store:
            store._not_backed_up = 1
            assert store.back_up() == ""
        files = StudyFiles.of(file)
        for path in (files.log, files.log.with_suffix(".log.1"), files.best):
            path.write_text("x")
        files.running.mkdir(parents=True)
        (files.running / "notes").write_text("x")
    return file.storage


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return two(tmp_path_factory.mktemp("template")).parent


@pytest.fixture
def database(template, tmp_path):
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "all.db"


def by_optuna(database, name):
    optuna.delete_study(study_name=name, storage=f"sqlite:///{database}")


def rows(database, tables=OURS):
    return {table: query(database, f"SELECT count(*) FROM {table}")[0][0] for table in tables}  # noqa: S608


def all_tables(database):
    return [name for (name,) in query(database, "SELECT name FROM sqlite_master WHERE type = 'table'")]


def test_deleted_study_leaves_no_row_and_no_file_and_the_other_as_it_was(database, tmp_path):
    expected = table(database, "second")
    done = run("delete", database, "--name", "first", "--yes")
    assert done.exit_code == 0, done.output
    assert "4 trials" in done.stderr
    assert records.names(database) == ["second"]
    assert table(database, "second") == expected
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(
        ["all.db", "all.db.backup", "all.db.lock", "replay.toml"]
        + [f"second@all{suffix}" for suffix in (".log", ".log.1", ".best.json", ".files")]
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    searched(study_of(alone, "second"))
    for name in all_tables(database):
        assert rows(database, [name]) == rows(alone / "all.db", [name]), name
    assert verify(database).problems == []


def test_programs_are_told_what_was_deleted_and_cleaned(database):
    told = json.loads(run("clean", database, "--name", "first", "--json").stdout)
    assert set(told) == {"deleted", "bytes", "kept", "kept_bytes"}
    assert not any(Path(file).exists() for file in told["deleted"])
    told = json.loads(run("delete", database, "--name", "first", "--yes", "--json").stdout)
    assert (told["name"], told["trials"], told["database_deleted"]) == ("first", 4, False)
    assert told["files"]
    assert not any(Path(file).exists() for file in told["files"])


def test_backup_does_not_bring_back_what_was_deleted(database, tmp_path):
    assert run("delete", database, "--name", "first", "--yes").exit_code == 0
    assert records.names(backup_of(database)) == ["second"]
    database.write_bytes(b"\0" * 5000)
    assert run("verify", database, "--restore").exit_code == 0
    assert records.names(database) == ["second"]
    assert verify(database).problems == []


def test_with_the_last_study_the_database_and_its_backup_go(database, tmp_path):
    assert run("delete", database, "--name", "first", "--yes").exit_code == 0
    done = run("delete", database, "--yes")
    assert done.exit_code == 0, done.output
    assert "all.db and its backup" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["replay.toml"]
    searched(study_of(tmp_path, "second"))
    assert verify(database).problems == []


def test_study_of_plain_optuna_keeps_the_database_and_is_not_deleted(database, tmp_path):
    optuna.create_study(storage=f"sqlite:///{database}", study_name="theirs")
    done = run("delete", database, "--name", "theirs", "--yes")
    assert (done.exit_code, "optuna delete-study" in done.stderr) == (3, True), done.output
    for name in ("first", "second"):
        assert run("delete", database, "--name", name, "--yes").exit_code == 0
    assert query(database, "SELECT study_name FROM studies") == [("theirs",)]
    assert rows(database) == dict.fromkeys(OURS, 0)


def test_nothing_is_deleted_without_a_yes(database, tmp_path):
    done = subprocess.run(
        [*MANYFIT, "delete", str(database), "--name", "first"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    for answer, code, there in (("n", 1, True), ("", 1, True), ("y", 0, False)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*MANYFIT, "delete", str(database), "--name", "first"], stdin=theirs, stderr=subprocess.PIPE, text=True
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, err = process.communicate(timeout=60)
        os.close(ours)
        assert process.returncode == code, err
        assert "this deletes study 'first'" in err
        assert ("first" in records.names(database)) == there


def test_study_that_is_being_searched_is_not_deleted(database, tmp_path):
    with Store.open(database, "second"):
        done = run("delete", database, "--name", "first", "--yes")
        assert (done.exit_code, "works on it" in done.stderr) == (3, True)
    assert records.names(database) == ["first", "second"]
    assert (tmp_path / "first@all.files").exists()


def test_backup_that_can_not_be_made_stops_the_deletion(database, tmp_path):
    (tmp_path / ".all.db.backup.new").mkdir()
    done = run("delete", database, "--name", "first", "--yes")
    assert (done.exit_code, "the backup would bring it back" in done.stderr) == (3, True)
    assert records.names(database) == ["first", "second"]


@pytest.mark.faults
def test_deletion_that_is_killed_at_any_write_is_ended_by_the_next(template, tmp_path):
    expected = table(template / "all.db", "second")
    code = "from pathlib import Path; import sys; from search.storage.deleting import delete; delete(Path(sys.argv[1]), 'first')"
    for at in range(1, 40):
        folder = tmp_path / str(at)
        shutil.copytree(template, folder)
        database = folder / "all.db"
        environment = {**os.environ, "MANYFIT_KILL_AT": str(at)}
        done = subprocess.run([sys.executable, "-c", code, str(database)], env=environment, capture_output=True)
        assert done.returncode in (0, -9), done.stderr
        if "first" in records.names(database):
            assert run("delete", database, "--name", "first", "--yes").exit_code == 0
        assert records.names(database) == records.names(backup_of(database)) == ["second"], at
        assert table(database, "second") == expected
        assert not list(folder.glob("first*"))
        assert verify(database).problems == []
        if done.returncode == 0:
            break
    assert 8 < at < 39


# -- by Optuna -----------------------------------------------------------------------------------------------------------


def test_study_that_optuna_deleted_makes_room_for_new_ones(database, tmp_path):
    """SQLite gives its ids, and those of its trials, to the next study: `UNIQUE constraint failed` for each of them."""
    expected = table(database, "first")
    by_optuna(database, "second")
    assert rows(database)["manyfit_studies"] == 2
    done = run("verify", database)
    assert (done.exit_code, "rows of 1 deleted study are left" in done.stdout) == (0, True), done.output
    for name in ("third", "second"):
        searched(study_of(tmp_path, name))
        assert len(records.load(database, name).trials) == 4
    assert table(database, "first") == expected
    assert records.names(database) == ["first", "third", "second"]
    assert [len(t.curve) for t in records.load(database, "second").trials] == [
        len(row[-1]) for row in table(database, "second")
    ]
    assert verify(database).problems == []
    assert verify(database).deleted == 0


@pytest.mark.parametrize(
    "left", ["trials", "trial_values", "trial_params", "trial_intermediate_values", "trial_user_attributes"]
)
def test_rows_that_a_search_stored_while_optuna_deleted_its_study_are_leftovers_too(database, tmp_path, left):
    """The sample: Optuna deletes the rows that it has read before, so that later ones belong to nothing."""
    expected = table(database, "first")
    of_second = "SELECT trial_id FROM trials JOIN studies USING (study_id) WHERE study_name = 'second'"
    kept = query(database, f"SELECT * FROM {left} WHERE trial_id IN ({of_second})")  # noqa: S608
    by_optuna(database, "second")
    with closing(sqlite3.connect(database)) as connection, connection:
        places = ", ".join("?" * len(kept[0]))
        connection.executemany(f"INSERT INTO {left} VALUES ({places})", kept[:3])  # noqa: S608
    done = run("verify", database)
    assert (done.exit_code, "rows of 1 deleted study are left" in done.stdout) == (0, True), done.output
    searched(study_of(tmp_path, "second"))
    assert table(database, "first") == expected
    assert query(database, "PRAGMA foreign_key_check") == []
    assert verify(database).problems == []


def test_row_that_belongs_to_nothing_is_damage_where_no_study_was_deleted(database):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (99, 0, 1, 'FINITE')"
        )
    assert run("verify", database).exit_code == 3


def test_row_that_is_lost_is_damage_though_another_study_was_deleted(database):
    """Its other rows belong to nothing then, as those of a deleted study do; the backup tells whose they are."""
    (last,) = query(
        database, "SELECT max(trial_id) FROM trials JOIN studies USING (study_id) WHERE study_name = 'first'"
    )[0]
    by_optuna(database, "second")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM trials WHERE trial_id = ?", (last,))
    assert run("verify", database).exit_code == 3
    with closing(sqlite3.connect(database)) as connection, connection:
        leftovers.drop(connection)
    assert query(database, "SELECT count(*) FROM trial_values WHERE trial_id = ?", last) == [(1,)]
    done = run("verify", database, "--restore")
    assert done.exit_code == 0, done.output
    assert len(records.load(database, "first").trials) == 4


def test_what_is_not_ours_in_a_studys_folder_stays(database):
    notes = database.parent / "second@all.files" / "notes.txt"
    notes.write_text("mine")
    done = run("delete", database, "--name", "second", "--yes")
    assert done.exit_code == 0, done.output
    assert notes.read_text() == "mine"
    assert [file.name for file in notes.parent.iterdir()] == ["notes.txt"]


def test_study_that_optuna_deleted_is_not_restored(database, tmp_path):
    """Neither where the next command has made a new backup, nor where the damaged database tells that it was deleted."""
    by_optuna(database, "first")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE trial_values SET value = 7 WHERE value_type = 'FINITE'")
    done = run("verify", database, "--restore")
    assert done.exit_code == 0, done.output
    assert "left out: first, deleted since the backup was made" in done.stdout
    assert records.names(database) == ["second"]
    assert rows(database)["manyfit_studies"] == 1
    by_optuna(database, "second")
    searched(study_of(tmp_path, "third"))
    assert records.names(database) == ["third"]
    assert "second" not in records.names(backup_of(database))


@pytest.mark.parametrize("other", ["third", "first"])
@pytest.mark.parametrize("deleted", [False, True])
def test_database_that_another_one_was_written_over_is_restored_with_all_its_studies(
    database, tmp_path, other, deleted
):
    """A file that knows none of these studies, but others of their names perhaps, tells of no deletion."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    searched(study_of(elsewhere, other))
    if deleted:
        searched(study_of(elsewhere, "fourth"))
        by_optuna(elsewhere / "all.db", "fourth")
    with closing(sqlite3.connect(elsewhere / "all.db")) as connection, connection:
        connection.execute("UPDATE trial_values SET value = 7 WHERE value_type = 'FINITE'")
    shutil.copyfile(elsewhere / "all.db", database)
    done = run("verify", database, "--restore")
    assert done.exit_code == 0, done.output
    assert "left out" not in done.stdout
    assert records.names(database) == ["first", "second"]


@pytest.mark.parametrize("deleted", ["first", "second"])
@pytest.mark.parametrize("again", ["optuna", "manyfit", "optuna, with trials"])
def test_study_that_was_deleted_and_made_again_has_nothing_of_the_first(database, tmp_path, deleted, again):
    other = "second" if deleted == "first" else "first"
    expected = table(database, other)
    by_optuna(database, deleted)
    if again == "manyfit":
        searched(study_of(tmp_path, deleted, trials=2))
        assert len(records.load(database, deleted).trials) == 2
    else:
        study = optuna.create_study(storage=f"sqlite:///{database}", study_name=deleted)
        if "trials" in again:
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
        assert records.names(database) == [other]
        file = study_of(tmp_path, deleted)
        where = ["--name", deleted, "--set", 'run.storage="all.db"']
        for command in (
            ["run", file.path, *where], ["plan", file.path, *where],
            *([word, database, "--name", deleted] for word in ("show", "export", "clean")),
        ):  # fmt: skip
            done = run(*command)
            assert (done.exit_code, done.stderr) == (
                3, f"manyfit: {database} has a study {deleted!r} that manyfit did not make; give another --name\n",
            ), command  # fmt: skip
        assert "`optuna delete-study` deletes it" in run("delete", database, "--name", deleted, "--yes").stderr
        with pytest.raises(StoreError, match="that manyfit did not make"):
            replay_new(file)
        searched(study_of(tmp_path, "third", trials=3))
        assert len(records.load(database, "third").trials) == 3
        assert len(optuna.load_study(study_name=deleted, storage=f"sqlite:///{database}").trials) == (
            5 if "trials" in again else 0
        )
    assert table(database, other) == expected
    assert verify(database).problems == []


@pytest.mark.parametrize("damaged", ["first", "second"])
def test_damaged_study_can_be_deleted_and_no_other_one_while_the_backup_is_its_last_copy(database, damaged):
    other = "second" if damaged == "first" else "first"
    expected, copy = table(database, other), backup_of(database).read_bytes()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE trial_values SET value = 7 WHERE trial_id IN (SELECT trial_id FROM trials JOIN studies USING (study_id) "
            "WHERE study_name = ? AND number = 0)",
            (damaged,),
        )
    done = run("delete", database, "--name", other, "--yes")
    assert (done.exit_code, f"{other!r} was not deleted, for the backup would bring it back: " in done.stderr) == (
        3,
        True,
    )
    assert f"{damaged}: trial 0: its value is 7.0" in done.stderr
    assert "--restore` brings back its backup" in done.stderr
    assert backup_of(database).read_bytes() == copy
    assert run("delete", database, "--name", damaged, "--yes").exit_code == 0
    assert verify(database).problems == []
    for path in (database, backup_of(database)):
        assert records.names(path) == [other]
        assert table(path, other) == expected


def replay_new(file):
    Store.create(file, record(file)).close()


def test_all_studies_deleted_by_optuna_leave_a_database_to_begin_in(database, tmp_path):
    for name in ("first", "second"):
        by_optuna(database, name)
    assert records.names(database) == []
    assert verify(database).problems == []
    assert run("list", database).exit_code == 0
    replay_new(study_of(tmp_path, "first"))
    assert records.load(database, "first").trials == []
    assert rows(database) == {"manyfit_studies": 1, "manyfit_epochs": 0, "manyfit_events": 0}
    assert "second" not in records.names(backup_of(database))


def test_study_that_is_deleted_while_it_is_searched_ends_the_search_and_stays_deleted(tmp_path):
    file = study_of(tmp_path, "first", trials=8)
    searched(study_of(tmp_path, "other"))

    def curves(assignment, epoch):
        if assignment.member.trial == 3 and epoch == 2:
            by_optuna(file.storage, "first")
        return curve(assignment, epoch)

    with Store.create(file, record(file)) as store, pytest.raises(StoreError, match="no study 'first' any more"):
        search(Study(file), store, Replaying(curves), watch=lambda: None)
    assert records.names(file.storage) == ["other"]
    assert verify(file.storage).problems == []
    assert "first" not in records.names(file.storage)


def test_study_that_is_deleted_beside_a_running_one_does_not_end_that(tmp_path):
    """The running one gets the ids of the other's trials, of which our rows are still there."""
    other = study_of(tmp_path, "other", trials=6)
    file = study_of(tmp_path, "first", trials=8)
    alone = tmp_path / "alone"
    alone.mkdir()
    searched(study_of(alone, "first", trials=8))
    searched(study_of(tmp_path, "first", trials=2))
    searched(other)

    def curves(assignment, epoch):
        if assignment.member.trial == 3 and epoch == 2:
            by_optuna(file.storage, "other")
        return curve(assignment, epoch)

    assert len(searched(file, curves).trials) == 8
    assert table(file.storage, "first") == table(alone / "all.db", "first")
    assert verify(file.storage).problems == []


def test_last_trial_that_is_deleted_by_hand_is_searched_again(database, tmp_path):
    expected = table(database, "second")
    (trial_id,) = query(database, "SELECT max(trial_id) FROM trials")[0]
    with closing(sqlite3.connect(database)) as connection, connection:
        for name in all_tables(database):
            if name.startswith("trial"):
                connection.execute(f"DELETE FROM {name} WHERE trial_id = ?", (trial_id,))  # noqa: S608
    searched(study_of(tmp_path, "second"))
    assert table(database, "second") == expected
    assert verify(database).problems == []


def test_clean_database_is_not_written_to_by_looking_for_leftovers(database, tmp_path):
    with closing(connecting.connect(database, readonly=True)) as connection:
        assert not leftovers.are_there(connection)
    found = backup.find(database)
    assert found is not None
    assert len(found.ended) == 8
    assert json.loads(run("verify", database, "--json").stdout)["sound"]
