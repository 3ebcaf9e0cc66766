"""A model that is too large is refused as its trial's failure, with its size and what is there; the machine is not eaten."""

from __future__ import annotations

import re

import pytest
from support import in_keras, manyfit, write_study

from search.storage.records import load
from search.storage.verify import verify

pytestmark = pytest.mark.slow


def kinds_and_peak():
    import resource
    from dataclasses import replace
    from pathlib import Path

    import keras

    from search import data
    from search.engines import model_memory
    from search.engines.training import Trainer, leave_tensorflow_out
    from search.spec.settings import DataSection, RunSection, Settings

    leave_tensorflow_out()
    layers, wide = keras.layers, 200_000

    def sequential():
        return keras.Sequential([keras.Input((64,)), layers.Dense(wide), layers.Dense(wide), layers.Dense(10)])

    def without_input():
        return keras.Sequential([layers.Dense(wide), layers.BatchNormalization(), layers.Dense(wide), layers.Dense(10)])

    def functional():
        x = given = keras.Input((64,))
        x = layers.Reshape((1, wide))(layers.Dense(wide, kernel_regularizer="l2")(x))
        return keras.Model(given, layers.Dense(10, activation="softmax")(layers.LSTM(20_000)(x)))

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(wide), layers.Dense(wide), layers.Dense(10)]

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    def reads_its_weights():
        model = sequential()
        model.layers[1].kernel.numpy()
        return model

    def compiled_by_itself():
        model = sequential()
        model.compile(keras.optimizers.SGD(momentum=0.9), loss="mse")
        return model

    def too_large_only_to_train():
        return keras.Sequential([keras.Input((64,)), layers.Dense(3_000), layers.Dense(3_000), layers.Dense(10)])

    def frozen():
        model = too_large_only_to_train()
        for layer in model.layers:
            layer.trainable = False
        return model

    settings = Settings(data=DataSection(source="sklearn:digits", limit=300), run=RunSection(worker_memory=100_000_000))
    loaded = data.load(settings.data, Path(), 0)
    trainer = Trainer.load(settings, Path(), loaded)
    config = {"optimizer": "adam", "learning_rate": 0.1, "batch_size": 32, "epochs": 1}
    found = {}
    for build in (
        sequential,
        without_input,
        functional,
        Own,
        reads_its_weights,
        compiled_by_itself,
        too_large_only_to_train,
        frozen,
    ):
        try:
            replace(trainer, build=lambda config, data, build=build: build()).model(config, 0)
            found[build.__name__] = "fits"
        except model_memory.TooLarge as error:
            found[build.__name__] = str(error)
        if build is compiled_by_itself:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [found, peak]


@pytest.mark.gallery
@pytest.mark.parametrize("backend", ["jax", pytest.param("tensorflow", marks=pytest.mark.gallery)])
def test_model_that_can_not_fit_is_refused_with_its_size_before_it_takes_anything(backend):
    said, peak_kb = in_keras(kinds_and_peak, backend=backend)
    assert peak_kb < 2_000_000, "weights of 160 GB were begun with"
    assert said.pop("frozen") == "fits"
    assert all(text.startswith("the model is too large: ") for text in said.values()), said
    assert all(text.endswith("; run.worker_memory allows 100.0 MB") for text in said.values()), said
    adam = "training them about {} (weights, gradients, the optimizer's slots)"
    whole = "40,015,200,010 parameters take 160.1 GB, "
    assert f"{whole}{adam.format('640.2 GB')}" in said["sequential"]
    assert f"{whole}{adam.format('480.2 GB')}" in said["compiled_by_itself"]
    assert "40,016,000,010 parameters take 160.1 GB" in said["without_input"]
    assert "17,613,280,010 parameters take 70.5 GB" in said["functional"]
    assert f"9,228,010 parameters take 36.9 MB, {adam.format('147.6 MB')}" in said["too_large_only_to_train"]
    # What can't be built to its end is told as far as it came.
    for name in ("Own", "reads_its_weights"):
        assert re.search(r"the first 40,\d{3},\d{3},\d{3} of its parameters take 160.\d GB", said[name]), said[name]


STUDY = """
[study]
objective = "val_loss"
trials = 4
epochs = 2
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "{build}"
[train]
optimizer = "adam"
batch_size = 64
metrics = []
[space]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
{space}
[search]
sampler = "random"
pruner = "none"
start = {start}
[run]
{run}
"""

HOW = {
    "lanes": 'engine = "lanes"\nlanes = 2',
    "jax": 'engine = "fit"\nbackend = "jax"',
    "tensorflow": 'engine = "fit"\nbackend = "tensorflow"',
}


@pytest.mark.gallery
@pytest.mark.parametrize(
    "how",
    ["lanes", pytest.param("jax", marks=pytest.mark.faults), pytest.param("tensorflow", marks=pytest.mark.faults)],
)
def test_trial_whose_model_is_too_large_fails_with_its_size_and_the_others_are_trained(tmp_path, how):
    path = write_study(
        tmp_path,
        STUDY.format(
            build="mlp",
            space="units = [[8], [30000, 30000], [16]]",
            start="[{ units = [8] }, { units = [30000, 30000] }, { units = [16] }, { units = [8] }]",
            run=f'{HOW[how]}\nworker_memory = "3GB"',
        ),
    )
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    trials = load(path.with_suffix(".db"), "small").trials
    assert [trial.state for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[1].ended == "failed"
    assert trials[1].why == (
        "the model is too large: 902,280,010 parameters take 3.6 GB, training them about 14.4 GB "
        "(weights, gradients, the optimizer's slots); run.worker_memory allows 3.0 GB"
    )
    assert verify(path.with_suffix(".db")).problems == []


GREEDY = '''
import resource

import keras
from keras import ops


class Greedy(keras.layers.Layer):
    """Small in weights, and 64 GB in what it computes on the way."""

    def call(self, x):
        many = ops.tile(x[:1], (2**17, 1))
        return x + ops.max(ops.matmul(many, ops.transpose(many)))


def build(config, data):
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    # The machine is not to be eaten, nor to promise what it has not.
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**32, resource.getrlimit(resource.RLIMIT_AS)[1]))
    layers = [keras.layers.Dense(16), *([Greedy()] if config["kind"] == "greedy" else [])]
    return keras.Sequential([keras.Input(data.input_shape), *layers, keras.layers.Dense(data.outputs)])
'''


@pytest.mark.gallery
@pytest.mark.parametrize("how", ["jax", pytest.param("tensorflow", marks=pytest.mark.faults)])
def test_trial_that_runs_out_of_memory_in_training_fails_with_its_size_and_the_others_are_trained(tmp_path, how):
    (tmp_path / "greedy.py").write_text(GREEDY)
    begin = "[" + ", ".join(f'{{ kind = "{kind}" }}' for kind in ("fine", "greedy", "fine", "fine")) + "]"
    path = write_study(
        tmp_path,
        STUDY.format(build="greedy.py:build", space='kind = ["fine", "greedy"]', start=begin, run=HOW[how]),
    )
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    trials = load(path.with_suffix(".db"), "small").trials
    assert [trial.state for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[1].ended == "failed"
    assert re.match(
        r"out of memory: the process may have \d+\.\d GB; of the model, 1,210 parameters take 4.8 kB, training them about "
        r"19.4 kB \(weights, gradients, the optimizer's slots\); .*(Out of memory|ResourceExhausted)",
        trials[1].why,
    ), trials[1].why
    assert verify(path.with_suffix(".db")).problems == []
