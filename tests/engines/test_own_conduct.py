"""What code of the user's does beside the model: averages put into the weights, labels read under the source's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from support import manyfit, write_study

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


@pytest.mark.parametrize("backend", ["jax", pytest.param("tensorflow", marks=pytest.mark.gallery)])
@pytest.mark.parametrize("callback", ["swap", "swap_each_epoch"])
def test_weights_that_were_evaluated_are_kept_whatever_a_callback_puts_in_their_place(tmp_path, callback, backend):
    train = f'optimizer = "adam"\nuse_ema = true\nema_momentum = 0.9\ncallbacks = ["mine.py:{callback}"]'
    path = study(tmp_path, train=train)
    done = manyfit("run", path, "--set", f"run.backend={backend}")
    assert done.returncode == 0, done.stderr
    exported = manyfit("export", path, "--model", tmp_path / "best.keras")
    assert exported.returncode == 0, exported.stderr
    assert "rounding does not explain" not in exported.stderr


def test_averages_that_nothing_uses_are_told_of_and_those_of_a_callback_are_not(tmp_path):
    done = manyfit("run", study(tmp_path, build="averaging"))
    assert "use_ema and no ema_overwrite_frequency: its averages change no epoch" in done.stderr
    (tmp_path / "swapping").mkdir()
    path = study(tmp_path / "swapping", build="averaging", train='callbacks = ["mine.py:swap"]')
    assert "ema_overwrite_frequency" not in manyfit("run", path).stderr


@pytest.mark.parametrize(
    ("source", "build", "train", "told"),
    [
        ("signed.npz", "net", 'loss = "mine.py:hinge"', "the labels -1, 1 are numbered 0 to 1, also for train.loss mine.py:hinge"),
        ("from_one.npz", "net", 'metrics = ["mine.py:hinge"]', "the labels 1, 2 are numbered 0 to 1, also for train.metrics"),
        ("signed.npz", "with_hinge", "", "the labels -1, 1 are numbered 0 to 1, also for the builder's hinge"),
        ("bits.npz", "net", 'loss = "mine.py:hinge"', ""),
        ("signed.npz", "net", 'loss = "hinge"', ""),
    ],
)  # fmt: skip
def test_labels_that_own_code_gets_under_other_numbers_are_told_of(tmp_path, source, build, train, told):
    space = "batch_size" if build == "with_hinge" else "learning_rate"
    path = study(tmp_path, source, build, train, space)
    if space == "batch_size":
        path.write_text(path.read_text().replace("[0.01, 0.02]", "[16, 32]"))
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    assert (told in done.stderr) if told else ("are numbered" not in done.stderr)
