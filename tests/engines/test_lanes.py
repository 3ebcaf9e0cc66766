"""Lanes: what a lane computes, and that it depends on nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support import end, manyfit, query, start, table, wait_for, write_study

pytestmark = pytest.mark.slow

PRELUDE = """
import json
from pathlib import Path

import keras
import numpy as np

from search import data
from search.engines.lanes import lifting
from search.engines.lanes.engine import LanesEngine
from search.engines.lanes.program import Program
from search.engines.batches import Batches, Clock
from search.engines.protocol import Assignment, EpochEnd, Member, Verdict
from search.engines.training import Trainer
from search.settings import DataSection, Settings

settings = Settings(data=DataSection(source="sklearn:digits", limit=300))
loaded = data.load(settings.data, Path(), 0)
trainer = Trainer.load(settings, Path(), loaded)


def assignment(number, epochs=3, seed=None, done=0, **config):
    fixed = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 64, "epochs": epochs, "units": [16]}
    return Assignment(Member(number), {**fixed, **config}, epochs, number + 1 if seed is None else seed, done=done)


def train(engine, assignments):
    waiting, found = list(assignments), {}
    while waiting or engine._members:
        while engine.have_room and waiting:
            engine.start(waiting.pop(0))
        events = engine.advance()
        for event in events:
            assert isinstance(event, EpochEnd), event.detail
            found.setdefault(event.member.trial, []).append(dict(event.metrics))
        last = {a.member: a.epochs for a in assignments}
        engine.apply([Verdict(e.member, ends=e.epoch == last[e.member]) for e in events])
    return found
"""


def in_jax(code: str):
    """Run code after the prelude on the JAX backend; what it prints last is JSON."""
    env = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PRELUDE + code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_lane_agrees_with_fit_in_its_weights_after_several_epochs():
    differences = in_jax("""
found = {}
for name, config in {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01, "beta_1": 0.8, "beta_2": 0.99},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "momentum": {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.001},
    "nadam": {"optimizer": "nadam"}, "adamax": {"optimizer": "adamax"}, "lion": {"optimizer": "lion", "learning_rate": 1e-4},
    "adagrad": {"optimizer": "adagrad"}, "adadelta": {"optimizer": "adadelta", "learning_rate": 0.5},
    "lamb": {"optimizer": "lamb"},
    "clipped": {"optimizer": "adam", "clipnorm": 0.5},
    "penalties": {"optimizer": "sgd", "learning_rate": 0.05, "l1": 1e-3, "l2": 1e-2},
    "cosine": {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.2, "end_factor": 0.1},
    "batch_norm": {"optimizer": "sgd", "learning_rate": 0.05, "batch_norm": True},
    "dropout": {"optimizer": "sgd", "learning_rate": 0.05, "dropout": 0.3},
}.items():
    given = assignment(0, seed=7, **config).config
    alone = trainer.model(given, 7)
    batches = Batches(trainer.arrays(), 64, 7)
    alone.fit(batches, epochs=3, shuffle=False, verbose=0, callbacks=[Clock(batches)])
    model = trainer.model(given, 7)
    lifting.prepare(model)
    program = Program(model, lanes=2, batch_size=64, arrays=trainer.arrays(),
                      validation=(loaded.x_validation, loaded.y_validation), validation_batch=256)
    program.fill(0, model)
    for epoch in (1, 2, 3):
        program.advance({0: (7, epoch)})
    found[name] = max(
        float(np.abs(np.asarray(ours[0]) - np.asarray(theirs.value)).max())
        for ours, theirs in zip(program._state["trainable"], alone.trainable_variables)
    )
print(json.dumps(found))
""")
    assert {name: size for name, size in differences.items() if not size < 1e-5} == {}


def test_result_does_not_depend_on_neighbours_or_on_the_lane():
    alone, beside, elsewhere, with_nan = in_jax("""
def of_five(neighbours, places=4, lanes=4):
    engine = LanesEngine(trainer, places=places, lanes=lanes)
    return train(engine, [*neighbours, assignment(5, seed=9, dropout=0.2)])[5]

alone = of_five([])
beside = of_five([assignment(1, dropout=0.5)])
elsewhere = of_five([assignment(1), assignment(2), assignment(3, learning_rate=0.1)])
with_nan = of_five([assignment(1, learning_rate=1e30), assignment(2)])
print(json.dumps([alone, beside, elsewhere, with_nan]))
""")
    assert alone == beside == elsewhere == with_nan


def test_members_that_differ_in_lifted_numbers_share_a_program_that_is_traced_once():
    traces, programs, epochs = in_jax("""
engine = LanesEngine(trainer, places=4, lanes=4)
many = [assignment(n, epochs=2 + n % 3, learning_rate=0.001 * (n + 1), dropout=[0.0, 0.4][n % 2],
                   initializer=["he_normal", "zeros", "glorot_uniform"][n % 3]) for n in range(12)]
found = train(engine, many)
print(json.dumps([engine.traces, len(engine._rooms), [len(found[n]) for n in range(12)]]))
""")
    assert (traces, programs) == (1, 1)
    assert epochs == [2 + n % 3 for n in range(12)]


def test_shapes_and_batch_sizes_are_programs_of_their_own_and_take_turns():
    programs, traces, ticks = in_jax("""
engine = LanesEngine(trainer, places=6, lanes=2)
for n, config in enumerate([{"batch_size": 32}, {"batch_size": 64}, {"units": [8]}, {"batch_size": 32}]):
    engine.start(assignment(n, **config))
ticks = []
for _ in range(3):
    events = engine.advance()
    ticks.append(sorted((e.member.trial, e.epoch) for e in events))
    engine.apply([Verdict(e.member, ends=False) for e in events])
print(json.dumps([len(engine._rooms), engine.traces, ticks]))
""")
    assert (programs, traces) == (3, 3)
    assert ticks == [[[n, epoch] for n in range(4)] for epoch in (1, 2, 3)]


def test_own_layers_with_other_numbers_never_share_a_program():
    keys = in_jax("""
class Scale(keras.layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.hidden = factor * 2  # not in its config

    def call(self, x):
        return x * self.hidden

    def get_config(self):
        return super().get_config()

keys = []
for factor in (1.0, 2.0, 1.0):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((64,)), Scale(factor), keras.layers.Dense(10)])
    trainer.compile(model, assignment(0).config)
    lifting.prepare(model)
    keys.append(lifting.program_key(model, lifting.slots(model), 64))
print(json.dumps(keys))
""")
    assert keys[0] == keys[2] != keys[1]


LANES = ("--set", "run.engine=lanes", "--set", "run.lanes=4")


def test_lanes_search_a_study_and_an_interrupted_one_comes_out_the_same(tmp_path):
    tables = []
    for name in ("whole", "cut"):
        path = write_study(tmp_path, name=name, trials=14, epochs=12)
        database = path.with_suffix(".db")
        if name == "cut":
            process = start("run", path, *LANES)
            wait_for(lambda: query(database, "SELECT 1 FROM manyfit_epochs WHERE epoch = 3"), "epoch 3")  # noqa: B023
            assert end(process, 2)[0] == 130
            assert query(database, "SELECT count(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]
        done = manyfit("run", path, *LANES)
        assert done.returncode == 0, done.stderr
        tables.append(table(database, name))
    assert len(tables[0]) == 14
    assert tables[0] == tables[1]
    assert "recomputed" not in manyfit("show", tmp_path / "cut.toml").stdout


@pytest.mark.parametrize(
    ("build", "says"),
    [
        ("subclassed", "Own is a model class of its own, not Sequential or Functional"),
        ("with_lambda", "is a Lambda, whose function may hold anything"),
    ],
)
def test_model_that_can_not_be_lifted_is_refused_with_the_reason(tmp_path, build, says):
    (tmp_path / "mine.py").write_text("""
import keras


class Own(keras.Model):
    def __init__(self, outputs):
        super().__init__()
        self.dense = keras.layers.Dense(outputs)

    def call(self, x):
        return self.dense(x)


def subclassed(config, data):
    return Own(data.outputs)


def with_lambda(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(data.outputs)])
""")
    path = write_study(tmp_path)
    done = manyfit("run", path, *LANES, "--set", f'model={{ build = "mine.py:{build}" }}')
    assert done.returncode == 2
    assert says in done.stderr
    assert 'set engine = "fit"' in done.stderr
    assert not path.with_suffix(".db").exists()


def test_plan_tells_lanes_and_programs(tmp_path):
    path = write_study(tmp_path)
    found = json.loads(manyfit("plan", path, "--json", *LANES).stdout)
    assert (found["engine"], found["backend"], found["lanes"], found["programs"]) == ("lanes", "jax", 4, 2)
