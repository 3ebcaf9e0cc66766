"""Decides a study's lanes and programs, from the study and the device alone: no measured times, so it is repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import keras
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv

from search.engines import failures, model_memory
from search.engines.lanes import callbacks, lifting, pooling, probing, structures
from search.engines.lanes.builder import Built, build, fingerprinted
from search.engines.lanes.lifting import NotLiftable
from search.engines.lanes.probing import Probe
from search.engines.lanes.program import Program, Rows
from search.engines.training import Trainer
from search.errors import UsageError

# Members at a time. More gain little speed on such a device, and the sampler learns later.
PLACES = {"cpu": 32, "gpu": 256}
# Lanes of one block. A CPU gains nothing from more (docs/benchmarks.md), and a block costs the same however few members
# it has; a GPU multiplies that many small matrices at once.
WIDTH = {"cpu": 8, "gpu": 256}
# At most 1 / this of the trials run at a time: the sampler learns nothing from trials that all start together.
SHARE_OF_TRIALS = 4
# At most 1 / this of the places are drawn ahead: each such trial is drawn by a sampler that has learned less.
SHARE_AHEAD = 8
# The share of the machine's or GPU's memory that lanes may take.
SHARE_OF_MEMORY = {"cpu": 0.5, "gpu": 0.9}
# With fewer trials per compilation than this, compiling takes longer than lanes save: a program takes about as long as two
# trials by `model.fit` on TensorFlow, and so does a trial by `model.fit` on JAX with layers of new widths
# (docs/decisions/0024). A study counts as LEAST_TRIALS trials at least: a very small one may be a first try of a larger one.
TRIALS_A_PROGRAM = 2
LEAST_TRIALS = 20
# Of the structures that get programs, so many are named in a plan.
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many members train at a time, in how many lanes and programs.

    Attributes:
        places: members that train at a time, in blocks of `width` lanes.
        ahead: members that are built meanwhile.
        programs: how many the study needs.
        memory: (bytes needed at most, by the compiler's estimate; bytes allowed).
        structures, counted: as in `Ready`.
        compiled: programs that were compiled to decide this, by key.
    """

    places: int
    ahead: int
    programs: int
    width: int
    memory: tuple[int, int] = (0, 0)
    structures: tuple[str, ...] = ()
    counted: Mapping[str, Any] = field(default_factory=dict)
    compiled: Mapping[str, Program] = field(default_factory=dict)


def rows_of(trainer: Trainer) -> Rows:
    """Put a study's rows on the device; NotLiftable if they are read as they are needed."""
    if trainer.data.stream is not None:
        raise NotLiftable(
            "its training rows are read in batches as they are needed, and lanes hold all rows on the device"
        )
    if trainer.data.folds:
        return pooling.rows_of(trainer)
    return Rows(
        jax.tree.map(jnp.asarray, trainer.arrays()),
        jax.tree.map(jnp.asarray, trainer.validation()),
        *trainer.objective,
    )


def choose(trainer: Trainer, rows: Rows, fixed: Mapping[str, Any], *, workers: int, is_asked_for: bool) -> Lanes:
    """Decide the lanes of a study.

    Raises NotLiftable, with the part and the reason, if lanes can't train its models or, unless `is_asked_for`, would not be
    faster; UsageError for a number of lanes that does not fit into memory.

    Args:
        workers: how many share this device's memory.
    """
    settings = trainer.settings
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    if names := callbacks.others(settings.train.callbacks):
        raise NotLiftable(f"train.callbacks: {', '.join(names)}: needs model.fit, which the lanes engine does not call")
    if trainer.has_own_fit:
        raise NotLiftable("the hypermodel trains its models in a fit of its own")
    probe = probing.probe(trainer, rows, fixed)
    largest, programs = probe.largest, probe.programs
    few = None if is_asked_for else _few_programs(trainer, fixed, probe, device)
    if few is not None:
        largest, programs = few.largest, len(few.structures)
    wanted = settings.run.lanes
    # Build it again: other builds may have changed a global that its builder reads.
    largest = fingerprinted(build(trainer, largest.assignment), rows)
    places = (
        wanted if isinstance(wanted, int) else max(1, min(PLACES[device], settings.study.trainings // SHARE_OF_TRIALS))
    )
    allowed = int(model_memory.limit().bytes * SHARE_OF_MEMORY[device]) // workers
    while True:
        width = min(WIDTH[device], -(-places // programs))
        program = _program(largest, rows, width)
        shared = rows.bytes
        # Each program may have one block that is partly empty.
        needed = shared + min(places, -(-places // width) + programs - 1) * program.bytes
        if needed <= allowed:
            break
        amounts = f"about {model_memory.text(needed)} and {model_memory.text(allowed)} are there"
        if wanted == places:
            raise UsageError(f'run.lanes: {places} lanes need {amounts}; set fewer, or "auto"')
        if places == 1:
            raise NotLiftable(f"one lane needs {amounts}")
        places //= 2
    ahead = max(1, places // SHARE_AHEAD) if settings.search.learns else places
    programs = min(programs, max(1, settings.study.trainings))
    counted = {**(few.counted if few else {}), "compile_s": program.compile_s}
    # A program that no trial is expected to need is not kept.
    compiled = {largest.key: program} if few is None or largest.structure in few.structures else {}
    return Lanes(
        places, ahead, programs, width, (needed, allowed), few.structures if few else (), counted, compiled=compiled
    )


def _too_many(probe: Probe, programs: str) -> NotLiftable:
    return NotLiftable(f"{probe.costliest}, and its trials would need {programs} compiled programs")


@dataclass(frozen=True, slots=True)
class _Few:
    """The structures of which a study will have enough trials for a program. `largest`: the largest model that was built."""

    structures: tuple[str, ...]
    counted: Mapping[str, Any]
    largest: Built


def _few_programs(trainer: Trainer, fixed: Mapping[str, Any], probe: Probe, device: str) -> _Few | None:
    """Choose the structures that get programs if not all do; NotLiftable if lanes would not be faster than `model.fit`."""
    if device == "cpu" and (slow := convolution_of(probe.largest.model)):
        raise NotLiftable(f"the layer {slow} is a convolution, which lanes make slower on a CPU")
    expected = max(trainer.settings.study.trainings, LEAST_TRIALS)
    most = expected // TRIALS_A_PROGRAM
    if probe.programs <= most and not probe.is_partial:
        return None
    # Structures that differ in one parameter alone need no draws to be counted.
    if probe.is_hidden or structures.occurring(probe.widest, expected) > most:
        raise _too_many(probe, probing.many(probe.programs))
    largest = probe.largest

    def built(params: Mapping[str, Any]) -> Built:
        nonlocal largest
        one = build(trainer, probing.assignment({**fixed, **trainer.space.config(params)}, seed=0))
        largest = max(largest, one, key=probing.size)
        return one

    counted = structures.count(
        trainer.space,
        trainer.settings.study.seed,
        built,
        lifted=probe.lifted,
        most_built=min(structures.MOST_BUILT, most),
    )
    chosen = counted.worth_a_program(expected)
    if (compilations := counted.compilations(chosen, expected)) > most:
        raise _too_many(probe, f"about {compilations:.0f}")
    details = {
        "draws": counted.draws,
        "structures": len(counted.structures),
        "share": round(counted.share(chosen), 3),
        "most_used": [
            {"params": one.params, "share": round(one.draws / counted.draws, 3)} for one in chosen[:_MOST_NAMED]
        ],
    }
    return _Few(tuple(one.key for one in chosen), details, largest)


def _program(built: Built, rows: Rows, width: int) -> Program:
    """Compile a program; NotLiftable if the model can't be traced."""
    try:
        program = Program(built.model, built.slots, rows, width=width, batch_size=built.batch_size)
        program.compile(built.state)
    except NotLiftable:
        raise
    except BaseException as error:
        raise NotLiftable(f"it can't be traced: {failures.one_line(error)}") from error
    return program


def convolution_of(model: keras.Model) -> str:
    """Return the name of a layer that is a convolution; "" if none is. XLA computes those slowly on a CPU."""
    kinds = (BaseConv, BaseDepthwiseConv, BaseSeparableConv)
    names: Iterator[str] = (layer.name for layer in lifting.layers_of(model) if isinstance(layer, kinds))
    return next(names, "")
