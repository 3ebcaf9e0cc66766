# ruff: noqa: F401 (what is imported here is for the code of the tests)
"""What tests of lanes run in a process of their own on the JAX backend."""

import json
from pathlib import Path

import jax
import keras
import numpy as np

from search import data
from search.engines.batches import Batches, Clock, shuffled
from search.engines.checkpoints import Checkpoints
from search.engines.lanes import keys, lifting, sizing
from search.engines.lanes.builder import build, fingerprinted
from search.engines.lanes.engine import LanesEngine
from search.engines.lanes.program import Block, Program
from search.engines.training import Trainer, leave_tensorflow_out, weights_of
from search.spec.settings import DataSection, Settings
from search.trials.events import Assignment, EpochEnd, Failed, Member, Noted, Verdict


def trainer_of(source="sklearn:digits", **sections):
    settings = Settings(
        data=DataSection(source=source, limit=300, scale="none" if "digits" in source else "standard"), **sections
    )
    return Trainer.load(settings, Path(), data.load(settings.data, Path(), 0))


leave_tensorflow_out()
trainer = trainer_of()
loaded, rows = trainer.data, sizing.rows_of(trainer)


# Most of what lanes lift, in two programs: compiling is nearly all that a comparison takes.
LIFTED_TOGETHER = {
    "adamw, together": {
        "optimizer": "adamw", "weight_decay": 0.01, "beta_1": 0.8, "beta_2": 0.99, "dropout": 0.3,
        "label_smoothing": 0.1, "schedule": "cosine", "warmup": 0.2, "end_factor": 0.1,
    },
    "sgd, together": {
        "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "gradient_accumulation_steps": 2, "batch_norm": True,
        "l1": 1e-3, "l2": 1e-2, "clipnorm": 0.5, "schedule": "exponential", "warmup": 0.1,
    },
}  # fmt: skip


def assignment(number, epochs=3, seed=None, done=0, **config):
    fixed = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 64, "epochs": epochs, "units": [16]}
    return Assignment(Member(number), {**fixed, **config}, epochs, number + 1 if seed is None else seed, done=done)


def engine_of(places, width, trainer=trainer):
    return LanesEngine(trainer, sizing.rows_of(trainer), places=places, width=width)


def train(engine, assignments, places=4):
    """Train all, at most so many at a time; return their curves."""
    waiting, found = list(assignments), {}
    last = {a.member: a.epochs for a in assignments}
    while waiting or engine.members:
        while waiting and len(engine.members) < places:
            engine.start(waiting.pop(0))
        ended = []
        for event in engine.advance():
            assert not isinstance(event, Failed), event.detail
            if isinstance(event, EpochEnd):
                found.setdefault(event.member.trial, []).append(dict(event.metrics))
                ended.append(Verdict(event.member, ends=event.epoch == last[event.member]))
        engine.apply(ended)
    return found


def in_a_lane(given, epochs=3, trainer=trainer, beside=None):
    """Train one member in a block of two lanes, in the program of `beside`, who is in the other; return its state."""
    rows = sizing.rows_of(trainer)
    built, other = (fingerprinted(build(trainer, one), rows) for one in (given, beside or given))
    assert built.key == other.key
    block = Block(Program(other.model, other.slots, rows, width=2, batch_size=built.batch_size))
    block.program.compile(other.state)
    block.fill(1, other.state)
    block.fill(0, built.state)
    for epoch in range(1, epochs + 1):
        block.begin({lane: shuffled(rows.count, given.seed, epoch) for lane in (0, 1)})
        logs = block.end()
    return block.take(0), {name: float(values[0]) for name, values in logs.items()}


def by_fit(given, epochs=3, trainer=trainer):
    """Train it by model.fit, in the same order of batches; return the model and its last logs."""
    model = trainer.model(given.config, given.seed)
    batches = Batches(trainer.arrays(), given.config["batch_size"], given.seed)
    history = model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[Clock(batches)],
        validation_data=trainer.validation(),
        validation_batch_size=256,
    )
    return model, {name: values[-1] for name, values in history.history.items()}


def weights_kept(trainer, config, path, seed=7):
    """Keep the weights of a new model of a config in a file, as a training does; return its path."""
    model = trainer.model(config, seed)
    arrays = weights_of(model.trainable_variables, model.non_trainable_variables)
    Checkpoints(None).keep(path, {name: np.array(variable) for name, variable in arrays}, {"trial": 0})
    return path


def apart(given, trainer=trainer, epochs=3, beside=None):
    """How far a lane's weights and metrics are from those of model.fit."""
    model, logs = by_fit(given, epochs, trainer)
    state, lane_logs = in_a_lane(given, epochs, trainer, beside)
    # Seeds apart: a lane has them for dropouts of rate 0, too.
    ours = [np.asarray(a) for a in (*state["trainable"], *state["other"]) if np.asarray(a).dtype != np.uint32]
    both = (*model.trainable_variables, *model.non_trainable_variables)
    theirs = [np.asarray(v.value) for v in both if v.dtype != "uint32"]
    assert set(logs) <= set(lane_logs), (logs, lane_logs)
    weights = [float(np.abs(a.astype(float) - b.astype(float)).max()) for a, b in zip(ours, theirs, strict=True)]
    return max(*weights, *(abs(logs[name] - lane_logs[name]) for name in logs))
