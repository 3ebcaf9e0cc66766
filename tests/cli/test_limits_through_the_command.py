"""Configs beyond a limit, through the command: refused before they train, on both engines, and told apart."""

from __future__ import annotations

import csv
import itertools
import json

import pytest
from support import manyfit, table, write_study

from search.storage.records import load

pytestmark = pytest.mark.slow

STUDY = """
[study]
objective = "val_accuracy"
trials = 8
epochs = 3
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "mlp"
[space]
units = [[8], [24], [48], [16, 16]]
learning_rate = {{ low = 1e-3, high = 1e-1, log = true }}
[search]
sampler = "random"
pruner = "none"
[run]
engine = "{engine}"
backend = "jax"
lanes = {lanes}
{limits}
"""


def study(folder, name, limits="", engine="lanes"):
    text = STUDY.format(engine=engine, lanes=4 if engine == "lanes" else '"auto"', limits=limits)
    return write_study(folder, text, name=name)


def run(path, *how):
    done = manyfit("run", path, *how)
    assert done.returncode == 0, done.stderr
    return load(path.with_suffix(".db"), path.stem).trials


def parameters(units):
    sizes = [64, *json.loads(units), 10]
    return sum((before + 1) * after for before, after in itertools.pairwise(sizes))


@pytest.mark.gallery
@pytest.mark.parametrize("engine", ["lanes", pytest.param("fit", marks=pytest.mark.gallery)])
def test_configs_beyond_the_limit_are_refused_and_the_others_train_as_without_it(tmp_path, engine):
    free = run(study(tmp_path, "free", engine=engine))
    path = study(tmp_path, "limited", "[limits]\nparameters = 1700\nmodel_mb = 0.006", engine=engine)
    limited = run(path)
    refused = 0
    for one, other in zip(free, limited, strict=True):
        assert one.params == other.params
        count = parameters(one.params["units"])
        if count > 1700 or 4 * count / 1e6 > 0.006:
            refused += 1
            assert (other.state, other.ended, other.value, other.curve) == ("PRUNED", "refused", None, [])
            assert (
                other.why == f"it has {count:,} parameters; limits.parameters allows 1,700"
                if count > 1700
                else other.why.startswith("its weights take 0.006")
            )
        else:
            assert (other.ended, other.curve) == (one.ended, one.curve)
    assert 2 <= refused <= 7
    listed = manyfit("list", tmp_path, "--json")
    counts = {brief["study"]: brief["counts"] for brief in json.loads(listed.stdout)}
    assert counts["limited"] == {"COMPLETE": 8 - refused, "REFUSED": refused, "PRUNED": 0}
    assert "refused" in manyfit("list", tmp_path).stdout
    best = json.loads(path.with_name("limited.best.json").read_text())
    assert best["trials"] == {"COMPLETE": 8 - refused, "REFUSED": refused}
    rows = list(csv.DictReader(manyfit("export", path, "--csv").stdout.splitlines()))
    assert sum(row["ended"] == "refused" for row in rows) == refused
    assert f"{refused}  refused" in manyfit("show", path).stdout
    assert manyfit("verify", path).returncode == 0


@pytest.mark.gallery
def test_study_with_limits_goes_on_as_an_uninterrupted_one_and_its_limits_can_not_change(tmp_path):
    limits = "[limits]\nparameters = 1700"
    whole, cut = study(tmp_path, "whole", limits), study(tmp_path, "cut", limits)
    run(whole)
    run(cut, "--trials", "3")
    run(cut)
    assert table(cut.with_suffix(".db"), "cut") == table(whole.with_suffix(".db"), "whole")
    changed = manyfit("run", cut, "--set", "limits.parameters=1800")
    assert changed.returncode == 2
    assert "limits.parameters: was 1700, now 1800" in changed.stderr
    removed = manyfit("run", study(tmp_path, "cut"))
    assert removed.returncode == 2
    assert "limits: was " in removed.stderr


SLOW = """
import time

import keras
from models import mlp


@keras.saving.register_keras_serializable("mine")
class Slow(keras.layers.Layer):
    def call(self, inputs):
        if self.wait:
            import jax

            def waited(x):
                time.sleep(0.02)
                return x

            return jax.pure_callback(waited, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype), inputs)
        return inputs


def build(config, data):
    slow = Slow()
    slow.wait = config["kind"] == "slow"
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(10), slow])
"""


def test_model_that_takes_longer_than_the_limit_is_refused_by_its_measured_latency(tmp_path):
    (tmp_path / "mine.py").write_text(SLOW.replace("from models import mlp\n", ""))
    text = STUDY.format(engine="fit", lanes='"auto"', limits="[limits]\nlatency_ms = 15")
    text = text.replace('build = "mlp"', 'build = "mine.py:build"').replace(
        "units = [[8], [24], [48], [16, 16]]", 'kind = ["fast", "slow"]'
    )
    # Predictions are compared only: a callback of JAX has no gradient.
    path = write_study(tmp_path, text.replace("val_accuracy", "val_loss"), name="slow")
    done = manyfit("run", path, "--trials", "4", "--set", 'train.loss="mse"')
    trials = load(path.with_suffix(".db"), "slow").trials
    assert {t.params["kind"] for t in trials} == {"fast", "slow"}
    for trial in trials:
        if trial.params["kind"] == "slow":
            assert trial.ended == "refused", (trial.why, done.stderr)
            assert 20 <= float(trial.why.split()[2]) < 1000
            assert trial.why.endswith("ms for one row; limits.latency_ms allows 15")
        else:
            assert trial.ended == "finished"


@pytest.mark.gallery
def test_study_whose_configs_are_all_refused_says_so(tmp_path):
    path = study(tmp_path, "none", "[limits]\nparameters = 100")
    done = manyfit("run", path, "--trials", "4")
    assert done.returncode == 1
    assert "every trial was refused by a limit, the last one by: it has " in done.stderr
    assert "limits.parameters allows 100; raise the limit under another --name, or narrow the space" in done.stderr
    assert "the config in the middle of the space would be refused: it has " in done.stderr


@pytest.mark.gallery
def test_lanes_measure_the_latency_of_each_structure_once(tmp_path):
    path = study(tmp_path, "slow", "[limits]\nlatency_ms = 0.0001")
    done = manyfit("run", path, "--trials", "6")
    assert done.returncode == 1, done.stderr
    trials = load(path.with_suffix(".db"), "slow").trials
    assert {trial.ended for trial in trials} == {"refused"}
    measured = {(trial.params["units"], trial.why) for trial in trials}
    assert len(measured) == len({units for units, _ in measured}) < 6
