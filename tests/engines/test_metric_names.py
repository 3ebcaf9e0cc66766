"""A metric keeps its values whatever it is called; one that Keras itself could not tell from another value is refused."""

from __future__ import annotations

import json

import pytest
from support import manyfit

pytestmark = pytest.mark.slow

STUDY = """
[study]
trials = 1
epochs = 2
[data]
source = "sklearn:wine"
[train]
metrics = {metrics}
learning_rate = 0.5
[space]
l2 = {{ low = 1e-6, high = 1e-3, log = true }}
[run]
engine = "{engine}"
backend = "jax"
"""
OWN = """
import keras


class Seven(keras.metrics.Metric):
    called = ""

    def __init__(self, name=None, **kwargs):
        super().__init__(name=self.called, **kwargs)
        self.seven = self.add_variable((), "zeros", name="seven")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seven.assign(7.0)

    def result(self):
        return keras.ops.convert_to_tensor(self.seven)

    def reset_state(self):
        self.seven.assign(0.0)


learning_rate, seconds, epoch, value, loss, val_loss = (
    type(name, (Seven,), {"called": name}) for name in ("learning_rate", "seconds", "epoch", "value", "loss", "val_loss")
)
"""


def study_of(folder, engine, *names):
    (folder / "own.py").write_text(OWN)
    path = folder / "named.toml"
    path.write_text(STUDY.format(engine=engine, metrics=json.dumps([f"own.py:{name}" for name in names])))
    return path


@pytest.mark.gallery
@pytest.mark.parametrize("engine", [pytest.param("fit", marks=pytest.mark.gallery), "lanes"])
def test_metrics_named_like_our_own_columns_keep_their_values(tmp_path, engine):
    names = ("learning_rate", "seconds", "epoch", "value")
    done = manyfit("run", study_of(tmp_path, engine, *names))
    assert done.returncode == 0, done.stderr
    (config,) = json.loads((tmp_path / "named.best.json").read_text())["configs"]
    for name in names:
        assert config["curve"][name] == config["curve"][f"val_{name}"] == [7.0, 7.0]
    assert all(seconds > 0 for seconds in config["seconds"])


@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_metric_that_takes_the_name_of_a_loss_is_refused(tmp_path, name):
    done = manyfit("run", study_of(tmp_path, "fit", name))
    assert done.returncode == 2
    assert f"train.metrics: a metric is named {name!r}, as Keras names the loss" in done.stderr
    assert not (tmp_path / "named.db").exists()
