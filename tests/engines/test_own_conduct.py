"""What code of the user's does beside the model: averages put into the weights, labels read under the source's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from support import in_jax, manyfit, write_study

pytestmark = pytest.mark.slow

MINE = """
import keras
from keras import layers as L, ops


def hinge(y, p):
    return ops.mean(ops.maximum(0.0, 1.0 - ops.cast(y, p.dtype) * p))


def net(config, data):
    return keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "tanh"), L.Dense(data.outputs)])


def averaging(config, data):
    model = net(config, data)
    model.compile(keras.optimizers.Adam(config["learning_rate"], use_ema=True), "mse")
    return model


def with_hinge(config, data):
    model = net(config, data)
    model.compile("sgd", hinge, metrics=[hinge])
    return model


def swap(config):
    return keras.callbacks.SwapEMAWeights()


def swap_each_epoch(config):
    return keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
"""
STUDY = """
[study]
objective = "val_loss"
trials = 1
epochs = 3
[data]
source = "{source}"
[model]
build = "mine.py:{build}"
[train]
{train}
[space]
{space} = [0.01, 0.02]
"""


def study(folder, source="sklearn:diabetes", build="net", train="", space="learning_rate"):
    (folder / "mine.py").write_text(MINE)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4)).astype("float32")
    for name, low in (("signed", -1), ("bits", 0), ("from_one", 1)):
        np.savez(folder / f"{name}.npz", x=x, y=np.where(x[:, 0] > 0, low + (2 if low < 0 else 1), low))
    return write_study(folder, STUDY.format(source=source, build=build, train=train, space=space))


@pytest.mark.gallery
@pytest.mark.parametrize(
    ("callback", "backend"),
    [
        ("swap_each_epoch", "jax"),
        *(
            pytest.param(callback, backend, marks=pytest.mark.gallery)
            for callback, backend in (("swap", "jax"), ("swap", "tensorflow"), ("swap_each_epoch", "tensorflow"))
        ),
    ],
)
def test_weights_that_were_evaluated_are_kept_whatever_a_callback_puts_in_their_place(tmp_path, callback, backend):
    train = f'optimizer = "adam"\nuse_ema = true\nema_momentum = 0.9\ncallbacks = ["mine.py:{callback}"]'
    path = study(tmp_path, train=train)
    done = manyfit("run", path, "--set", f"run.backend={backend}")
    assert done.returncode == 0, done.stderr
    exported = manyfit("export", path, "--model", tmp_path / "best.keras")
    assert exported.returncode == 0, exported.stderr
    assert "rounding does not explain" not in exported.stderr


@pytest.mark.gallery
def test_averages_that_nothing_uses_are_told_of_and_those_of_a_callback_are_not(tmp_path):
    jax = ("--set", "run.backend=jax")
    done = manyfit("run", study(tmp_path, build="averaging"), *jax)
    assert "use_ema and no ema_overwrite_frequency: its averages change no epoch" in done.stderr
    (tmp_path / "swapping").mkdir()
    path = study(tmp_path / "swapping", build="averaging", train='callbacks = ["mine.py:swap"]')
    done = manyfit("run", path, *jax)
    assert done.returncode == 0, done.stderr
    assert "ema_overwrite_frequency" not in done.stderr


def warnings_of(folder, cases):
    from pathlib import Path

    from search import data
    from search.engines import preflight
    from search.engines.training import Trainer, leave_tensorflow_out
    from search.spec.settings import DataSection, ModelSection, Settings, StudySection, TrainSection

    leave_tensorflow_out()
    found = []
    for source, build, train in cases:
        settings = Settings(
            study=StudySection(objective="val_loss"),
            data=DataSection(source=source),
            model=ModelSection(build=f"mine.py:{build}"),
            train=TrainSection(**train),
            space={"batch_size": [16, 32]},
        )
        trainer = Trainer.load(settings, Path(folder), data.load(settings.data, Path(folder), 0))
        ready = preflight.inspect(trainer, {"optimizer": "sgd", "learning_rate": 0.01, "epochs": 1})
        found.append([warning for warning in ready.warnings if "are numbered" in warning])
    return found


@pytest.mark.gallery
def test_labels_that_own_code_gets_under_other_numbers_are_told_of(tmp_path):
    path = study(tmp_path, "signed.npz", train='loss = "mine.py:hinge"')
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert "the labels -1, 1 are numbered 0 to 1, also for train.loss mine.py:hinge" in done.stderr
    told = {
        ("from_one.npz", "net", "metrics"): "the labels 1, 2 are numbered 0 to 1, also for train.metrics",
        ("signed.npz", "with_hinge", ""): "the labels -1, 1 are numbered 0 to 1, also for the builder's hinge",
        ("bits.npz", "net", "loss"): "",
        ("signed.npz", "net", "loss of Keras"): "",
    }
    train = {
        "metrics": {"metrics": ["mine.py:hinge"]}, "": {}, "loss": {"loss": "mine.py:hinge"}, "loss of Keras": {"loss": "hinge"},
    }  # fmt: skip
    found = in_jax(warnings_of, str(tmp_path), [[source, build, train[kind]] for source, build, kind in told])
    for (case, expected), warnings in zip(told.items(), found, strict=True):
        assert len(warnings) == bool(expected), (case, warnings)
        assert all(expected in warning for warning in warnings), (case, warnings)
