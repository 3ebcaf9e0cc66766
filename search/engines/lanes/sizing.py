"""How many lanes a study gets, and in how many programs: from the study and the device alone, never from the clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv

from search.engines import failures, memory, preflight
from search.engines.lanes import keys, lifting
from search.engines.lanes.builder import Built, build, identified, is_ours
from search.engines.lanes.lifting import NotLiftable
from search.engines.lanes.program import Program, Rows
from search.engines.training import Trainer
from search.errors import UsageError
from search.trials.events import Assignment, Member
from spaces import Choice, Parameter, Space

# More trials at a time than this bring little more on such a device, and the sampler learns later.
PLACES = {"cpu": 32, "gpu": 256}
# How many lanes are compiled into one block. A CPU gains nothing from more (docs/benchmarks.md), and a block costs the same
# however few members are in it; a GPU has that many small matrices to multiply at once.
WIDTH = {"cpu": 8, "gpu": 256}
# The sampler learns nothing from trials that all run at once.
SHARE_OF_TRIALS = 4
# A sampler that learns loses a little by every trial that is drawn ahead of need; one that does not loses nothing.
SHARE_AHEAD = 8
# What lanes may take of a GPU's memory, and of a machine's.
SHARE_OF_MEMORY = {"cpu": 0.5, "gpu": 0.9}
# With fewer trials to a program than this, compiling would take longer than what lanes save. A study of very few trials may
# be a first try of a larger one.
TRIALS_A_PROGRAM = 2
LEAST_TRIALS = 20
# A choice of more values than this is looked at in part.
_MOST_VALUES = 16
# So many kinds of models are looked at for what their layers do not tell; of others, every trial is.
_MOST_BRANCHES = 4
# More programs than anybody has trials: what a real range needs that can't be lifted.
_ENDLESS = 10**6


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many members train at a time, and in what.

    Attributes:
        places: members at a time, in lanes of blocks of `width`.
        ahead: members that are built meanwhile.
        programs: how many the space needs.
        memory: bytes that it takes at most, by the compiler's estimate, and that it may take.
        compiled: programs that deciding has compiled, by their keys.
    """

    places: int
    ahead: int
    programs: int
    width: int
    memory: tuple[int, int] = (0, 0)
    compiled: Mapping[str, Program] = field(default_factory=dict)


def rows_of(trainer: Trainer) -> Rows:
    """Put a study's rows on the device."""
    data = trainer.data
    return Rows(
        tuple(jnp.asarray(array) for array in trainer.arrays()),
        (jnp.asarray(data.x_validation), jnp.asarray(data.y_validation)),
        *trainer.objective,
    )


def choose(trainer: Trainer, rows: Rows, fixed: Mapping[str, Any], *, workers: int, is_asked_for: bool) -> Lanes:
    """Decide the lanes of a study.

    Raises NotLiftable, saying which part and why, if its model can't be trained in lanes or, unless lanes are asked for, if
    that would not pay; UsageError for a number of lanes that can't fit.

    Args:
        workers: that share this device's memory.
    """
    settings = trainer.settings
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    if settings.train.callbacks:
        raise NotLiftable("train.callbacks need model.fit, which the lanes engine does not call")
    probed = _probe(trainer, rows, fixed)
    largest, programs = probed.largest, probed.programs
    if not is_asked_for:
        if device == "cpu" and (slow := _convolution(largest)):
            raise NotLiftable(f"the layer {slow} is a convolution, which lanes make slower on a CPU")
        most = max(settings.study.trials, LEAST_TRIALS) // TRIALS_A_PROGRAM
        if programs > most:
            raise NotLiftable(f"{probed.dearest}, and its trials would need {_many(programs)} compiled programs")
    wanted = settings.run.lanes
    # Built once more: by now other builds may have changed what it reads from a global.
    largest = identified(build(trainer, largest.assignment), rows)
    places = (
        wanted if isinstance(wanted, int) else max(1, min(PLACES[device], settings.study.trials // SHARE_OF_TRIALS))
    )
    allowed = _allowed(device) // workers
    while True:
        width = min(WIDTH[device], -(-places // programs))
        program = _program(largest, rows, width)
        shared = sum(array.nbytes for array in (*rows.train, *rows.validation))
        # Each program may have one block that is not full.
        needed = shared + min(places, -(-places // width) + programs - 1) * program.bytes
        if needed <= allowed:
            break
        if wanted == places:
            raise UsageError(
                f"run.lanes: {places} lanes need about {memory.text(needed)} and {memory.text(allowed)} are there; "
                'set fewer, or "auto"'
            )
        if places == 1:
            raise NotLiftable(f"one lane needs about {memory.text(needed)} and {memory.text(allowed)} are there")
        places //= 2
    ahead = max(1, places // SHARE_AHEAD) if settings.search.learns else places
    programs = min(programs, max(1, settings.study.trials))
    return Lanes(places, ahead, programs, width, (needed, allowed), {largest.key: program})


@dataclass(frozen=True, slots=True)
class _Probed:
    """What the space comes to in programs.

    Attributes:
        largest: the model with the most weights of all that were built.
        programs: the product over the parameters of the programs that their values need, all others in their middle.
        dearest: the parameter that needs most of them, and why; "" if one program is enough.
    """

    largest: Built
    programs: int
    dearest: str


def _probe(trainer: Trainer, rows: Rows, fixed: Mapping[str, Any]) -> _Probed:
    """Build models of the space to tell its programs apart."""
    space = Space.parse(trainer.settings.space)
    middle = space.middle()

    def built(params: Mapping[str, Any], seed: int = 0) -> Built:
        active = {name: label for name, label in params.items() if space.is_active(name, params)}
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
        raise NotLiftable(f"every seed makes {what} another")
    programs, most, dearest = 1, 1, ""
    branches = {_without_batch_size(first): middle}
    lifted: dict[str, list[Any]] = {}
    for name in space:
        values, in_all = _values(space[name])
        base = middle if name in middle else preflight.middle_with(space, name)
        alike: dict[str, Built] = {}
        for value in values:
            try:
                one = built({**base, name: value})
            except (NotLiftable, UsageError):
                raise
            except BaseException:  # noqa: BLE001, S112 (the user's builder; the trial with this config will tell)
                continue
            alike[one.structure] = one
            branches.setdefault(_without_batch_size(one), {**base, name: value})
            largest = max(largest, one, key=lambda b: memory.parameters_of(b.model) * b.batch_size)
        if len(alike) == 1:
            lifted[name] = values
        needed = in_all if 1 < len(alike) == len(values) else max(1, len(alike))
        programs *= needed
        if needed > most:
            most = needed
            one, different, *_ = alike.values()
            what = keys.difference(one.model, one.described, different.described)
            dearest = f"the parameter {name} changes {what} in a way that can't be lifted"
    # Models of our own builders and Keras's own losses and metrics hide nothing.
    for params in [] if is_ours(trainer) else list(branches.values())[:_MOST_BRANCHES]:
        moved = {
            name: next((value for value in values if value != params[name]), params[name])
            for name, values in lifted.items()
            if name in params
        }
        for name in _hidden(lambda params, seed: identified(built(params, seed), rows), params, moved):
            _, needed = _values(space[name])
            programs *= needed
            if needed > most:
                most = needed
                dearest = f"the parameter {name} changes what is computed in a way that no layer tells of"
            del lifted[name]
    return _Probed(largest, min(programs, _ENDLESS), dearest)


def _hidden(
    traced: Callable[[Mapping[str, Any], int], Built], params: Mapping[str, Any], moved: Mapping[str, Any]
) -> list[str]:
    """Return the parameters of `moved` that change what a model computes, though its structure stays the same.

    Where there are none it takes two traces: one of `params`, one with another seed and every parameter moved. NotLiftable if
    the seed changes it.
    """

    def differs(names: Collection[str], seed: int) -> bool:
        try:
            there = traced({**params, **{name: moved[name] for name in names}}, seed)
        except UsageError:
            raise
        except BaseException:  # noqa: BLE001 (too much for the user's code; the trial with this config will tell)
            return False
        return there.structure == here.structure and there.text != here.text

    try:
        here = traced(params, 0)
    except UsageError:
        raise
    except BaseException:  # noqa: BLE001 (the user's code; the trial with this config will tell)
        return []
    if not differs(moved, 1):
        return []
    if differs([], 1):
        raise NotLiftable("every seed makes what it computes another")
    return [name for name in moved if differs([name], 0)]


def _without_batch_size(built: Built) -> str:
    return keys.program_key({**built.described, "batch_size": 0})


def _assignment(config: Mapping[str, Any], seed: int) -> Assignment:
    return Assignment(Member(0), config, int(config["epochs"]), seed)


def _values(parameter: Parameter) -> tuple[list[Any], int]:
    """Return values that tell whether a parameter needs programs of its own, and how many values it has in all."""
    if isinstance(parameter, Choice):
        values = parameter.values()
        return values[:_MOST_VALUES], len(values)
    values = parameter.values() or []
    return (values if 0 < len(values) <= _MOST_VALUES else [parameter.low, parameter.high]), len(values) or _ENDLESS


def _many(count: int) -> str:
    return "endlessly many" if count == _ENDLESS else str(count)


def _program(built: Built, rows: Rows, width: int) -> Program:
    """Compile a program: what can't be traced can't be lifted."""
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
    found: Iterator[str] = (layer.name for layer in lifting.layers_of(built.model) if isinstance(layer, kinds))
    return next(found, "")


def _allowed(device: str) -> int:
    """Return the bytes that lanes may take: a share of what the device has, whoever uses it at the moment."""
    if device == "gpu":
        stats = jax.devices()[0].memory_stats() or {}
        there = int(stats.get("bytes_limit", 0)) or memory.machine().bytes
    else:
        there = memory.machine().bytes
    return int(there * SHARE_OF_MEMORY[device])
