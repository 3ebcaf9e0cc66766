"""Decides a study's lanes and programs, from the study and the device alone: no measured times, so it is repeatable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv

from search.engines import failures, model_memory, preflight
from search.engines.lanes import keys, lifting
from search.engines.lanes.builder import Built, build, fingerprinted, study_has_user_code
from search.engines.lanes.lifting import NotLiftable
from search.engines.lanes.program import Program, Rows
from search.engines.training import Trainer
from search.errors import UsageError
from search.trials.events import Assignment, Member
from spaces import Choice, Parameter

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
# With fewer trials per program than this, compiling takes longer than lanes save. A study counts as LEAST_TRIALS trials at
# least: a very small one may be a first try of a larger one.
TRIALS_A_PROGRAM = 2
LEAST_TRIALS = 20
# Of a choice with more values than this, only the first are tried.
_MOST_VALUES = 16
# In this many structures, parameters are searched for hidden effects; in others, the fingerprint of each trial shows them.
_MOST_BRANCHES = 4
# More programs than any study has trials: the number for a range of real values that can't be lifted.
_ENDLESS = 10**6


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many members train at a time, in how many lanes and programs.

    Attributes:
        places: members that train at a time, in blocks of `width` lanes.
        ahead: members that are built meanwhile.
        programs: how many the space needs.
        memory: (bytes needed at most, by the compiler's estimate; bytes allowed).
        compiled: programs that were compiled to decide this, by key.
    """

    places: int
    ahead: int
    programs: int
    width: int
    memory: tuple[int, int] = (0, 0)
    compiled: Mapping[str, Program] = field(default_factory=dict)


def rows_of(trainer: Trainer) -> Rows:
    """Put a study's rows on the device; NotLiftable if they are read as they are needed."""
    if trainer.data.stream is not None:
        raise NotLiftable(
            "its training rows are read in batches as they are needed, and lanes hold all rows on the device"
        )
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
    if settings.train.callbacks:
        raise NotLiftable("train.callbacks need model.fit, which the lanes engine does not call")
    if trainer.has_own_fit:
        raise NotLiftable("the hypermodel trains its models in a fit of its own")
    probe = _probe(trainer, rows, fixed)
    largest, programs = probe.largest, probe.programs
    if not is_asked_for:
        if device == "cpu" and (slow := _convolution(largest)):
            raise NotLiftable(f"the layer {slow} is a convolution, which lanes make slower on a CPU")
        most = max(settings.study.trainings, LEAST_TRIALS) // TRIALS_A_PROGRAM
        if programs > most:
            raise NotLiftable(f"{probe.costliest}, and its trials would need {_many(programs)} compiled programs")
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
    return Lanes(places, ahead, programs, width, (needed, allowed), {largest.key: program})


@dataclass(frozen=True, slots=True)
class _Probe:
    """How many programs a space needs.

    Attributes:
        largest: the model with the most weights times batch size of all that were built.
        programs: the product, over the parameters, of the programs that a parameter needs while the others are in the middle.
        costliest: the parameter that needs the most programs, and why; "" if one program is enough.
    """

    largest: Built
    programs: int
    costliest: str


def _probe(trainer: Trainer, rows: Rows, fixed: Mapping[str, Any]) -> _Probe:
    """Build models of the space and count the programs that they need."""
    space = trainer.space
    middle = space.middle()

    def built(params: Mapping[str, Any], seed: int = 0) -> Built:
        active = {name: value for name, value in params.items() if space.is_active(name, params)}
        return build(trainer, _assignment({**fixed, **space.config(active)}, seed))

    try:
        first = largest = built(middle)
    except (NotLiftable, UsageError):
        raise
    except BaseException as error:
        raise NotLiftable(f"its builder fails in the middle of the space: {failures.one_line(error)}") from error
    other_seed = built(middle, seed=1)
    if other_seed.structure != first.structure:
        what = keys.difference(first.model, first.described, other_seed.described)
        raise NotLiftable(f"{what} changes with the seed")
    programs, most, costliest = 1, 1, ""
    branches = {first.structure_at_any_batch_size: middle}
    lifted: dict[str, list[Any]] = {}
    for name in space:
        values, count = _values(space[name])
        by_structure: dict[str, Built] = {}
        for value in values:
            # With the parameters that only this value makes active.
            params = preflight.middle_with(space, name, value)
            try:
                one = built(params)
            except (NotLiftable, UsageError):
                raise
            except BaseException:  # noqa: BLE001, S112 (the user's builder; it fails again in the trial with this config)
                continue
            by_structure[one.structure] = one
            branches.setdefault(one.structure_at_any_batch_size, params)
            largest = max(largest, one, key=lambda b: model_memory.parameters_of(b.model) * b.batch_size)
        if len(by_structure) == 1:
            lifted[name] = values
        needed = count if 1 < len(by_structure) == len(values) else max(1, len(by_structure))
        programs *= needed
        if needed > most:
            most = needed
            one, different, *_ = by_structure.values()
            what = keys.difference(one.model, one.described, different.described)
            costliest = f"the parameter {name} changes {what} in a way that can't be lifted"
    # Without user code, the structure determines the arithmetic: nothing is hidden.
    for params in list(branches.values())[:_MOST_BRANCHES] if study_has_user_code(trainer) else []:
        moved = {
            name: next((value for value in values if value != params[name]), params[name])
            for name, values in lifted.items()
            if name in params
        }
        for name in _hidden(lambda params, seed: fingerprinted(built(params, seed), rows), params, moved):
            _, needed = _values(space[name])
            programs *= needed
            if needed > most:
                most = needed
                costliest = f"the parameter {name} changes what is computed in a way that no layer's config shows"
            del lifted[name]
    return _Probe(largest, min(programs, _ENDLESS), costliest)


def _hidden(
    traced: Callable[[Mapping[str, Any], int], Built], params: Mapping[str, Any], moved: Mapping[str, Any]
) -> list[str]:
    """Return the parameters of `moved` that change what a model computes but not its structure.

    Two traces are enough if there are none: one of `params`, one with another seed and every parameter moved. NotLiftable if
    the seed alone changes what is computed.
    """

    def differs(names: Collection[str], seed: int) -> bool:
        try:
            other = traced({**params, **{name: moved[name] for name in names}}, seed)
        except UsageError:
            raise
        except BaseException:  # noqa: BLE001 (the user's code; it fails again in the trial with this config)
            return False
        return other.structure == base.structure and other.fingerprint != base.fingerprint

    try:
        base = traced(params, 0)
    except UsageError:
        raise
    except BaseException:  # noqa: BLE001 (the user's code; it fails again in the trial with this config)
        return []
    if not differs(moved, 1):
        return []
    if differs([], 1):
        raise NotLiftable("what it computes changes with the seed")
    return [name for name in moved if differs([name], 0)]


def _assignment(config: Mapping[str, Any], seed: int) -> Assignment:
    return Assignment(Member(0), config, int(config["epochs"]), seed)


def _values(parameter: Parameter) -> tuple[list[Any], int]:
    """Return the values of a parameter to try, and how many values it has in all."""
    if isinstance(parameter, Choice):
        values = parameter.values()
        return values[:_MOST_VALUES], len(values)
    values = parameter.values() or []
    return (values if 0 < len(values) <= _MOST_VALUES else [parameter.low, parameter.high]), len(values) or _ENDLESS


def _many(count: int) -> str:
    return "endlessly many" if count == _ENDLESS else str(count)


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


def _convolution(built: Built) -> str:
    kinds = (BaseConv, BaseDepthwiseConv, BaseSeparableConv)
    names: Iterator[str] = (layer.name for layer in lifting.layers_of(built.model) if isinstance(layer, kinds))
    return next(names, "")
