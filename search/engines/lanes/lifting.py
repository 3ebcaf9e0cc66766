"""Which numbers of a Keras model can live in a lane's state, and how a program reads them from there.

A program is traced once, from one model (its template). While it is traced, every lifted number of the template is a
`LaneNumber` that stands for "this lane's value"; a member brings its own values, weights and seeds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
from jax._src.lax.lax import _convert_element_type

from search.engines.protocol import Declined

# owner's class -> the numbers of it that are lifted. Optimizers' learning rates are variables of theirs and need no lifting.
_LAYERS: dict[type[Any], tuple[str, ...]] = {
    keras.layers.Dropout: ("rate",),
    keras.layers.SpatialDropout1D: ("rate",),
    keras.layers.SpatialDropout2D: ("rate",),
    keras.layers.SpatialDropout3D: ("rate",),
    keras.layers.AlphaDropout: ("rate",),
    keras.layers.GaussianDropout: ("rate",),
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
_OPTIMIZER_NUMBERS = ("weight_decay", "momentum", "beta_1", "beta_2", "rho", "epsilon", "clipnorm", "global_clipnorm")
# Zero turns these off, which is another arithmetic: only positive ones are lifted.
_OFF_AT_ZERO = ("clipnorm", "global_clipnorm")
# Their arithmetic takes any of the numbers above as it is; those of other optimizers stay in the program's key.
_OPTIMIZERS = (
    keras.optimizers.SGD, keras.optimizers.RMSprop, keras.optimizers.Adam, keras.optimizers.AdamW,
    keras.optimizers.Adamax, keras.optimizers.Nadam, keras.optimizers.Adagrad, keras.optimizers.Adadelta,
    keras.optimizers.Lamb, keras.optimizers.Lion,
)  # fmt: skip


KERAS_STATE = threading.RLock()
"""Held while a model is built or traced: Keras keeps its scopes in a global that `clear_session` swaps for all threads."""


class NotLiftable(Declined):
    """A model can't be trained in a lane; the message says which part and why."""


class LaneNumber:
    """A number that every lane has its own value of, in the place of a Python number while a program is traced.

    Keras asks some numbers whether they are zero, to leave out what they would not change (`if self.rate > 0`). The answer
    here is always that of a positive number, so that zero and non-zero share a program; the arithmetic is right for both.
    Any other question can't be answered once for all lanes: NotLiftable.
    """

    def __init__(self, pair: Any) -> None:
        # 1 - value comes with it, from the host's double precision: 1 - float32(0.999) is off by 1e-5 of itself, which an
        # optimizer turns into other weights than `model.fit` has.
        self._value, self._complement = _weak(pair[0]), _weak(pair[1])

    def __jax_array__(self) -> Any:
        return self._value

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        # 1 is asked of dropouts, whose rates of 1 are not lifted.
        if isinstance(other, int | float) and other not in (0, 1):
            raise _asked("==", other)
        return False

    def __hash__(self) -> int:
        return id(self)

    def __gt__(self, other: object) -> bool:
        if other != 0:
            raise _asked(">", other)
        return True

    __ge__ = __gt__

    def __lt__(self, other: object) -> bool:
        if other != 0:
            raise _asked("<", other)
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


def _asked(what: str, other: object) -> NotLiftable:
    return NotLiftable(f"a number that differs between lanes is asked whether it is {what} {other}")


def _weak(number: Any) -> Any:
    """Let an array give way to the type of what it meets, as a Python number does: bfloat16 times it stays bfloat16."""
    return _convert_element_type(jnp.asarray(number), np.dtype("float32"), weak_type=True)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a lifted number stands: an attribute of an object of the model, or an entry of a dict of it.

    `is_array`: it is handed to functions of JAX, which take arrays and no LaneNumber, and never asked whether it is zero.
    """

    owner: Any
    name: str
    is_array: bool = False

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
    for layer in layers_of(model):
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
        # Exactly those classes: one derived from them may compute with other numbers. It can name its own.
        for name in kinds.get(type(owner), getattr(owner, "lane_numbers", ())):
            if name == "rate" and getattr(owner, name) == 1:
                continue  # all is dropped, which is another arithmetic
            found[f"{path}.{name}"] = Slot(owner, name, is_array=kinds is _CONSTRAINTS)

    for index, layer in enumerate(layers_of(model)):
        add(f"layer{index}", layer, _LAYERS)
        add(f"layer{index}.activity", getattr(layer, "activity_regularizer", None), _REGULARIZERS)
    for index, variable in enumerate(model.trainable_variables):
        add(f"variable{index}.regularizer", variable.regularizer, _REGULARIZERS)
        add(f"variable{index}.constraint", variable.constraint, _CONSTRAINTS)
    if type(model.optimizer) in _OPTIMIZERS:
        for name in _OPTIMIZER_NUMBERS:
            value = getattr(model.optimizer, name, None)
            if value is not None and (value > 0 or name not in _OFF_AT_ZERO):
                found[f"optimizer.{name}"] = Slot(model.optimizer, name)
    add("schedule", model.optimizer._learning_rate, {})
    add("loss", model.loss, {})
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
    patched = [slot.owner for slot in found.values() if type(slot.owner) is keras.layers.GaussianDropout]
    try:
        for path, slot in found.items():
            slot.set(_weak(values[path][0]) if slot.is_array else LaneNumber(values[path]))
        for layer in patched:
            object.__setattr__(layer, "call", partial(_gaussian_dropout, layer))
        yield
    finally:
        for path, slot in found.items():
            slot.set(before[path])
        for layer in patched:
            object.__delattr__(layer, "call")


def _gaussian_dropout(layer: keras.layers.GaussianDropout, inputs: Any, training: bool = False) -> Any:
    """Compute what the layer does, its standard deviation by `keras.ops`: it asks Python's `math`, which takes no array."""
    if not training:
        return inputs
    return inputs * keras.random.normal(
        keras.ops.shape(inputs),
        mean=1.0,
        stddev=keras.ops.sqrt(layer.rate / (1.0 - layer.rate)),
        dtype=layer.compute_dtype,
        seed=layer.seed_generator,
    )


def as_arrays(values: Mapping[str, float]) -> dict[str, Any]:
    """Return lifted numbers as arrays of a lane's state: each with its complement, 1 - value."""
    return {path: np.array([value, 1.0 - value], np.float32) for path, value in values.items()}


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    return list(model._flatten_layers(include_self=False, recursive=True))
