"""Which numbers of a Keras model can live in a lane's state, and which models can share a program.

A program is traced once, from one model (its template). While it is traced, every lifted number of the template is a
`LaneNumber` that stands for "this lane's value"; a member brings its own values, weights and seeds.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional

# owner's class -> the numbers of it that are lifted. Optimizers' learning rates are variables of theirs and need no lifting.
_LAYERS: dict[type[Any], tuple[str, ...]] = {
    keras.layers.Dropout: ("rate",),
    keras.layers.SpatialDropout1D: ("rate",),
    keras.layers.SpatialDropout2D: ("rate",),
    keras.layers.SpatialDropout3D: ("rate",),
    keras.layers.AlphaDropout: ("rate",),
    keras.layers.GaussianNoise: ("stddev",),
}
_REGULARIZERS: dict[type[Any], tuple[str, ...]] = {
    keras.regularizers.L1: ("l1",),
    keras.regularizers.L2: ("l2",),
    keras.regularizers.L1L2: ("l1", "l2"),
}
_CONSTRAINTS: dict[type[Any], tuple[str, ...]] = {
    keras.constraints.MaxNorm: ("max_value",),
    keras.constraints.MinMaxNorm: ("min_value", "max_value", "rate"),
}
_OPTIMIZER_NUMBERS = (
    "weight_decay", "momentum", "beta_1", "beta_2", "rho", "epsilon", "clipnorm", "clipvalue", "global_clipnorm",
)  # fmt: skip
# Their arithmetic takes any of the numbers above as it is; those of other optimizers stay in the program's key.
_OPTIMIZERS = (
    keras.optimizers.SGD, keras.optimizers.RMSprop, keras.optimizers.Adam, keras.optimizers.AdamW,
    keras.optimizers.Adamax, keras.optimizers.Nadam, keras.optimizers.Adagrad, keras.optimizers.Adadelta,
    keras.optimizers.Lamb, keras.optimizers.Lion,
)  # fmt: skip


class NotLiftable(Exception):  # noqa: N818 (a property of a model, not an error of anybody's)
    """A model can't be trained in a lane; the message says which part and why."""


class LaneNumber:
    """A number that every lane has its own value of, in the place of a Python number while a program is traced.

    Keras asks some numbers whether they are zero, to leave out what they would not change (`if self.rate > 0`). The answer
    here is always that of a positive number, so that zero and non-zero share a program; the arithmetic is right for both.
    """

    def __init__(self, pair: Any) -> None:
        # 1 - value comes with it, from the host's double precision: 1 - float32(0.999) is off by 1e-5 of itself, which an
        # optimizer turns into other weights than `model.fit` has.
        self._value, self._complement = pair[0], pair[1]

    def __jax_array__(self) -> Any:
        return self._value

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)

    def __gt__(self, other: object) -> bool:
        return True

    __ge__ = __gt__

    def __lt__(self, other: object) -> bool:
        return False

    __le__ = __lt__

    def __add__(self, other: Any) -> Any:
        return self._value + other

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return self._value * other

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return self._value - other

    def __rsub__(self, other: Any) -> Any:
        return self._complement if isinstance(other, int | float) and other == 1 else other - self._value

    def __truediv__(self, other: Any) -> Any:
        return self._value / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._value

    def __pow__(self, other: Any) -> Any:
        return self._value**other

    def __rpow__(self, other: Any) -> Any:
        return other**self._value

    def __neg__(self) -> Any:
        return -self._value


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a lifted number stands: an attribute of an object of the model, or an entry of a dict of it."""

    owner: Any
    name: str

    def get(self) -> Any:
        return self.owner[self.name] if isinstance(self.owner, MutableMapping) else getattr(self.owner, self.name)

    def set(self, value: Any) -> None:
        if isinstance(self.owner, MutableMapping):
            self.owner[self.name] = value
        else:
            # Past Keras's tracking, which would refuse to touch a built layer.
            object.__setattr__(self.owner, self.name, value)


def prepare(model: keras.Model) -> None:
    """Give a model what it lacks where a number is zero (a dropout's seed, a momentum's slots); build its optimizer.

    Models that differ only in lifted numbers have the same variables in the same order afterwards.
    """
    for layer in _layers(model):
        if type(layer) in _LAYERS and not hasattr(layer, "seed_generator"):
            layer._tracker.unlock()
            layer.seed_generator = keras.random.SeedGenerator(0)
            layer._tracker.lock()
    optimizer = model.optimizer
    if not optimizer.built:
        momentum = getattr(optimizer, "momentum", None)
        if momentum == 0 and isinstance(optimizer, _OPTIMIZERS):
            optimizer.momentum = LaneNumber((0.0, 1.0))
        optimizer.build(model.trainable_variables)
        if momentum == 0:
            optimizer.momentum = momentum


def slots(model: keras.Model) -> dict[str, Slot]:
    """Return where the lifted numbers of a compiled model stand, by a path that is the same in all models alike."""
    found: dict[str, Slot] = {}
    seen: set[int] = set()

    def add(path: str, owner: Any, kinds: Mapping[type[Any], tuple[str, ...]]) -> None:
        if id(owner) in seen:
            return
        seen.add(id(owner))
        for kind, names in kinds.items():
            if type(owner) is kind:
                found.update({f"{path}.{name}": Slot(owner, name) for name in names})

    for index, layer in enumerate(_layers(model)):
        add(f"layer{index}", layer, _LAYERS)
        add(f"layer{index}.activity", getattr(layer, "activity_regularizer", None), _REGULARIZERS)
    for index, variable in enumerate(model.trainable_variables):
        add(f"variable{index}.regularizer", variable.regularizer, _REGULARIZERS)
        add(f"variable{index}.constraint", variable.constraint, _CONSTRAINTS)
    if type(model.optimizer) in _OPTIMIZERS:
        for name in _OPTIMIZER_NUMBERS:
            if getattr(model.optimizer, name, None) is not None:
                found[f"optimizer.{name}"] = Slot(model.optimizer, name)
    schedule = model.optimizer._learning_rate
    for name in getattr(schedule, "lane_numbers", ()):
        found[f"schedule.{name}"] = Slot(schedule, name)
    arguments = getattr(model.loss, "_fn_kwargs", {})
    if "label_smoothing" in arguments:
        found["loss.label_smoothing"] = Slot(arguments, "label_smoothing")
    return found


def numbers(found: Mapping[str, Slot]) -> dict[str, float]:
    """Return a model's own values of its lifted numbers."""
    return {path: float(slot.get()) for path, slot in found.items()}


@contextmanager
def bound(found: Mapping[str, Slot], values: Mapping[str, Any]) -> Iterator[None]:
    """Let a model compute with `values` (traced arrays) in the places of its lifted numbers."""
    before = {path: slot.get() for path, slot in found.items()}
    try:
        for path, slot in found.items():
            slot.set(LaneNumber(values[path]))
        yield
    finally:
        for path, slot in found.items():
            slot.set(before[path])


def program_key(model: keras.Model, found: Mapping[str, Slot], batch_size: int) -> str:
    """Return what members must have in common to share a program: all but lifted numbers, weights and seeds.

    Raises NotLiftable with the reason for a model that no program can train.
    """
    if type(model) not in (keras.Sequential, Functional):
        raise NotLiftable(f"{type(model).__name__} is a model class of its own, not Sequential or Functional")
    lifted: dict[int, set[str]] = {}
    for slot in found.values():
        lifted.setdefault(id(slot.owner), set()).add(slot.name)
    parts = {
        "layers": [_layer_part(layer, lifted) for layer in _layers(model)],
        "graph": _graph(model),
        "variables": [_variable_part(variable, lifted) for variable in model.trainable_variables],
        "frozen": [[list(v.shape), str(v.dtype)] for v in model.non_trainable_variables],
        "optimizer": _object_part(model.optimizer, lifted, drop=("learning_rate", "name", "initial_accumulator_value")),
        "schedule": _schedule_part(model.optimizer._learning_rate),
        "loss": _object_part(model.loss, {**lifted, id(model.loss): {"label_smoothing"}}),
        "metrics": [_object_part(metric, lifted) for metric in model._compile_metrics._user_metrics or ()],
        "batch_size": batch_size,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    return list(model._flatten_layers(include_self=False, recursive=True))


def _graph(model: keras.Model) -> Any:
    config = model.get_config()
    layers = config.get("layers", [])
    return [[entry.get("name"), entry.get("inbound_nodes")] for entry in layers] + [
        config.get("input_layers"),
        config.get("output_layers"),
    ]


def _layer_part(layer: keras.layers.Layer, lifted: Mapping[int, set[str]]) -> Any:
    if isinstance(layer, keras.layers.Lambda):
        raise NotLiftable(f"the layer {layer.name} is a Lambda, whose function may hold anything")
    try:
        config = layer.get_config()
    except NotImplementedError:
        raise NotLiftable(
            f"the layer {layer.name} ({type(layer).__name__}) has no get_config to compare it by"
        ) from None
    kept = {
        key: value
        for key, value in config.items()
        if key != "seed"
        and not key.endswith(("_initializer", "_regularizer", "_constraint"))
        and key not in lifted.get(id(layer), ())
    }
    own = {} if type(layer).__module__.startswith("keras.") else _plain_attributes(layer)
    return [_name(type(layer)), kept, own, type(getattr(layer, "activity_regularizer", None)).__name__]


def _plain_attributes(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the plain values that a layer of the user's holds: what its `call` may compute with."""
    return {
        key: value
        for key, value in vars(layer).items()
        if isinstance(value, bool | int | float | str | tuple) and key not in ("_auto_trackable",)
    }


def _variable_part(variable: Any, lifted: Mapping[int, set[str]]) -> Any:
    return [
        list(variable.shape),
        str(variable.dtype),
        _object_part(variable.regularizer, lifted),
        _object_part(variable.constraint, lifted),
    ]


def _schedule_part(schedule: Any) -> Any:
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return _object_part(schedule, {id(schedule): set(getattr(schedule, "lane_numbers", ()))})


def _object_part(thing: Any, lifted: Mapping[int, set[str]], drop: tuple[str, ...] = ()) -> Any:
    """Describe an optimizer, loss, metric, regularizer or constraint without its lifted numbers."""
    if thing is None or isinstance(thing, str):
        return thing
    if inspect.isfunction(thing):
        if thing.__closure__:
            raise NotLiftable(f"the function {thing.__name__} is a closure, which may hold anything")
        return _name(thing)
    if not hasattr(thing, "get_config"):
        raise NotLiftable(f"{type(thing).__name__} has no get_config to compare it by")
    config = thing.get_config()
    # Not lifted but absent (None) is another program; so only the value goes, not the key.
    gone = lifted.get(id(thing), set())
    return [
        _name(type(thing)),
        {key: "lifted" if key in gone else value for key, value in config.items() if key not in drop},
    ]


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def as_arrays(values: Mapping[str, float]) -> dict[str, Any]:
    """Return lifted numbers as arrays of a lane's state: each with its complement, 1 - value."""
    return {path: np.array([value, 1.0 - value], np.float32) for path, value in values.items()}
