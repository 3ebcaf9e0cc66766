"""Keras's own callbacks by name: against plain Keras and arithmetic, their files, and what a resumed trial makes of them."""

from __future__ import annotations

import csv
import signal
from contextlib import suppress

import numpy as np
import pytest
from support import end, in_keras, manyfit, query, settings, start, table, wait_for, write_study

from search import arrayfile
from search.arrayfile import ArrayFileError
from search.storage.records import load

pytestmark = pytest.mark.slow

STUDY = """
[study]
objective = "val_loss"
trials = {trials}
epochs = {epochs}
repeats = {repeats}
[data]
source = "rows.npz"
[model]
build = "mlp"
units = [8]
[train]
optimizer = "adam"
callbacks = [{callbacks}]
{train}
[space]
learning_rate = {{ low = 3e-3, high = 1e-1, log = true }}
[search]
pruner = "none"
sampler = "random"
[run]
engine = "fit"
"""
PLATEAU = '{ name = "ReduceLROnPlateau", factor = 0.5, patience = 1, cooldown = 1, min_delta = 0.02, min_lr = 1e-4 }'
OWN = """
import keras


def make(config):
    return keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=1, min_delta=0.02, min_lr=1e-4)
"""


def study(folder, *callbacks, name="small", trials=2, epochs=6, repeats=1, train=""):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 6)).astype("float32")
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=240) * 0.5).astype("float32")
    splits = {"train": slice(0, 160), "val": slice(160, 200), "test": slice(200, 240)}
    np.savez(
        folder / "rows.npz",
        **{f"{which}_{part}": v[rows] for which, v in (("x", x), ("y", y)) for part, rows in splits.items()},
    )
    values = {"callbacks": ", ".join(callbacks), "trials": trials, "epochs": epochs, "repeats": repeats, "train": train}
    return write_study(folder, STUDY.format(**values), name=name)


def run(path, backend="jax", *how):
    done = manyfit("run", path, "--backend", backend, *how)
    assert done.returncode == 0, done.stderr
    return load(path.with_suffix(".db"), path.stem)


def files_of(path):
    folder = path.with_name(f"{path.stem}.files") / "callbacks"
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def plateau(curve, *, rate, factor, patience, cooldown, min_delta, min_lr):
    """Return the learning rate of each epoch's end, by the rule in the docs of ReduceLROnPlateau."""
    best, wait, rest, rates = None, 0, 0, []
    for value in curve:
        if rest:
            rest, wait = rest - 1, 0
        if best is None or value < best - min_delta:
            best, wait = value, 0
        elif not rest:
            wait += 1
            if wait >= patience and rate > min_lr:
                rate, rest, wait = max(rate * factor, min_lr), cooldown, 0
        rates.append(rate)
    return rates


def test_callbacks_that_only_read_metrics_leave_trials_in_lanes_and_write_the_same_file(tmp_path):
    stored = run(study(tmp_path, '"CSVLogger"', '"TerminateOnNaN"', repeats=2), "jax", "--set", "run.engine=lanes")
    assert stored.resolved["engine"] == "lanes"
    trainings = [training for trial in stored.trials for training in trial.trainings]
    assert len(trainings) == 4
    for training in trainings:
        number, replica = training.member.trial, training.member.replica
        name = f"trial-{number}.{replica}.csv" if replica else f"trial-{number}.csv"
        text = (tmp_path / "small.files" / "callbacks" / "CSVLogger" / name).read_text()
        rows = list(csv.DictReader(text.splitlines()))
        assert list(rows[0]) == ["epoch", "loss", "mae", "val_loss", "val_mae"]  # as by fit, without the rate
        for row, epoch in zip(rows, training.curve, strict=True):
            assert {key: float(value) for key, value in row.items() if key != "epoch"} == pytest.approx(
                {key: value for key, value in epoch.items() if key != "learning_rate"}, abs=1e-7
            )
        assert [int(row["epoch"]) for row in rows] == list(range(6))


@pytest.mark.parametrize("engine", ["lanes", pytest.param("fit", marks=pytest.mark.gallery)])
@pytest.mark.parametrize(("place", "error"), [("a folder", "IsADirectoryError"), ("a full disk", "No space left")])
def test_trial_alone_fails_whose_callback_can_not_write_its_file(tmp_path, place, error, engine):
    path = study(tmp_path, '"CSVLogger"')
    file = path.with_name("small.files") / "callbacks" / "CSVLogger" / "trial-0.csv"
    file.parent.mkdir(parents=True)
    if place == "a folder":  # the file can't be opened
        file.mkdir()
    else:  # it can, and the first epoch can't be written
        file.symlink_to("/dev/full")
    stored = run(path, "jax", "--set", f"run.engine={engine}")
    first, second = stored.trials
    assert (first.state, second.state) == ("FAIL", "COMPLETE")
    assert error in first.why
    assert len(second.curve) == 6


@pytest.mark.parametrize("backend", ["jax", pytest.param("tensorflow", marks=pytest.mark.gallery)])
def test_named_plateau_follows_its_rule_and_trains_as_the_users_own_function_does(tmp_path, backend):
    named = run(study(tmp_path, PLATEAU, epochs=12), backend)
    lowered = 0
    for trial in named.trials:
        rates = [epoch["learning_rate"] for epoch in trial.curve]
        expected = plateau(
            [epoch["val_loss"] for epoch in trial.curve],
            rate=trial.params["learning_rate"],
            factor=0.5,
            patience=1,
            cooldown=1,
            min_delta=0.02,
            min_lr=1e-4,
        )
        assert rates == pytest.approx(expected, rel=1e-6)
        lowered += rates[-1] < rates[0]
    assert lowered
    (tmp_path / "mine.py").write_text(OWN)
    own = run(study(tmp_path, '"mine.py:make"', epochs=12, name="own"), backend)
    assert [trial.curve for trial in own.trials] == [trial.curve for trial in named.trials]


@pytest.mark.gallery
def test_csv_of_each_training_has_the_stored_curve(tmp_path):
    path = study(tmp_path, '{ name = "CSVLogger", separator = ";" }', repeats=2)
    stored = run(path)
    assert files_of(path) == [f"CSVLogger/trial-{name}.csv" for name in ("0.1", "0", "1.1", "1")]
    for trial in stored.trials:
        for training in trial.trainings:
            suffix = f".{training.member.replica}" if training.member.replica else ""
            text = (stored.files.callbacks / "CSVLogger" / f"trial-{trial.number}{suffix}.csv").read_text()
            rows = list(csv.DictReader(text.splitlines(), delimiter=";"))
            assert [int(row.pop("epoch")) for row in rows] == [*range(6)]
            for row, epoch in zip(rows, training.curve, strict=True):
                assert {name: float(value) for name, value in row.items()} == pytest.approx(
                    {name: epoch[name] for name in row}
                )


def loss_of(path, rows):
    import keras
    import numpy as np

    with np.load(rows) as arrays:
        model = keras.models.load_model(path, compile=False)
        predicted = np.ravel(model.predict(arrays["x_val"], verbose=0))
        return float(np.mean(np.square(predicted - arrays["y_val"])))


@pytest.mark.gallery
def test_model_of_each_trial_is_that_of_its_best_epoch_and_opens_with_keras_alone(tmp_path):
    tmp_path /= "a{b}"
    tmp_path.mkdir()
    path = study(tmp_path, '{ name = "ModelCheckpoint", save_best_only = true }')
    stored = run(path)
    for trial in stored.trials:
        file = stored.files.callbacks / "ModelCheckpoint" / f"trial-{trial.number}.keras"
        assert in_keras(loss_of, str(file), str(tmp_path / "rows.npz")) == pytest.approx(trial.value, rel=1e-5)


def scalars_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(folder, {"tensors": 0})
    found.Reload()
    return {
        tag: [float(make_ndarray(e.tensor_proto)) for e in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
        if "epoch_" in tag
    }


@pytest.mark.gallery
def test_tensorboard_gets_a_folder_for_each_trial_also_where_jax_trains(tmp_path):
    stored = run(study(tmp_path, '"TensorBoard"', '"TerminateOnNaN"'))
    for trial in stored.trials:
        folder = stored.files.callbacks / "TensorBoard" / f"trial-{trial.number}"
        found = in_keras(scalars_of, str(folder / "validation"))
        assert found["epoch_loss"] == pytest.approx([epoch["val_loss"] for epoch in trial.curve])
        assert "epoch_loss" in in_keras(scalars_of, str(folder / "train"))


def saved_epoch(folder):
    for file in (folder / "running").glob("[0-9]*.npz"):
        with suppress(ArrayFileError):
            return max(arrayfile.read_meta(file)["epochs"].values())
    return 0


def stored_epochs(database):
    return query(database, "SELECT count(*) FROM manyfit_epochs")[0][0]


def kill_in_the_middle(path, how, *, with_checkpoint):
    """Kill a search of one trial after some epochs, if wanted after a checkpoint that is behind the last epoch."""
    process = start("run", path, *settings(how))
    folder, database = path.with_name(f"{path.stem}.files"), path.with_suffix(".db")

    def is_in_the_middle():
        assert process.poll() is None, process.communicate()[1]
        epochs = stored_epochs(database)
        return epochs > 8 and (not with_checkpoint or 2 <= saved_epoch(folder) < epochs - 1)

    wait_for(is_in_the_middle, "epochs after a checkpoint")
    end(process, signal.SIGKILL)


@pytest.mark.gallery
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_trial_with_named_callbacks_resumes_from_its_checkpoint_as_if_nothing_had_been(tmp_path, backend):
    """The state of ReduceLROnPlateau is in the checkpoint; the CSV has each epoch once."""
    entries = (PLATEAU, '"CSVLogger"', '{ name = "ModelCheckpoint", save_best_only = true, save_weights_only = true }')
    whole, cut = (study(tmp_path, *entries, name=name, trials=1, epochs=400) for name in ("whole", "cut"))
    how = [f"run.backend={backend}"]
    run(whole, backend)
    kill_in_the_middle(cut, how, with_checkpoint=True)
    run(cut, backend)
    assert "goes on from its checkpoint of epoch" in cut.with_suffix(".log").read_text()
    assert table(cut.with_suffix(".db"), "cut") == table(whole.with_suffix(".db"), "whole")
    assert query(cut.with_suffix(".db"), "SELECT kind FROM manyfit_events WHERE kind LIKE 'recomputed%'") == []
    rates = {epoch["learning_rate"] for epoch in load(whole.with_suffix(".db"), "whole").trials[0].curve}
    assert len(rates) > 3
    logs = [path.with_name(f"{path.stem}.files") / "callbacks" / "CSVLogger" / "trial-0.csv" for path in (whole, cut)]
    assert logs[0].read_bytes() == logs[1].read_bytes()
    assert files_of(cut) == files_of(whole) == ["CSVLogger/trial-0.csv", "ModelCheckpoint/trial-0.weights.h5"]


@pytest.mark.gallery
def test_trial_whose_callback_can_not_resume_restarts_from_its_beginning(tmp_path):
    """An event file of TensorBoard can't be cut off at an epoch."""
    entries = (PLATEAU, '"TensorBoard"')
    whole, cut = (study(tmp_path, *entries, name=name, trials=1, epochs=40) for name in ("whole", "cut"))
    run(whole)
    kill_in_the_middle(cut, ["run.backend=jax"], with_checkpoint=False)
    run(cut)
    assert "goes on from its checkpoint" not in cut.with_suffix(".log").read_text()
    assert table(cut.with_suffix(".db"), "cut") == table(whole.with_suffix(".db"), "whole")
    folder = cut.with_name("cut.files") / "callbacks" / "TensorBoard" / "trial-0" / "validation"
    assert len(in_keras(scalars_of, str(folder))["epoch_loss"]) == 40


def test_files_of_callbacks_go_with_their_study_and_models_with_their_trial(tmp_path):
    path = study(tmp_path, '"CSVLogger"', '"ModelCheckpoint"', '"TensorBoard"', trials=3, epochs=2)
    stored = run(path, "jax", "--set", "run.keep=1")
    folder = stored.files.callbacks
    (folder / "CSVLogger" / "notes.txt").write_text("mine")
    best = stored.complete[0].number
    cleaned = manyfit("clean", path)
    assert cleaned.returncode == 0, cleaned.stderr
    assert [file.name for file in (folder / "ModelCheckpoint").iterdir()] == [f"trial-{best}.keras"]
    assert len(list((folder / "TensorBoard").iterdir())) == 3
    deleted = manyfit("delete", path, "--yes")
    assert deleted.returncode == 0, deleted.stderr
    # What manyfit has not written stays.
    assert files_of(path) == ["CSVLogger/notes.txt"]


def test_named_callbacks_are_part_of_the_study(tmp_path):
    path = study(tmp_path, PLATEAU, trials=1, epochs=2)
    run(path)
    study(tmp_path, PLATEAU.replace("0.5", "0.4"), trials=2, epochs=2)
    changed = manyfit("run", path)
    assert changed.returncode == 2
    assert "train.callbacks: was " in changed.stderr
    assert '"factor": 0.4' in changed.stderr


@pytest.mark.parametrize(
    ("entry", "train", "told"),
    [
        (
            '{ name = "ReduceLROnPlateau", monitor = "val_mea" }',
            "",
            "train.callbacks.0.monitor: training reports no 'val_mea'; did you mean 'val_mae'?",
        ),
    ],
)
def test_metric_that_nothing_reports_is_refused_before_the_first_trial(tmp_path, entry, train, told):
    path = study(tmp_path, entry.replace(" }", ', mode = "min" }'), train=train)
    done = manyfit("run", path, "--backend", "jax")
    assert done.returncode == 2
    assert told in done.stderr
    assert not path.with_suffix(".db").exists()


COMPILING = """
import keras


def build(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(1)])
    rate = keras.optimizers.schedules.ExponentialDecay(config["learning_rate"], 100, 0.9)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model
"""


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            PLATEAU,
            "train.callbacks.0: ReduceLROnPlateau can't change the learning rate of SGD, which follows a schedule",
        ),
        ('"SwapEMAWeights"', "train.callbacks.0: SwapEMAWeights needs an optimizer with averages; set use_ema = true"),
    ],
)
def test_callback_that_the_builders_optimizer_can_not_have_is_refused_before_the_first_trial(tmp_path, entry, told):
    (tmp_path / "mine.py").write_text(COMPILING)
    path = study(tmp_path, entry)
    text = (
        path.read_text()
        .replace('build = "mlp"\nunits = [8]', 'build = "mine.py:build"')
        .replace('optimizer = "adam"\n', "")
    )
    path.write_text(text)
    done = manyfit("run", path, "--backend", "jax")
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
