"""`manyfit run` as people meet it: real commands, real training, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import optuna
import pytest
from support import (
    ROOT,
    children,
    cut_off,
    end,
    is_alive,
    manyfit,
    query,
    replay_file,
    start,
    table,
    wait_for,
    write_study,
)

from search.storage import records

pytestmark = pytest.mark.slow

# One trial at a time, slowly enough to be met in the middle of it.
FIT = ("--set", "run.engine=fit", "--set", "run.backend=jax")
BUILDER = """
import keras


def build(config, data):
    layers = [keras.layers.Dense(units, "relu") for units in config["units"]]
    layers += [keras.layers.Dropout(config["dropout"]), keras.layers.Dense(data.classes)]
    return keras.Sequential([keras.Input(data.input_shape), *layers])
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small study, searched to its end by the real command."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_study(folder, trials=6, epochs=5)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    return path, done


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a study of four trials comes to if nothing disturbs it."""
    path = write_study(tmp_path_factory.mktemp("undisturbed"), trials=4, epochs=5)
    assert manyfit("run", path, *FIT).returncode == 0
    return table(path.with_suffix(".db"), "small")


def test_run_prints_the_best_config_and_writes_best_json(finished):
    path, done = finished
    best = json.loads(done.stdout)
    document = json.loads(path.with_name("small.best.json").read_text(), parse_constant=pytest.fail)
    jsonschema.validate(document, json.loads((ROOT / "search" / "views" / "best.schema.json").read_text()))
    assert document["configs"][0]["params"] == best["params"]
    values = [config["value"] for config in document["configs"]]
    assert values == sorted(values, reverse=True)
    curve = document["configs"][0]["curve"]
    assert set(curve) == {"accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"}
    assert max(curve["val_accuracy"]) == curve["val_accuracy"][best["epoch"] - 1] == best["value"]
    assert document["identity"]["data"]["fingerprint"]
    assert "best so far" in done.stderr


def test_confirm_trains_the_best_configs_again_and_writes_both_numbers_to_best_json(finished, tmp_path):
    path = Path(shutil.copytree(finished[0].parent, tmp_path / "copy")) / "small.toml"
    before = sorted(file.name for file in path.parent.iterdir())
    done = manyfit("confirm", path, "--top", 1, "--repeats", 3, "--json")
    assert done.returncode == 0, done.stderr
    (config,) = json.loads(done.stdout)["configs"]
    document = json.loads(path.with_name("small.best.json").read_text(), parse_constant=pytest.fail)
    jsonschema.validate(document, json.loads((ROOT / "search" / "views" / "best.schema.json").read_text()))
    assert document["configs"][0]["confirmed"]["values"] == config["values"]
    assert len({*config["values"], config["value"]}) > 1
    assert sorted(file.name for file in path.parent.iterdir()) == before
    assert "study 'small.confirm' begins" in path.with_name("small.log").read_text()
    shown = manyfit("confirm", path)  # nothing left to train
    assert f"trial {config['trial']} had " in shown.stdout
    assert shown.stderr == ""


@pytest.mark.gallery
def test_confirm_goes_on_after_an_interrupt_and_refuses_another_builder(tmp_path):
    (tmp_path / "mine.py").write_text(BUILDER)
    path = write_study(tmp_path, trials=3, epochs=2)
    settings = ("--set", 'model.build="mine.py:build"', *FIT)
    assert manyfit("run", path, *settings).returncode == 0
    (tmp_path / "mine.py").write_text(BUILDER + "# changed\nfactor = 2\n")
    changed = manyfit("confirm", path.with_suffix(".db"), "--top", 1, "--repeats", 2)
    assert changed.returncode == 2
    assert "the builder's source has changed: mine.py" in changed.stderr
    assert records.names(path.with_suffix(".db")) == ["small"]
    (tmp_path / "mine.py").write_text(BUILDER)
    cut = start("confirm", path.with_suffix(".db"), "--top", 1, "--repeats", 10)
    wait_for(lambda: "small.confirm" in records.names(path.with_suffix(".db")), "the first trial")
    code, _, stderr = end(cut, signal.SIGINT)
    assert code == 130, stderr
    assert "of 10 trials done, all of it stored; the same command goes on" in stderr
    done = manyfit("confirm", path, "--json")
    assert done.returncode == 0, done.stderr
    assert "going on: " in done.stderr
    assert len(json.loads(done.stdout)["configs"][0]["values"]) == 10


def test_optunas_own_clients_read_the_study(finished):
    path, done = finished
    url = f"sqlite:///{path.with_suffix('.db')}"
    study = optuna.load_study(study_name="small", storage=url)
    assert len(study.trials) == 6
    assert study.best_params == json.loads(done.stdout)["params"]
    for command in (
        ["trials", "--study-name", "small", "-f", "json"],
        ["best-trial", "--study-name", "small", "-f", "json"],
    ):
        said = subprocess.run(
            [Path(sys.executable).with_name("optuna"), *command, "--storage", url], capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        assert json.loads(said.stdout)


def test_finished_study_says_so_and_a_raised_budget_goes_on(finished):
    path, _ = finished
    before = table(path.with_suffix(".db"), "small")
    again = manyfit("run", path)
    assert again.returncode == 0
    assert "nothing left to do: 6 of 6 trials are done" in again.stderr
    assert table(path.with_suffix(".db"), "small") == before
    more = manyfit("run", path, "--trials", 8, "--set", "run.devices=2")
    assert more.returncode == 0, more.stderr
    after = table(path.with_suffix(".db"), "small")
    assert after[:6] == before
    assert len(after) == 8
    assert "devices changed: was ['cpu'], now ['cpu', 'cpu']" in manyfit("show", path).stdout


def test_changed_study_is_refused_with_the_difference_and_nothing_changes(finished):
    """B3."""
    path, _ = finished
    database = path.with_suffix(".db")
    before = database.read_bytes()
    refused = manyfit("run", path, "--set", "space.dropout.high=0.6", "--seed", 3)
    assert refused.returncode == 2
    assert "space.dropout.high: was 0.5, now 0.6" in refused.stderr
    assert "seed: was 0, now 3" in refused.stderr
    assert manyfit("plan", path, "--set", "space.dropout.high=0.6").returncode == 2
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.faults)]
)
def test_interrupted_study_leaves_nothing_running_and_comes_out_the_same(tmp_path, undisturbed, number, code):
    disturbed = write_study(tmp_path, trials=4, epochs=5)
    first = start("run", disturbed, *FIT)
    database = disturbed.with_suffix(".db")
    # In the middle of a trial: some epochs of the third are there.
    wait_for(
        lambda: query(database, "SELECT 1 FROM trials t JOIN manyfit_epochs USING (trial_id) WHERE number = 2"),
        "trial 2",
    )
    workers = children(first.pid)
    assert workers
    returncode, out, err = end(first, number)
    assert returncode == code, err
    assert out == ""
    assert not [pid for pid in workers if is_alive(pid)]
    assert query(database, "SELECT count(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]
    assert json.loads(disturbed.with_name("small.best.json").read_text())["format"] == 1
    assert manyfit("run", disturbed).returncode == 0
    assert table(database, "small") == undisturbed


def test_study_interrupted_before_its_first_trial_leaves_nothing_behind(tmp_path):
    path = write_study(tmp_path)
    process = start("run", path)
    wait_for(lambda: children(process.pid), "a worker")
    returncode, _, err = end(process, signal.SIGINT)
    assert returncode == 130
    assert "the same command starts it" in err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ticks", [1, 12])
def test_study_interrupted_while_it_resumes_is_not_said_to_start(tmp_path, ticks):
    file = replay_file(tmp_path, study__trials=12)
    cut_off(file, after=ticks)
    before = table(file.storage, "replay")
    process = start("run", file.path)
    wait_for(lambda: children(process.pid), "a worker")
    returncode, _, err = end(process, signal.SIGINT)
    assert returncode == 130
    assert "the same command continues the study" in err
    assert "first trial" not in err
    # Trials of a process that has died are stored as waiting.
    assert [row[4:] for row in table(file.storage, "replay")] == [row[4:] for row in before]


def test_killed_coordinator_leaves_no_orphans_and_the_study_goes_on(tmp_path, undisturbed):
    path = write_study(tmp_path, trials=4, epochs=5)
    database = path.with_suffix(".db")
    first = start("run", path, *FIT)
    wait_for(lambda: query(database, "SELECT 1 FROM manyfit_epochs"), "an epoch")
    workers = children(first.pid)
    second = manyfit("run", path)
    assert second.returncode == 3
    assert f"process {first.pid} on" in second.stderr
    end(first, signal.SIGKILL)
    wait_for(lambda: not [pid for pid in workers if is_alive(pid)], "the workers' end", timeout=5)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert table(database, "small") == undisturbed


@pytest.mark.faults
def test_killed_worker_is_replaced_and_no_trial_is_lost(tmp_path, undisturbed):
    disturbed = write_study(tmp_path, trials=4, epochs=5)
    process = start("run", disturbed, *FIT)
    database = disturbed.with_suffix(".db")
    wait_for(
        lambda: query(database, "SELECT 1 FROM trials t JOIN manyfit_epochs USING (trial_id) WHERE number = 1"),
        "trial 1",
    )
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)
    assert table(database, "small") == undisturbed
    assert "worker lost" in manyfit("show", disturbed).stdout


@pytest.mark.gallery
def test_jax_backend_searches_too_and_gives_the_same_twice(tmp_path):
    tables = []
    for name in ("one", "two"):
        path = write_study(tmp_path, name=name, trials=3)
        done = manyfit("run", path, "--backend", "jax")
        assert done.returncode == 0, done.stderr
        tables.append(table(path.with_suffix(".db"), name))
    assert tables[0] == tables[1]
    refused = manyfit("run", tmp_path / "one.toml", "--backend", "tensorflow", "--trials", 5)
    assert refused.returncode == 2
    assert "was started on jax" in refused.stderr


def test_two_workers_share_a_study(tmp_path):
    path = write_study(tmp_path, trials=6)
    done = manyfit("run", path, "--set", "run.devices=2")
    assert done.returncode == 0, done.stderr
    database = path.with_suffix(".db")
    assert sorted(query(database, "SELECT number FROM trials")) == [(n,) for n in range(6)]
    # Two at a time: the second began before the first had ended.
    moments = dict(query(database, "SELECT number, datetime_start FROM trials WHERE number = 1"))
    ends = dict(query(database, "SELECT number, datetime_complete FROM trials WHERE number = 0"))
    assert moments[1] < ends[0]


@pytest.mark.faults
def test_worker_that_has_grown_is_replaced_between_trials(tmp_path):
    path = write_study(tmp_path, trials=3)
    done = manyfit("run", path, "--set", "run.worker_memory=200MB", *FIT)
    assert done.returncode == 0, done.stderr
    assert path.with_name("small.log").read_text().count("and is replaced") >= 2


def test_quiet_run_says_nothing_but_its_data(tmp_path):
    path = write_study(tmp_path, trials=1, epochs=1)
    done = manyfit("run", path, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["trial"] == 0
