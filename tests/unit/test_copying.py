"""Copying and renaming a study: what the copy holds, that it goes on like its original, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import optuna
import pytest
from support import curve, query, record, replay, replay_file, table
from typer.testing import CliRunner

from search import arrayfile, cli
from search.core.loop import search
from search.core.study import Study
from search.errors import Interrupted
from search.storage import connecting, records
from search.storage.holding import hold
from search.storage.paths import backup_of
from search.storage.store import Store
from search.storage.verify import verify
from search.trials.events import Member
from search.trials.files import StudyFiles
from search.workers.inprocess import Replaying


def run(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def study_of(folder, name, trials=4):
    return replay_file(folder, study__name=name, study__trials=trials, run__storage="all.db")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two finished studies in one database, the second with files beside it."""
    folder = tmp_path_factory.mktemp("template")
    for name in ("other", "first"):
        file = study_of(folder, name)
        if not file.storage.exists():
            replay(file)
            continue
        with Store.create(file, record(file)) as store:
            search(Study(file), store, Replaying(curve), watch=lambda: None)
    files = StudyFiles(file.storage, "first")
    (files.callbacks / "CSVLogger").mkdir(parents=True)
    (files.callbacks / "CSVLogger" / "trial-0.csv").write_text("epoch,loss\n0,0.5\n")
    arrayfile.write(files.weights(Member(1)), {"w": np.random.default_rng(0).random(150_000)}, {})
    files.log.write_text("began\n")
    files.log.with_name(f"{files.log.name}.1").write_text("before\n")
    files.check_page.write_text("checked\n")
    assert run("export", file.storage, "--name", "first", "-o", files.best).exit_code == 0
    return folder


@pytest.fixture
def database(template, tmp_path):
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "all.db"


def contents(files):
    """Return the content of each file of a study but best.json, by its place."""
    logs = {f"log{number}": files.log.with_name(f"{files.log.name}{number}") for number in ("", ".1")}
    logs["check"] = files.check_page
    inner = {str(path.relative_to(files.folder)): path for path in files.folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in {**logs, **inner}.items() if path.exists()}


def whole(database, name):
    """Return all that is stored of a study but its name, its ids and its place."""
    stored = records.load(database, name)
    return table(database, name), stored.events, stored.study_attrs, stored.resolved, stored.identity, stored.spent


def by_optuna(database, name):
    """Return a study as Optuna reads it."""
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{database}")
    trials = [
        (t.number, t.state, t.values, t.params, t.distributions, t.intermediate_values, t.user_attrs, t.system_attrs,
         t.datetime_start, t.datetime_complete)
        for t in study.trials
    ]  # fmt: skip
    return study.direction, study.metric_names, study.user_attrs, trials


def test_copy_in_the_same_database_holds_all_and_changes_nothing(database):
    before, seen = whole(database, "first"), by_optuna(database, "first")
    done = run("copy", database, "--from", "first", "--name", "second", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    files = StudyFiles(database, "second")
    assert (told["name"], told["database"], told["trials"]) == ("second", str(database), 4)
    assert told["bytes"] == sum(map(len, contents(files).values()))
    assert sorted(told["files"]) == sorted(map(str, [files.folder, files.log, f"{files.log}.1", files.check_page]))
    assert records.names(database) == ["other", "first", "second"]
    assert whole(database, "first") == whole(database, "second") == before
    assert by_optuna(database, "first") == by_optuna(database, "second") == seen
    assert contents(files) == contents(StudyFiles(database, "first"))
    assert len(contents(files)) == 5
    best = [json.loads(StudyFiles(database, name).best.read_text()) for name in ("first", "second")]
    assert best[1]["study"] == "second"
    assert best[0]["configs"] == best[1]["configs"]
    assert verify(database).problems == []
    assert records.names(backup_of(database)) == ["other", "first", "second"]


def test_copies_of_copies_in_one_database(database):
    for old, new in itertools.pairwise(["first", "second", "third", "fourth"]):
        assert run("copy", database, "--from", old, "--name", new).exit_code == 0
    assert whole(database, "fourth") == whole(database, "first")
    assert verify(database).problems == []


@pytest.mark.parametrize("is_there", [False, True])
def test_copy_to_another_database(database, tmp_path, is_there):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    if is_there:
        replay(study_of(folder, "third", trials=7))
    target = folder / "all.db"
    before = database.read_bytes()
    assert run("copy", database, "--from", "first", "--to", target).exit_code == 0
    assert whole(target, "first") == whole(database, "first")
    assert by_optuna(target, "first") == by_optuna(database, "first")
    assert contents(StudyFiles(target, "first")) == contents(StudyFiles(database, "first"))
    assert records.names(target) == (["third"] if is_there else []) + ["first"]
    assert (database.read_bytes() == before, verify(target).problems) == (True, [])
    assert records.load(target, "first").file.storage == target
    again = run("copy", database, "--from", "first", "--to", target)
    assert (again.exit_code, "is a copy already" in again.stderr) == (0, True)


def test_copy_of_half_a_study_goes_on_like_its_original(tmp_path):
    folder = tmp_path / "whole"
    folder.mkdir()
    expected = table(replay(study_of(folder, "first", trials=12)).path, "first")
    calls = itertools.count()
    half = study_of(tmp_path, "first", trials=12)
    with pytest.raises(Interrupted):
        replay(half, interruption=lambda: 2 if next(calls) > 20 else 0)
    database = half.storage
    assert 0 < len(records.load(database, "first").trials) < 12
    assert run("copy", database, "--from", "first", "--name", "second").exit_code == 0
    for name in ("second", "first"):
        replay(study_of(tmp_path, name, trials=12))
        assert table(database, name) == expected


def test_renamed_study_is_the_copy_alone(database, tmp_path):
    before, seen, files = whole(database, "first"), by_optuna(database, "first"), StudyFiles(database, "first")
    inner = contents(files)
    done = run("rename", database, "--from", "first", "--name", "second")
    assert done.exit_code == 0, done.output
    assert records.names(database) == records.names(backup_of(database)) == ["other", "second"]
    assert (whole(database, "second"), by_optuna(database, "second")) == (before, seen)
    assert contents(StudyFiles(database, "second")) == inner
    assert not [path for path in files.all() if path.exists()]
    assert json.loads(StudyFiles(database, "second").best.read_text())["study"] == "second"
    assert verify(database).problems == []
    assert run("rename", database, "--from", "second", "--name", "first").exit_code == 0
    assert (whole(database, "first"), contents(files)) == (before, inner)


def test_notes_of_the_dashboard_follow_their_trials(database):
    study = optuna.load_study(study_name="first", storage=f"sqlite:///{database}")
    for trial in study.trials[:2]:
        study._storage.set_study_system_attr(
            study._study_id, f"dashboard:{trial._trial_id}:note_str:0", f"of {trial.number}"
        )
    assert run("copy", database, "--from", "first", "--name", "second").exit_code == 0
    copied = optuna.load_study(study_name="second", storage=f"sqlite:///{database}")
    notes = copied._storage.get_study_system_attrs(copied._study_id)
    assert {f"dashboard:{t._trial_id}:note_str:0": f"of {t.number}" for t in copied.trials[:2]}.items() <= notes.items()


def test_note_that_was_written_after_a_copy_is_not_lost_by_a_rename(database):
    assert run("copy", database, "--from", "first", "--name", "second").exit_code == 0
    study = optuna.load_study(study_name="first", storage=f"sqlite:///{database}")
    study.set_user_attr("mine", "kept")
    done = run("rename", database, "--from", "first", "--name", "second")
    assert (done.exit_code, "has a study 'second' already" in done.stderr) == (3, True)
    assert by_optuna(database, "first")[2] == {"mine": "kept"}


@pytest.mark.parametrize("has_table", [False, True])
def test_rows_of_another_programs_table_are_copied_where_it_is_there(database, tmp_path, has_table):
    """A table without a key, too."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE tags (trial_id INTEGER, tag TEXT)")
        connection.execute("INSERT INTO tags SELECT trial_id, 'good' FROM trials WHERE number = 1")
    target = database if has_table else tmp_path / "new.db"
    assert run("copy", database, "--from", "first", "--name", "second", "--to", target).exit_code == 0
    assert whole(target, "second") == whole(database, "first")
    count = "SELECT count(*) FROM tags JOIN trials USING (trial_id) JOIN studies USING (study_id) WHERE study_name = ?"
    if has_table:
        assert query(database, count, "second") == [(1,)]


def test_files_behind_a_link_are_copied(database, tmp_path):
    files, elsewhere = StudyFiles(database, "first"), tmp_path / "elsewhere"
    files.callbacks.rename(elsewhere)
    files.callbacks.symlink_to(elsewhere)
    inner = {"log", "log.1", "check", "trial-1.npz", "callbacks/CSVLogger/trial-0.csv"}
    assert run("rename", database, "--from", "first", "--name", "second").exit_code == 0
    assert contents(StudyFiles(database, "second")).keys() == inner


def test_copy_that_fails_leaves_no_empty_database(database, tmp_path):
    target = tmp_path / "new.db"
    (tmp_path / "second@new.log").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    done = run("copy", database, "--from", "first", "--name", "second", "--to", target)
    assert (done.exit_code, "is there already" in done.stderr) == (3, True), done.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["copy"], 2, "copy needs to know where to"),
        (["copy", "--name", "first"], 2, "is its name in"),
        (["copy", "--name", "other"], 3, "has a study 'other' already; give another --name"),
        (["rename", "--name", "other"], 3, "has a study 'other' already; give another --name"),
        (["rename", "--name", "first"], 2, "is its name in"),
        (["rename", "--name", "a/b"], 2, "a/b"),
        (["copy", "--to", "nowhere/all.db"], 2, "is no folder; make it"),
        (["copy", "--to", "."], 2, "is no file that a database can be in"),
        (["copy", "--to", "/dev/null"], 2, "is no file that a database can be in"),
        (["copy", "--to", "replay.toml"], 3, "replay.toml"),
        (["copy", "--to", "circle.db"], 2, "links lead in a circle"),
        (["copy", "--name", "of-optuna"], 3, "that manyfit did not make"),
        (["copy", "--name", "second", "--from", "none"], 3, "has no study 'none'"),
    ],
)
def test_what_can_not_be_copied_is_refused_and_nothing_changes(database, tmp_path, monkeypatch, words, code, said):
    optuna.create_study(study_name="of-optuna", storage=f"sqlite:///{database}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    (tmp_path / "circle.db").symlink_to("circle.db")
    monkeypatch.chdir(tmp_path)
    command, *words = words
    source = [] if "--from" in words else ["--from", "first"]
    done = run(command, database, *source, *words)
    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert after == before


@pytest.mark.parametrize("place", ["log", "best", "trial-1.npz", "trial-9.npz"])
def test_files_in_the_way_are_kept_and_named(database, place):
    files = StudyFiles(database, "second")
    path = getattr(files, place, files.folder / place)
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    done = run("copy", database, "--from", "first", "--name", "second")
    assert (done.exit_code, f"{path} is there already" in done.stderr) == (3, True), done.output
    assert (path.read_text(), records.names(database)) == ("mine", ["other", "first"])
    assert contents(files) in ({}, {place: b"mine"})


def test_database_that_is_held_is_not_copied(database, tmp_path):
    with hold(database):
        done = run("copy", database, "--from", "first", "--name", "second")
    assert done.exit_code == 3
    assert records.names(database) == ["other", "first"]
    replay(study_of((folder := tmp_path / "x").mkdir() or folder, "third"))
    with hold(folder / "all.db"):
        assert run("copy", database, "--from", "first", "--to", folder / "all.db").exit_code == 3


def test_disk_that_is_full_leaves_no_half(database, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))"
    command = f"import sys; from pathlib import Path; {limit}; from search.cli import main; sys.argv[1:] = {['copy', str(database), '--from', 'first', '--name', 'second']!r}; main()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert (done.returncode, "nothing was copied" in done.stderr) == (3, True), done.stderr
    assert records.names(database) == ["other", "first"]
    assert contents(StudyFiles(database, "second")) == {}


@pytest.mark.faults
@pytest.mark.parametrize("command", ["copy", "copy --to", "rename"])
def test_copy_that_is_killed_at_any_write_is_completed_by_the_next(template, tmp_path, command):
    expected, inner = whole(template / "all.db", "first"), contents(StudyFiles(template / "all.db", "first"))
    for at in range(1, 80):
        folder = tmp_path / str(at)
        shutil.copytree(template, folder)
        database = folder / "all.db"
        target = folder / "new.db" if "--to" in command else database
        words = [command.split()[0], database, "--from", "first", "--name", "second"]
        words += ["--to", target] if "--to" in command else []
        line = [sys.executable, "-m", "manyfit", *map(str, words)]
        done = subprocess.run(line, env={**os.environ, "MANYFIT_KILL_AT": str(at)}, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        if command != "rename":
            assert whole(database, "first") == expected
        if done.returncode and "first" in records.names(database):
            again = run(*words)
            assert again.exit_code == 0, (again.output, done.stderr)
        assert whole(target, "second") == expected, done.stderr
        assert contents(StudyFiles(target, "second")) == inner
        assert StudyFiles(target, "second").best.exists()
        kept = ["other"] if command == "rename" else ["other", "first"]
        assert [name for name in records.names(database) if name != "second"] == kept
        assert verify(target).problems == []
        with closing(connecting.connect(target, readonly=True, whole=True)):
            pass
        if done.returncode == 0:
            break
    assert 12 < at < 79
    assert query(target, "SELECT count(*) FROM studies WHERE study_name = 'second'") == [(1,)]
