"""How many lanes a study gets, and in how many programs: from the study and the device alone, never from the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from search.engines.lanes import lifting
from search.engines.lanes.program import Program, state_of
from search.engines.training import ReadConfig, Trainer, validation_batch
from search.errors import UsageError
from spaces import Choice, Parameter, Space

# More lanes than this bring little more on such a device, and every one takes memory.
SENSIBLE = {"cpu": 32, "gpu": 256}
# The sampler learns nothing from trials that all run at once.
SHARE_OF_TRIALS = 4
# A parameter with more values than this that all need programs of their own is looked at in part.
_MOST_VALUES = 16


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many members train at a time (`places`), in how many programs, and how many lanes each of those has."""

    places: int
    programs: int

    @property
    def lanes(self) -> int:
        """Lanes of one program: the places are dealt out evenly, as if all programs were equally often wanted."""
        return -(-self.places // self.programs)


def choose(trainer: Trainer, fixed: Mapping[str, Any], wanted: int | str) -> Lanes:
    """Decide the lanes of a study. UsageError, saying which part and why, if its model can't be trained in lanes."""
    settings = trainer.settings
    space = Space.parse(settings.space)
    if settings.train.callbacks:
        raise _refusal("train.callbacks watch one model's `fit`, which there is none of")
    try:
        programs = _programs(trainer, fixed, space)
        _try(trainer, {**fixed, **space.config(space.middle())})
    except lifting.NotLiftable as reason:
        raise _refusal(str(reason)) from None
    places = wanted
    if not isinstance(places, int):
        most = SENSIBLE["cpu" if jax.default_backend() == "cpu" else "gpu"]
        places = max(1, min(most, settings.study.trials // SHARE_OF_TRIALS))
    return Lanes(places, min(programs, places))


def _refusal(reason: str) -> UsageError:
    return UsageError(f'run.engine: lanes can\'t train this model: {reason}; set engine = "fit"')


def _programs(trainer: Trainer, fixed: Mapping[str, Any], space: Space) -> int:
    """Count the programs that the space needs: the product over its parameters of the keys that their values give."""
    middle = space.middle()
    count = 1
    for name in middle:
        keys = set()
        for value in _values(space[name]):
            labels = {
                n: label for n, label in {**middle, name: value}.items() if space.is_active(n, {**middle, name: value})
            }
            keys.add(_key(trainer, {**fixed, **space.config(labels)}))
        count *= len(keys)
    return count


def _values(parameter: Parameter) -> list[Any]:
    if isinstance(parameter, Choice):
        return parameter.values()[:_MOST_VALUES]
    return (parameter.values() or [parameter.low, parameter.high])[:_MOST_VALUES]


def _key(trainer: Trainer, config: Mapping[str, Any]) -> str:
    model = trainer.model(ReadConfig(config), seed=0)
    lifting.prepare(model)
    return lifting.program_key(model, lifting.slots(model), int(config["batch_size"]))


def _try(trainer: Trainer, config: Mapping[str, Any]) -> None:
    """Trace a program without compiling it: what can't be traced can't be lifted."""
    model = trainer.model(ReadConfig(config), seed=0)
    lifting.prepare(model)
    batch_size = int(config["batch_size"])
    try:
        program = Program(
            model,
            lanes=1,
            batch_size=batch_size,
            arrays=trainer.arrays(),
            validation=(trainer.data.x_validation, trainer.data.y_validation),
            validation_batch=validation_batch(batch_size),
        )
        program.trace(state_of(model))
    except (jax.errors.JAXTypeError, TypeError, ValueError) as error:
        raise lifting.NotLiftable(f"it can't be traced: {str(error).splitlines()[0]}") from error
