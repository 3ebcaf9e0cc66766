"""What a study can't compute from its labels and outputs is refused before there is a database."""

from __future__ import annotations

import numpy as np
import pytest
from support import manyfit, write_study

pytestmark = pytest.mark.slow

STUDY = """
[study]
objective = "val_loss"
trials = 1
epochs = 1
[data]
source = "d.npz"
[model]
build = "mine.py:{build}"
[train]
{train}
[space]
learning_rate = {{ low = 1e-3, high = 1e-1, log = true }}
[run]
engine = "fit"
backend = "jax"
"""
MODELS = """
import keras
from keras import layers as L, ops


class Squashed(L.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 1))

    def call(self, x):
        return ops.sigmoid(x @ self.w)


class Mean(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred))


def squashed(config, data):
    return keras.Sequential([keras.Input(data.input_shape), Squashed()])


def linear(config, data):
    return keras.Sequential([keras.Input(data.input_shape), L.Dense(1)])


def compiled(config, data):
    model = linear(config, data)
    model.compile(keras.optimizers.SGD(config["learning_rate"]), Mean())
    return model
"""


@pytest.mark.parametrize(
    ("build", "train", "code", "says"),
    [
        ("squashed", "", 2, 'add loss = { name = "BinaryCrossentropy", from_logits = true } (or false) to [train]'),
        (
            "linear",
            'loss = { name = "huber", delt = 0.5 }',
            2,
            "train.loss: Huber has no option 'delt'; did you mean 'delta'?",
        ),
        pytest.param(
            "linear",
            'metrics = ["categorical_accuracy"]',
            2,
            "needs an output for each class; this model gives one a row",
            marks=pytest.mark.gallery,
        ),
        ("compiled", "", 0, "the loss mean of the builder compares every row with every other: labels are (rows,)"),
    ],
)
def test_what_can_not_be_computed_is_refused_and_what_mixes_rows_is_told(tmp_path, build, train, code, says):
    (tmp_path / "mine.py").write_text(MODELS)
    x = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
    np.savez(tmp_path / "d.npz", x=x, y=(x[:, 0] > 0).astype(int))
    path = write_study(tmp_path, STUDY.format(build=build, train=train), name="own")
    done = manyfit("run", path, timeout=280)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert path.with_suffix(".db").exists() == (code == 0)
