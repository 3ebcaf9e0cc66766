"""Splits through the real command: the split's own seed, studies from before there was one, groups, windows."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from support import end, in_keras, manyfit, query, start, wait_for, write_study

from search.storage.records import load

pytestmark = pytest.mark.slow

SERIES = """
[study]
objective = "val_loss"
trials = 3
epochs = 4
[data]
source = "series.csv"
target = "level"
order = "day"
window = 12
horizon = 2
scale = "standard"
[model]
build = "my_model.py:build"
[train]
optimizer = "sgd"
batch_size = 16
[space]
learning_rate = {{ low = 1e-3, high = 1e-2, log = true }}
dropout = {{ low = 0.0, high = 0.3 }}
[search]
sampler = "random"
pruner = "none"
[run]
engine = "{engine}"
backend = "jax"
"""

MODEL = """
import keras


def build(config, data):
    return keras.Sequential([
        keras.Input(data.input_shape),
        keras.layers.Conv1D(6, 3, activation="relu"),
        keras.layers.LSTM(5),
        keras.layers.Dropout(config["dropout"]),
        keras.layers.Dense(data.outputs),
    ])
"""

STUDY = """
[study]
objective = "val_loss"
trials = {trials}
epochs = 2
seed = {seed}
[data]
source = "rows.csv"
target = "price"
{data}
[model]
units = [4]
[space]
learning_rate = {{ low = 1e-3, high = 1e-1, log = true }}
[search]
sampler = "random"
pruner = "none"
[run]
engine = "fit"
backend = "jax"
"""


def study(folder, *, trials=2, seed=0, data="", name="s"):
    return write_study(folder, STUDY.format(trials=trials, seed=seed, data=data), name=name)


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    rows = random.normal(size=(120, 2))
    lines = [f"{a},{b},{row // 6},{a - b}" for row, (a, b) in enumerate(rows.tolist())]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,house,price", *lines]) + "\n")
    return tmp_path


def fingerprint(path, name="s"):
    return load(path.with_suffix(".db"), name).identity["data"]["fingerprint"]


@pytest.mark.gallery
def test_another_seed_of_the_search_compares_on_the_same_rows(table):
    seen = {}
    for name, seed, data in (("a", 0, ""), ("b", 5, ""), ("c", 0, "seed = 5"), ("d", 5, "seed = 5")):
        path = study(table, seed=seed, data=data, name=name)
        done = manyfit("run", path)
        assert done.returncode == 0, done.stderr
        seen[name] = fingerprint(path, name)
    assert seen["a"] == seen["b"] != seen["c"] == seen["d"]
    changed = manyfit("run", study(table, trials=3, data="seed = 6", name="d", seed=5))
    assert changed.returncode == 2
    assert "data.seed: was 5, now 6" in changed.stderr


def forget_the_seed(path):
    """Make a database that of a version without data.seed, whose studies were split by the study's seed."""
    with closing(sqlite3.connect(path.with_suffix(".db"))) as database, database:
        tables = database.execute("SELECT settings, identity FROM manyfit_studies").fetchone()
        settings, identity = map(json.loads, tables)
        for key in ("seed", "exif"):
            del settings["data"][key], identity["data"][key]
        changed = json.dumps(settings), json.dumps(identity)
        database.execute("UPDATE manyfit_studies SET settings = ?, identity = ?", changed)


@pytest.mark.gallery
def test_study_from_before_the_splits_own_seed_goes_on_with_its_rows(table):
    path = study(table, seed=5, data="seed = 5")
    assert manyfit("run", path).returncode == 0
    before = fingerprint(path)
    forget_the_seed(path)
    study(table, seed=5)
    for trials in (3, 4):
        study(table, seed=5, trials=trials)
        assert json.loads(manyfit("plan", "--json", path).stdout)["trials"] == trials
        done = manyfit("run", path)
        assert done.returncode == 0, done.stderr
        stored = load(path.with_suffix(".db"), "s")
        assert (len(stored.trials), fingerprint(path)) == (trials, before)
        assert (stored.file.settings.data.seed, stored.file.settings.data.exif) == (5, False)
    done = manyfit("run", path.with_suffix(".db"), "--set", "study.trials=5")
    assert done.returncode == 0, done.stderr
    assert len(load(path.with_suffix(".db"), "s").trials) == 5
    changed = manyfit("run", study(table, seed=5, trials=6, data="exif = true"))
    assert "data.exif: was false, now true" in changed.stderr
    changed = manyfit("run", study(table, seed=5, trials=6, data="seed = 0"))
    assert changed.returncode == 2
    assert "data.seed: was 5, now 0" in changed.stderr


def test_groups_reach_the_search_and_are_part_of_the_study(table):
    path = study(table, data='group = "house"')
    plan = manyfit("plan", "--json", path)
    assert plan.returncode == 0, plan.stderr
    sizes = json.loads(plan.stdout)["data"]
    assert (sizes["input_shape"], sizes["test_rows"], sizes["validation_rows"]) == ([2], 12, 12)
    assert manyfit("run", path).returncode == 0
    changed = manyfit("run", study(table, trials=3))
    assert changed.returncode == 2
    assert 'data.group: was "house", now absent' in changed.stderr


def mean_squared_error(path, rows, wanted):
    import keras

    model = keras.models.load_model(path)
    return float(np.mean((model.predict(np.array(rows), verbose=0)[:, 0] - np.array(wanted)) ** 2))


@pytest.mark.gallery
def test_windows_are_searched_in_lanes_as_by_fit_and_the_saved_model_takes_raw_windows(tmp_path):
    random, days = np.random.default_rng(4), np.arange(260)
    level = 40 + 3 * np.sin(days / 5) + random.normal(size=260) / 4
    heat = 1e3 * np.cos(days / 5)
    dates = np.datetime64("2023-02-03") + days
    lines = [f"{dates[day]},{heat[day]},{level[day]}" for day in random.permutation(days)]
    (tmp_path / "series.csv").write_text("\n".join(["day,heat,level", *lines]) + "\n")
    (tmp_path / "my_model.py").write_text(MODEL)
    curves = {}
    for engine in ("lanes", "fit"):
        path = write_study(tmp_path, SERIES.format(engine=engine), name=engine)
        done = manyfit("run", path)
        assert done.returncode == 0, done.stderr
        trials = load(path.with_suffix(".db"), engine).trials
        curves[engine] = [[[epoch["loss"], epoch["val_loss"]] for epoch in trial.curve] for trial in trials]
    np.testing.assert_allclose(curves["lanes"], curves["fit"], rtol=1e-5)
    assert manyfit("export", path, "--model", tmp_path / "best.keras").returncode == 0
    # 260 rows: 26 for the test, 26 before them for validation.
    table = np.stack([heat, level], axis=1)
    starts = range(208, 234 - 13)
    rows, wanted = [table[s : s + 12].tolist() for s in starts], [level[s + 13] for s in starts]
    best = min(epoch[1] for trial in curves["fit"] for epoch in trial)
    for backend in ("tensorflow", "jax"):
        told = in_keras(mean_squared_error, str(tmp_path / "best.keras"), rows, wanted, backend=backend)
        assert told == pytest.approx(best, rel=1e-4)


@pytest.mark.gallery
def test_folds_are_resumed_exported_and_evaluated_with_the_rows_of_their_own_fold(tmp_path):
    text = """
[study]
objective = "val_accuracy"
trials = 3
epochs = 3
folds = 3
[data]
source = "sklearn:wine"
scale = "standard"
[model]
units = [8]
[space]
learning_rate = { low = 1e-3, high = 1e-1, log = true }
[search]
sampler = "random"
pruner = "none"
[run]
backend = "jax"
"""
    path = write_study(tmp_path, text, name="wine")
    database = path.with_suffix(".db")
    cut = start("run", path)
    wait_for(lambda: database.exists() and query(database, "SELECT 1 FROM manyfit_epochs LIMIT 5"), "the first epochs")
    end(cut, signal.SIGKILL)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert "no lanes: each of its folds is scaled or encoded by itself" in done.stderr
    whole = manyfit("run", path, "--name", "whole")
    assert json.loads(whole.stdout)["repeats"] == json.loads(done.stdout)["repeats"]
    tables = [[(one.params, one.value) for one in load(database, name).trials] for name in ("wine", "whole")]
    assert tables[0] == tables[1]
    best = json.loads(done.stdout)
    exported = manyfit("export", path, "--model", "best.keras", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    fold = int(re.search(r"fold (\d) of 3", exported.stderr)[1]) - 1
    folds = [
        max(one["val_accuracy"] for one in training.curve)
        for training in load(database, "wine").trials[best["trial"]].trainings
    ]
    assert folds[fold] == max(folds)
    evaluated = json.loads(manyfit("evaluate", path, "--split", "validation", "--json").stdout)
    assert evaluated["metrics"]["accuracy"]["value"] == pytest.approx(folds[fold], abs=1e-6)
    assert f"the weights are those of fold {fold + 1} of 3" in evaluated["lines"]
    of_file = manyfit("evaluate", "best.keras", "--split", "validation", cwd=tmp_path)
    assert of_file.returncode == 2
    assert "does not say which fold its model is of" in of_file.stderr
    assert manyfit("evaluate", "best.keras", cwd=tmp_path).returncode == 0
