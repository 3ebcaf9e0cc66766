"""The database: what is in it for Optuna's own clients, who may write it, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import optuna
import pytest
from support import curve, query, replay, replay_file, table
from typer.testing import CliRunner

from search import cli
from search.core.ended import RepeatedFailureError
from search.core.loop import GATHER_S, search
from search.core.study import Study
from search.errors import StoreError
from search.spec.identity import Record
from search.storage import records, schema
from search.storage.store import Store
from search.storage.verify import verify
from search.workers.inprocess import Replaying

RECORD = Record(
    {"engine": "fit", "backend": "jax", "devices": [], "versions": {}}, {"data": {}, "model": {}}, "**a note**"
)


def test_schema_is_the_one_that_the_installed_optuna_writes(tmp_path):
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'plain.db'}")
    assert query(tmp_path / "plain.db", "SELECT schema_version FROM version_info") == [(schema.OPTUNA_SCHEMA,)]
    assert query(tmp_path / "plain.db", "SELECT version_num FROM alembic_version") == [(schema.OPTUNA_REVISION,)]


def test_optuna_loads_the_study_as_its_own(tmp_path):
    file = replay_file(tmp_path, search__early_stopping={"patience": 2})
    stored = replay(file, lanes=4)
    study = optuna.load_study(study_name="replay", storage=f"sqlite:///{file.storage}")
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
    assert study.metric_names == ["val_loss"]
    assert study.best_trial.number == stored.complete[0].number
    assert study.best_value == stored.complete[0].value
    for theirs, ours in zip(study.trials, stored.trials, strict=True):
        assert theirs.number == ours.number
        assert theirs.state.name == ours.state
        assert theirs.params == ours.params
        assert theirs.value == ours.value
        assert list(theirs.intermediate_values.values()) == [m["val_loss"] for m in ours.curve]
        assert theirs.user_attrs["ended"] == ours.ended
        assert theirs.datetime_complete is not None


def test_optuna_dashboard_finds_the_note(tmp_path):
    from optuna_dashboard import get_note

    file = replay_file(tmp_path)
    note = "a line of the note\n" * 400
    with Store.create(file, Record({"versions": {}}, {}, note)):
        pass
    assert get_note(optuna.load_study(study_name="replay", storage=f"sqlite:///{file.storage}")) == note


def test_all_metrics_of_all_epochs_are_kept(tmp_path):
    file = replay_file(tmp_path, study__trials=3, search__pruner="none")
    replay(file)
    rows = query(file.storage, "SELECT epoch, metrics FROM manyfit_epochs ORDER BY trial_id, epoch")
    assert [epoch for epoch, _ in rows] == [*range(1, 10)] * 3
    assert all(set(json.loads(metrics)) == {"loss", "val_loss"} for _, metrics in rows)


def test_what_is_read_back_is_what_was_written(tmp_path):
    file = replay_file(tmp_path)
    study = Study(file)
    with Store.create(file, RECORD) as store:
        search(study, store, Replaying(curve, 3), watch=lambda: None)
    for ours, theirs in zip(study.trials, records.load(file.storage, "replay").trials, strict=True):
        for name in (
            "number",
            "params",
            "config",
            "epochs",
            "members",
            "state",
            "ended",
            "why",
            "curve",
            "value",
            "best_epoch",
        ):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert [training.seed for training in ours.trainings] == [training.seed for training in theirs.trainings]


def test_second_study_goes_into_the_same_database(tmp_path):
    replay(replay_file(tmp_path))
    other = replay_file(tmp_path, study__name="other", study__trials=3)
    with Store.create(other, RECORD) as store:
        study = Study(other)
        search(study, store, Replaying(curve), watch=lambda: None)
    assert records.names(other.storage) == ["replay", "other"]
    assert len(records.load(other.storage, "other").trials) == 3
    assert [trial.number for trial in records.load(other.storage, "replay").trials] == list(range(20))
    assert [brief.trials for brief in records.briefs(other.storage)] == [20, 3]


def test_second_writer_is_refused_and_told_who_holds_it(tmp_path):
    file = replay_file(tmp_path)
    with Store.create(file, RECORD):
        code = (
            "import sys; from pathlib import Path; from search.storage.store import Store\n"
            "try: Store.open(Path(sys.argv[1]), 'replay')\n"
            "except Exception as error: print(type(error).__name__, error); sys.exit(error.exit_code)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(file.storage)], capture_output=True, text=True)
    assert done.returncode == 3
    assert f"process {os.getpid()} on" in done.stdout
    Store.open(file.storage, "replay").close()


def test_lock_ends_with_its_process_however_that_ends(tmp_path):
    file = replay_file(tmp_path)
    Store.create(file, RECORD).close()
    code = "import sys, os; from pathlib import Path; from search.storage.store import Store; s = Store.open(Path(sys.argv[1]), 'replay'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(file.storage)])
    Store.open(file.storage, "replay").close()


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\xff" * 5000, "half", "header"])
def test_damaged_database_is_refused_and_left_as_it_is(tmp_path, content):
    file = replay_file(tmp_path)
    replay(file)
    whole = file.storage.read_bytes()
    content = {"half": whole[: len(whole) // 2], "header": b"\0" * 16 + whole[16:]}.get(content, content)
    file.storage.write_bytes(content)
    for use in (records.load, Store.open):
        with pytest.raises(StoreError):
            use(file.storage, "replay")
    assert file.storage.read_bytes() == content


def test_another_program_that_opens_and_closes_the_database_takes_nothing_from_it(tmp_path):
    """Reading the file by other means than SQLite's gave up the store's locks; its -wal was then deleted by who closed next."""
    file = replay_file(tmp_path)
    replay(file)
    other = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM trials').fetchall(); c.close()"
    )
    with Store.open(file.storage, "replay") as store:
        stored = records.load(file.storage, "replay")
        more = replay_file(tmp_path, study__trials=25)
        study = Study(more, stored.trials)
        store.renew(more)
        subprocess.run([sys.executable, "-c", other, str(file.storage)], check=True)
        assert file.storage.with_name("replay.db-wal").exists()
        search(study, store, Replaying(curve), watch=lambda: None)
        assert len(records.load(file.storage, "replay").trials) == 25
    assert len(records.load(file.storage, "replay").trials) == 25


def theirs(file):
    return optuna.load_study(study_name="replay", storage=f"sqlite:///{file.storage}")


def under_way(study):
    """Add a trial as another search does that has reported an epoch."""
    trial = study.ask()
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.suggest_float("dropout", 0.0, 0.5)
    trial.report(0.3, 1)


ADDED = {
    "enqueue": lambda study: study.enqueue_trial({"learning_rate": 0.01, "dropout": 0.1}),
    "ask": lambda study: study.ask(),
    "ask twice": lambda study: [study.ask(), study.ask()],
    "ask for one parameter": lambda study: study.ask().suggest_float("dropout", 0.0, 0.5),
    "ask and tell": lambda study: study.tell(study.ask(), 0.3),
    "report": under_way,
    "optimize": lambda study: study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1),
}


def take_out(said):
    """Do what an error says."""
    command = shlex.split(said.split("`")[1])
    assert command[0] == "sqlite3"
    with closing(sqlite3.connect(command[1])) as connection, connection:
        connection.execute(command[2])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return table(replay(replay_file(tmp_path_factory.mktemp("undisturbed"), study__trials=8)).path, "replay")


@pytest.mark.parametrize("how", ADDED)
def test_trial_that_another_program_adds_ends_the_search_and_is_taken_out_by_what_that_says(tmp_path, undisturbed, how):
    file = replay_file(tmp_path, study__trials=8)

    def curves(assignment, epoch):
        if assignment.member.trial == 2 and epoch == 1:
            ADDED[how](theirs(file))
        return curve(assignment, epoch)

    with pytest.raises(StoreError, match="another program has added trial"):
        replay(file, curves)
    numbers = [number for (number,) in query(file.storage, "SELECT number FROM trials")]
    assert numbers == list(range(len(numbers)))
    with pytest.raises(StoreError, match="another program has added trial") as again:
        replay(file)
    take_out(str(again.value))
    replay(file)
    assert table(file.storage, "replay") == undisturbed
    assert verify(file.storage).problems == []


@pytest.mark.parametrize("again", [False, True], ids=["new", "resumed"])
@pytest.mark.parametrize("name", ["zzz", 'it\'s a "name"', "Größe 2"])
def test_study_that_is_renamed_ends_the_search_and_is_renamed_back_by_what_that_says(
    tmp_path, undisturbed, name, again
):
    file = replay_file(tmp_path, study__trials=8)
    if again:
        replay(replay_file(tmp_path, study__trials=2))

    def curves(assignment, epoch):
        if assignment.member.trial == 4 and epoch == 1:
            with closing(sqlite3.connect(file.storage)) as connection, connection:
                connection.execute("UPDATE studies SET study_name = ?", (name,))
        return curve(assignment, epoch)

    with pytest.raises(StoreError) as refused:
        replay(file, curves)
    assert f"study 'replay' was renamed to {name!r} while this command worked on it" in str(refused.value)
    take_out(str(refused.value))
    replay(file)
    assert table(file.storage, "replay") == undisturbed


@pytest.mark.parametrize("how", ADDED)
def test_trial_that_another_program_adds_is_not_deleted_with_those_of_a_mended_builder(tmp_path, how):
    file = replay_file(tmp_path, study__trials=2)

    def failing(assignment, epoch):
        raise ValueError("not yet")

    assert [trial.state for trial in replay(file, failing).trials] == ["FAIL"] * 2
    with Store.open(file.storage, "replay") as store:
        ADDED[how](theirs(file))
        with pytest.raises(StoreError, match=r"another program has added trials? 2"):
            store.renew(file, anew={"failed": 2})
    assert query(file.storage, "SELECT count(*) FROM trials WHERE number >= 2")[0][0] >= 1
    assert query(file.storage, "SELECT count(*) FROM trials WHERE number < 2") == [(2,)]
    assert query(file.storage, "SELECT 1 FROM manyfit_events WHERE kind = 'builder mended'") == []


def test_trials_of_a_mended_builder_are_deleted_and_drawn_again(tmp_path, undisturbed):
    file = replay_file(tmp_path, study__trials=8)

    def failing(assignment, epoch):
        raise ValueError("not yet")

    with pytest.raises(RepeatedFailureError):
        replay(file, failing)
    with Store.open(file.storage, "replay") as store:
        store.renew(file, anew={"failed": 3})
        theirs(file).enqueue_trial({"learning_rate": 0.01, "dropout": 0.1})
        with pytest.raises(StoreError, match="another program has added trial 0") as refused:
            search(Study(file), store, Replaying(curve), watch=lambda: None)
    take_out(str(refused.value))
    replay(file)
    assert table(file.storage, "replay") == undisturbed


@pytest.mark.parametrize("how", ADDED)
@pytest.mark.parametrize("trials", [4, 8], ids=["begun", "finished"])
def test_trial_that_another_program_adds_between_two_commands_is_told_and_nothing_is_lost(
    tmp_path, undisturbed, how, trials
):
    file = replay_file(tmp_path, study__trials=trials)
    replay(file)
    ADDED[how](theirs(file))
    with pytest.raises(StoreError, match=f"another program has added trials? {trials}") as refused:
        replay(file)
    report = verify(file.storage)
    assert [str(problem) for problem in report.problems] == [f"replay: {refused.value}"]
    assert not report.is_damaged
    take_out(str(refused.value))
    replay(replay_file(tmp_path, study__trials=8))
    assert table(file.storage, "replay") == undisturbed
    assert verify(file.storage).problems == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM trials WHERE number = 2", "belongs to nothing in trials"),
        ("UPDATE trials SET number = 1 WHERE number = 2", "trial 2: is missing"),
    ],
)
def test_no_search_goes_on_with_trials_that_are_not_numbered_in_a_row(tmp_path, change, says):
    file = replay_file(tmp_path, study__trials=4)
    replay(file)
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        connection.execute(change)
    with pytest.raises(StoreError, match=f"is damaged: .*{says}"):
        replay(file)
    assert len(records.load(file.storage, "replay").trials) in (3, 4)


def test_other_programs_may_read_and_write_notes_and_attributes(tmp_path, undisturbed):
    from optuna_dashboard import get_note, save_note

    file = replay_file(tmp_path, study__trials=8)

    def curves(assignment, epoch):
        if assignment.member.trial in (2, 5) and epoch == 1:
            time.sleep(GATHER_S)  # its epoch is stored in the next tick
        if assignment.member.trial in (2, 5) and epoch == 3:
            study = theirs(file)
            study.set_user_attr("mine", "a study's")
            save_note(study, "a note of mine")
            for trial in study.trials:
                live = optuna.trial.Trial(study, trial._trial_id)
                save_note(live, f"a note of trial {trial.number}")
                if not trial.state.is_finished():
                    live.set_user_attr("mine", "a trial's")
        return curve(assignment, epoch)

    replay(file, curves)
    replay(file)
    assert table(file.storage, "replay") == undisturbed
    assert verify(file.storage).problems == []
    study = theirs(file)
    assert (study.user_attrs["mine"], get_note(study)) == ("a study's", "a note of mine")
    assert "a trial's" in [trial.user_attrs.get("mine") for trial in study.trials]


def test_folder_in_the_place_of_a_database_is_refused(tmp_path):
    with pytest.raises(StoreError, match="can't be read"):
        records.load(tmp_path, "replay")


def test_database_of_plain_optuna_is_refused(tmp_path):
    file = replay_file(tmp_path)
    optuna.create_study(storage=f"sqlite:///{file.storage}", study_name="replay")
    with pytest.raises(StoreError, match="plain Optuna"):
        Store.create(file, RECORD)


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ("UPDATE alembic_version SET version_num = 'v3.0.0.d'", "optuna storage upgrade --storage sqlite:///replay.db"),
        ("UPDATE alembic_version SET version_num = 'v9.9.9.a'", "run `git pull` in manyfit's folder"),
        ("UPDATE version_info SET schema_version = 11", "optuna storage upgrade"),
        ("UPDATE version_info SET schema_version = 13", "run `git pull` in manyfit's folder"),
        ("DELETE FROM alembic_version", "optuna storage upgrade"),
        ("UPDATE manyfit_studies SET format = 2", "run `git pull` in manyfit's folder"),
        (
            "UPDATE manyfit_studies SET format = 0",
            "run `git log -S0 -- search/__init__.py` in manyfit's folder for the commit to check out",
        ),
    ],
)
def test_another_schema_is_refused_with_the_command_to_run(tmp_path, change, command):
    file = replay_file(tmp_path)
    replay(file)
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        connection.execute(change)
    before = file.storage.read_bytes()
    for use in (records.load, Store.open):
        with pytest.raises(StoreError, match=command):
            use(file.storage, "replay")
    with pytest.raises(StoreError, match=command):
        Store.create(replay_file(tmp_path, study__name="second"), RECORD)
    for shown in (["dashboard", "--port", "0"], ["clean"], ["show"], ["export"], ["list"]):
        done = CliRunner().invoke(cli.app, [*shown, str(file.path)])
        assert (done.exit_code, command in done.stderr) == (3, True), done.output
    assert file.storage.read_bytes() == before


def test_full_disk_is_said_and_loses_nothing_of_before(tmp_path):
    file = replay_file(tmp_path, study__trials=400)
    study = Study(file)
    store = Store.create(file, RECORD)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    with store, pytest.raises(StoreError, match=r"disk is full.*all earlier trials are in it"):
        search(study, store, Replaying(curve), watch=lambda: None)
    with closing(sqlite3.connect(file.storage)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept = records.load(file.storage, "replay").trials
    assert kept
    assert [trial.number for trial in kept] == list(range(len(kept)))
    assert len(replay(file).trials) == 400


def test_writer_waits_for_a_lock_that_another_program_holds(tmp_path):
    file = replay_file(tmp_path, study__trials=3)
    Store.create(file, RECORD).close()
    holder = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read(); c.execute('COMMIT')"
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(file.storage)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    stored_by_then = []

    def while_waiting() -> int:
        if process.poll() is None:
            stored_by_then.append(len(records.load(file.storage, "replay").trials))
            process.communicate()  # lets go of the lock
        return 0

    assert len(replay(file, interruption=while_waiting).trials) == 3
    assert stored_by_then == [0]
    assert process.wait() == 0


def test_one_trial_costs_few_transactions(tmp_path):
    file = replay_file(tmp_path, study__trials=50, search__pruner="none")
    study = Study(file)
    with Store.create(file, RECORD) as store:
        search(study, store, Replaying(curve), watch=lambda: None)
        assert store.commits <= 2 * 50
