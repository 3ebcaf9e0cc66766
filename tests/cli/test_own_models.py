"""Users' own files: builders, modules beside them, custom layers, losses, metrics, callbacks, and what goes wrong in them."""

from __future__ import annotations

import json
import os
import signal

import pytest
from support import children, end, is_alive, manyfit, query, start, table, wait_for, write_study

from search.storage.records import load

pytestmark = pytest.mark.slow

STUDY = """
[study]
objective = "{objective}"
trials = {trials}
epochs = 3
[data]
source = "{source}"
[model]
build = "my_model.py:{build}"
[train]
{train}
[space]
learning_rate = {{ low = 1e-3, high = 1e-1, log = true }}
width = [8, 16, 24]
{space}
[search]
sampler = "random"
pruner = "none"
"""

MODEL = '''
"""A user's file, in a folder that also holds a models/ and a search.py of theirs."""
import os
import sys

import keras
import numpy as np

import search
from models.blocks import Scale

assert search.MINE


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype("float32")
    return x, (x[:, 0] + x[:, 1] > 0).astype("int64")


def build(config, data):
    assert data.task == "binary" and data.input_shape == (6,) and data.outputs == 1
    return keras.Sequential([
        keras.Input(data.input_shape), Scale(), keras.layers.Dense(config["width"], "relu"), keras.layers.Dense(1),
    ])


def compiled(config, data):
    model = build(config, data)
    model.compile(keras.optimizers.SGD(config["learning_rate"]), keras.losses.BinaryCrossentropy(from_logits=True), metrics=[halves])
    return model


def halves(y_true, y_pred):
    return keras.ops.mean(keras.ops.cast(y_pred > 0, "float32"))


def my_loss(y_true, y_pred):
    return keras.losses.binary_crossentropy(y_true, y_pred, from_logits=True) * 2.0


class Hits(keras.metrics.BinaryAccuracy):
    def __init__(self, name="hits", **kwargs):
        super().__init__(name=name, threshold=0.0, **kwargs)


class StopAtTwo(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def picky(config, data):
    if config["width"] == 16:
        raise ValueError("sixteen is not my number")
    return build(config, data)


def broken(config, data):
    raise RuntimeError("nothing works here")


def endless(config, data):
    while config["width"] == 16:
        pass
    return build(config, data)


def dying(config, data):
    if config["width"] == 16:
        print("last words before the end", file=sys.stderr, flush=True)
        os._exit(7)
    return build(config, data)
'''


@pytest.fixture
def folder(tmp_path):
    """A user's folder whose names are those of our packages."""
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "search.py").write_text("MINE = True\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "models" / "blocks.py").write_text(
        "import keras\n\n\nclass Scale(keras.layers.Layer):\n    def call(self, inputs):\n        return inputs * 0.5\n"
    )
    return tmp_path


def own_study(
    folder, *, build="build", objective="val_accuracy", source="my_model.py:rows", trials=4, train="", space=""
):
    text = STUDY.format(build=build, objective=objective, source=source, trials=trials, train=train, space=space)
    return write_study(folder, text, name="own")


def test_own_modules_layers_losses_metrics_and_callbacks_work(folder):
    path = own_study(
        folder,
        objective="val_hits",
        train='loss = "my_model.py:my_loss"\nmetrics = ["my_model.py:Hits", "AUC"]\ncallbacks = ["my_model.py:StopAtTwo"]\nclass_weight = "balanced"',
        space="momentum = { low = 0.0, high = 0.9 }\nmisspelt_width = [1, 2]",
    ).with_name("own.toml")
    how = [
        "--allow-unused",
        "--backend",
        "jax",
        "--set",
        'train.optimizer="sgd"',
        "--set",
        'study.direction="maximize"',
    ]
    # By a fresh Python, which has imported none of our packages before it meets the user's of the same names.
    done = manyfit("run", path, *how, cwd=folder, env={})
    assert done.returncode == 0, done.stderr
    assert "'misspelt_width' is read by nothing" in done.stderr
    trials = load(path.with_suffix(".db"), "own").trials
    assert {(trial.ended, len(trial.curve)) for trial in trials} == {("callback", 2)}
    # Keras would call the second trial's "auc_1".
    assert {tuple(sorted(trial.curve[0])) for trial in trials} == {
        ("auc", "hits", "learning_rate", "loss", "val_auc", "val_hits", "val_loss")
    }


@pytest.mark.gallery
def test_compiled_model_keeps_its_own_optimizer_loss_and_metrics(folder):
    path = own_study(
        folder, build="compiled", objective="val_loss", space="weight_decay = { low = 1e-6, high = 1e-2, log = true }"
    )
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 0, done.stderr
    assert "'weight_decay' is read by nothing" in done.stderr
    trial = load(path.with_suffix(".db"), "own").trials[0]
    assert "val_halves" in trial.curve[0]
    assert trial.curve[0]["learning_rate"] == pytest.approx(trial.params["learning_rate"], rel=1e-5)


def test_builder_that_raises_fails_that_trial_with_its_traceback(folder):
    path = own_study(folder, build="picky", trials=8)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    trials = load(path.with_suffix(".db"), "own").trials
    failed = [trial for trial in trials if trial.state == "FAIL"]
    assert failed
    assert {trial.params["width"] for trial in failed} == {16}
    assert {trial.params["width"] for trial in trials if trial.state == "COMPLETE"} == {8, 24}
    assert failed[0].why == "ValueError: sixteen is not my number"
    assert "my_model.py" in failed[0].detail
    assert "engines/fit.py" not in failed[0].detail


@pytest.mark.gallery
def test_three_like_failures_end_the_study_with_the_cause_once(folder):
    """F8."""
    path = own_study(folder, build="broken", trials=50)
    done = manyfit("run", path)
    assert done.returncode == 1
    assert done.stderr.count("3 trials in a row failed alike: RuntimeError: nothing works here") == 1
    assert "my_model.py" in done.stderr
    assert query(path.with_suffix(".db"), "SELECT state, count(*) FROM trials GROUP BY 1") == [("FAIL", 3)]


@pytest.mark.gallery
def test_callback_that_raises_after_its_trial_has_ended_harms_nobody(folder):
    model = folder / "my_model.py"
    model.write_text(
        MODEL + "\n\nclass Late(keras.callbacks.Callback):\n"
        "    def on_train_end(self, logs=None):\n"
        "        print('the end of a training', file=sys.stderr)\n"
        "        raise OSError('no room for the model')\n"
    )
    path = own_study(folder, trials=3, train='callbacks = ["my_model.py:Late"]')
    done = manyfit("run", path, "--backend", "jax", timeout=60)
    assert done.returncode == 0, done.stderr
    assert {trial.ended for trial in load(path.with_suffix(".db"), "own").trials} == {"finished"}
    # The last trial's callbacks are not cut off either.
    assert path.with_name("own.log").read_text().count("the end of a training") == 3


@pytest.mark.gallery
def test_loss_by_name_is_told_of_logits(folder):
    values = []
    for name, train in (
        ("own_loss", ""),
        ("named", 'loss = "binary_crossentropy"'),
        ("classed", 'loss = "BinaryCrossentropy"'),
    ):
        path = own_study(folder, objective="val_loss", trials=1, train=train)
        done = manyfit("run", path, "--name", name)
        assert done.returncode == 0, done.stderr
        values.append(load(path.with_suffix(".db"), name).trials[0].curve)
    assert values[0] == values[1] == values[2]


@pytest.mark.gallery
def test_builder_edited_during_a_search_does_not_get_in(folder):
    path = own_study(folder, trials=60)
    process = start("run", path)
    database = path.with_suffix(".db")
    wait_for(lambda: query(database, "SELECT 1 FROM trials WHERE number = 1"), "trial 1")
    model = folder / "my_model.py"
    model.write_text(MODEL.replace("Dense(1)", "Dense(1, use_bias=False)"))
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the builder's source is not what this command began with" in err
    assert query(database, "SELECT count(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]


@pytest.mark.gallery
def test_builder_that_has_only_failed_may_be_mended(folder):
    path = own_study(folder, build="broken", trials=4)
    assert manyfit("run", path).returncode == 1
    model = folder / "my_model.py"
    model.write_text(MODEL.replace('raise RuntimeError("nothing works here")', "return build(config, data)"))
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert [trial.state for trial in load(path.with_suffix(".db"), "own").trials] == ["COMPLETE"] * 4


@pytest.mark.gallery
def test_study_whose_trials_all_failed_is_no_success(folder):
    path = own_study(folder, build="broken", trials=2)
    done = manyfit("run", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "every trial failed, the last one by: RuntimeError: nothing works here" in done.stderr


@pytest.mark.gallery
def test_binary_metrics_are_of_probabilities_whether_the_model_gives_them_or_logits(folder):
    model = folder / "my_model.py"
    model.write_text(
        MODEL + "\n\ndef squashed(config, data):\n"
        "    logits = build(config, data)\n"
        "    return keras.Sequential([*logits.layers, keras.layers.Activation('sigmoid')])\n"
    )
    curves = []
    for build in ("build", "squashed"):
        path = own_study(folder, build=build, trials=1, train='metrics = ["accuracy", "AUC", "Precision"]')
        done = manyfit("run", path, "--name", build)
        assert done.returncode == 0, done.stderr
        (trial,) = load(path.with_suffix(".db"), build).trials
        curves.append([[m["val_accuracy"], m["val_auc"], m["val_precision"]] for m in trial.curve])
    for ours, theirs in zip(*curves, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_model_with_the_wrong_number_of_outputs_is_refused_before_the_first_trial(folder):
    path = own_study(folder, source="sklearn:iris")
    model = folder / "my_model.py"
    model.write_text(MODEL.replace("assert data.task", "assert True or data.task"))
    done = manyfit("run", path)
    assert done.returncode == 2
    assert "the model gives 1 outputs a row, the data have 3 classes" in done.stderr
    assert not path.with_suffix(".db").exists()


@pytest.mark.faults
def test_trial_that_kills_its_worker_twice_alone_fails_and_the_others_are_unchanged(folder):
    calm, deadly = own_study(folder, trials=5), folder / "deadly.toml"
    deadly.write_text(calm.read_text().replace("my_model.py:build", "my_model.py:dying"))
    assert manyfit("run", calm, "--set", "run.engine=fit").returncode == 0
    # Looking at the model for lanes dies of it, too, so that auto comes to fit.
    done = manyfit("run", deadly)
    assert done.returncode == 0, done.stderr
    assert (
        "no lanes: workers that looked at the model for them died; the last one ended with exit code 7" in done.stderr
    )
    trials = load(deadly.with_suffix(".db"), "deadly").trials
    crashed = [trial for trial in trials if trial.params["width"] == 16]
    assert crashed
    assert all((t.state, t.ended, t.why) == ("FAIL", "crashed", "its worker ended with exit code 7") for t in crashed)
    assert "last words before the end" in crashed[0].detail
    others = [row for row in table(calm.with_suffix(".db"), "own") if row[4]["width"] != 16]
    assert [row for row in table(deadly.with_suffix(".db"), "deadly") if row[4]["width"] != 16] == others


@pytest.mark.faults
def test_workers_of_two_devices_that_die_of_a_look_at_the_model_come_to_fit(folder):
    """F6: one's death ends the look of all, and what is left of the others' is no death of theirs."""
    path = own_study(folder, build="dying", trials=3)
    done = manyfit("run", path, "--set", 'run.devices=["cpu", "cpu"]')
    assert done.returncode == 0, done.stderr
    assert "no lanes: workers that looked at the model for them died" in done.stderr
    trials = load(path.with_suffix(".db"), "own").trials
    assert {trial.state for trial in trials} <= {"COMPLETE", "FAIL"}
    assert all((trial.state == "FAIL") == (trial.params["width"] == 16) for trial in trials)


@pytest.mark.faults
def test_trial_that_hangs_is_given_up_when_its_time_is_long_over(folder):
    path = own_study(folder, build="endless", trials=2)
    # Looking at the model for lanes meets the endless config, too, and is given up for that.
    done = manyfit("run", path, "--set", "run.trial_time=2", "--set", "search.start=[{ width = 16 }, { width = 8 }]")
    assert done.returncode == 0, done.stderr
    hung, other = load(path.with_suffix(".db"), "own").trials
    assert (hung.state, hung.ended) == ("FAIL", "timeout")
    assert other.state == "COMPLETE"


def test_builder_that_never_returns_does_not_outlive_a_killed_coordinator(folder):
    (folder / "my_model.py").write_text(
        MODEL + "\n\ndef hangs(config, data):\n    open('here', 'w').close()\n    while True:\n        pass\n"
    )
    process = start("run", own_study(folder, build="hangs"), cwd=folder)
    wait_for((folder / "here").exists, "the builder's call")
    workers = children(process.pid)
    assert workers
    end(process, signal.SIGKILL)
    wait_for(lambda: not any(is_alive(pid) for pid in workers), "the workers' end", timeout=5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"objective": "val_acuracy"}, "reports no 'val_acuracy'; did you mean 'val_accuracy'"),
        ({"train": 'metrics = ["acurracy"]'}, "train.metrics: Keras does not take 'acurracy'"),
        ({"train": 'loss = "huber_ish"'}, "train.loss: Keras does not take 'huber_ish'"),
        ({"source": "my_model.py:broken"}, "a data function takes nothing, or seed"),
    ],
)
def test_what_only_keras_knows_is_refused_before_there_is_a_database(folder, change, says):
    path = own_study(folder, **change)
    done = manyfit("run", path, "--set", 'study.direction="maximize"')
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(found.name for found in folder.glob("own.*")) == ["own.toml"]


def test_changed_builder_or_data_are_another_study(folder):
    """B3."""
    path = own_study(folder, trials=1)
    assert manyfit("run", path).returncode == 0
    blocks = folder / "models" / "blocks.py"
    blocks.write_text(blocks.read_text().replace("0.5", "0.25"))
    refused = manyfit("run", path, "--trials", 2)
    assert refused.returncode == 2
    assert "the builder's source has changed" in refused.stderr
    model = folder / "my_model.py"
    blocks.write_text(blocks.read_text().replace("0.25", "0.5"))
    model.write_text(MODEL.replace("default_rng(0)", "default_rng(1)"))
    refused = manyfit("run", path, "--trials", 2)
    assert refused.returncode == 2
    assert "the data are not the same" in refused.stderr


def test_diverging_trial_is_pruned_without_a_value_and_taught_to_nobody_as_best(folder):
    path = own_study(folder, build="compiled", objective="val_loss", trials=5)
    done = manyfit("run", path, "--set", "space.learning_rate.high=1e38", "--set", "space.learning_rate.low=1e-3")
    assert done.returncode == 0, done.stderr
    trials = load(path.with_suffix(".db"), "own").trials
    diverged = [trial for trial in trials if trial.ended == "diverged"]
    assert diverged
    assert all(trial.state == "PRUNED" and trial.value is None for trial in diverged)
    document = json.loads(path.with_name("own.best.json").read_text())
    assert all(config["trial"] not in [t.number for t in diverged] for config in document["configs"])
