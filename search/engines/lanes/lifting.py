"""Which numbers of a Keras model are lifted (live in a lane's state), and how a program reads them from there.

A program is traced once, from one model (its template). During the trace, every lifted number of the template is a
`LaneNumber`, which stands for "this lane's value". Each member then brings its own values, weights and seeds.
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

# Class -> its lifted numbers. An optimizer's learning rate is a variable and needs no lifting.
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
# Zero turns these off, which changes the arithmetic: only positive values are lifted.
_OFF_AT_ZERO = ("clipnorm", "global_clipnorm")
# The numbers above are lifted for these optimizers only; for other optimizers they stay in the program key.
_OPTIMIZERS = (
    keras.optimizers.SGD, keras.optimizers.RMSprop, keras.optimizers.Adam, keras.optimizers.AdamW,
    keras.optimizers.Adamax, keras.optimizers.Nadam, keras.optimizers.Adagrad, keras.optimizers.Adadelta,
    keras.optimizers.Lamb, keras.optimizers.Lion,
)  # fmt: skip


KERAS_STATE = threading.RLock()
"""Hold this lock to build or trace a model: `clear_session` replaces Keras's global scopes for all threads."""


class NotLiftable(Declined):
    """A model can't be trained in lanes; the message names the part and the reason."""


class LaneNumber:
    """A number with one value per lane; it replaces a Python number while a program is traced.

    Keras compares some numbers with zero to skip code without effect (`if self.rate > 0`). A LaneNumber always compares as
    positive and unlike 1, so that all values share a program: the unskipped arithmetic is mostly right for all, and for each
    kind of values (see `kinds`) a step is compared with Keras's own. Any other comparison raises NotLiftable.
    """

    def __init__(self, pair: Any) -> None:
        # The host computes 1 - value in float64. In float32, 1 - 0.999 has a relative error of 1e-5, and the optimizer's
        # weights would differ from those of `model.fit`.
        self._value, self._complement = _weak(pair[0]), _weak(pair[1])

    def __jax_array__(self) -> Any:
        return self._value

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        # Dropout compares its rate with 1; a rate of 1 is never lifted.
        if not isinstance(other, str | None) and not _is_plain(other, 0, 1):
            raise _not_comparable("==", other)
        return False

    def __hash__(self) -> int:
        raise NotLiftable("its code uses a number that differs between lanes as a key")

    def __repr__(self) -> str:
        raise NotLiftable("its code makes a text of a number that differs between lanes")

    def __gt__(self, other: object) -> bool:
        if not _is_plain(other, 0):
            raise _not_comparable(">", other)
        return True

    __ge__ = __gt__

    def __lt__(self, other: object) -> bool:
        if not _is_plain(other, 0):
            raise _not_comparable("<", other)
        return False

    __le__ = __lt__

    def __add__(self, other: Any) -> Any:
        return self._value + other

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return self._value * other

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return -self._complement if _is_plain(other, 1) else self._value - other

    def __rsub__(self, other: Any) -> Any:
        return self._complement if _is_plain(other, 1) else other - self._value

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


def _is_plain(other: object, *values: int) -> bool:
    return isinstance(other, int | float) and other in values


def _not_comparable(operator: str, other: object) -> NotLiftable:
    value = other if isinstance(other, int | float) else f"a {type(other).__name__}"
    return NotLiftable(f"its code tests whether a number that differs between lanes is {operator} {value}")


def _weak(number: Any) -> Any:
    """Return a number as a weakly typed array, which promotes as a Python number does: bfloat16 * array stays bfloat16."""
    return _convert_element_type(jnp.asarray(number), np.dtype("float32"), weak_type=True)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a lifted number is stored: an attribute of an object of the model, or an entry of one of its dicts.

    `is_array`: JAX functions get the number, so it must be an array and not a LaneNumber; nothing compares it with zero.
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
            # Bypass Keras's tracking, which refuses to change a built layer.
            object.__setattr__(self.owner, self.name, value)


def prepare(model: keras.Model) -> None:
    """Build the optimizer, and create what Keras omits for a zero: a dropout's seed, a momentum's slots.

    Afterwards, models that differ only in lifted numbers have the same variables in the same order.
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


def find_slots(model: keras.Model) -> dict[str, Slot]:
    """Return the slots of a compiled model's lifted numbers, by path; models of one structure have the same paths."""
    slots: dict[str, Slot] = {}
    seen: set[int] = set()

    def add(path: str, owner: Any, lifted: Mapping[type[Any], tuple[str, ...]]) -> None:
        if id(owner) in seen:
            return
        seen.add(id(owner))
        # Exact classes only: a subclass may compute differently. Any class can name its own `lane_numbers`.
        for name in lifted.get(type(owner), getattr(owner, "lane_numbers", ())):
            if name == "rate" and getattr(owner, name) == 1:
                continue  # drops everything, which is different arithmetic
            slots[f"{path}.{name}"] = Slot(owner, name, is_array=lifted is _CONSTRAINTS)

    for index, layer in enumerate(layers_of(model)):
        add(f"layer{index}", layer, _LAYERS)
        add(f"layer{index}.activity", getattr(layer, "activity_regularizer", None), _REGULARIZERS)
    for index, variable in enumerate(model.trainable_variables):
        add(f"variable{index}.regularizer", variable.regularizer, _REGULARIZERS)
        add(f"variable{index}.constraint", variable.constraint, _CONSTRAINTS)
    if type(model.optimizer) in _OPTIMIZERS:
        for name in _OPTIMIZER_NUMBERS:
            value = getattr(model.optimizer, name, None)
            if value is not None and (value > 0 or name not in _off_at_zero(model.optimizer)):
                slots[f"optimizer.{name}"] = Slot(model.optimizer, name)
    add("schedule", model.optimizer._learning_rate, {})
    add("loss", model.loss, {})
    arguments = getattr(model.loss, "_fn_kwargs", {})
    if "label_smoothing" in arguments:
        slots["loss.label_smoothing"] = Slot(arguments, "label_smoothing")
    return slots


def _off_at_zero(optimizer: keras.optimizers.Optimizer) -> tuple[str, ...]:
    # The builder may have built the optimizer: then Keras has made no variables for a momentum of zero.
    has_momenta = bool(getattr(optimizer, "momentums", None) or getattr(optimizer, "_momentums", None))
    return _OFF_AT_ZERO if has_momenta else (*_OFF_AT_ZERO, "momentum")


def numbers(slots: Mapping[str, Slot]) -> dict[str, float]:
    """Return the values of a model's lifted numbers, by path."""
    return {path: float(slot.get()) for path, slot in slots.items()}


def kinds(slots: Mapping[str, Slot]) -> frozenset[tuple[str, str, str]]:
    """Return the types of lifted numbers and what a LaneNumber answers wrongly of them: zero, one or negative, by path."""
    values = {path: slot.get() for path, slot in slots.items()}
    signs = {
        path: "negative" if value < 0 else f"{float(value):g}" if value in (0, 1) else ""
        for path, value in values.items()
    }
    return frozenset((path, type(value).__name__, signs[path]) for path, value in values.items())


@contextmanager
def bound(slots: Mapping[str, Slot], values: Mapping[str, Any]) -> Iterator[None]:
    """Within this context, replace a model's lifted numbers by `values` (traced arrays)."""
    before = {path: slot.get() for path, slot in slots.items()}
    patched = [slot.owner for slot in slots.values() if type(slot.owner) is keras.layers.GaussianDropout]
    try:
        for path, slot in slots.items():
            slot.set(_weak(values[path][0]) if slot.is_array else LaneNumber(values[path]))
        for layer in patched:
            object.__setattr__(layer, "call", partial(_gaussian_dropout, layer))
        yield
    finally:
        for path, slot in slots.items():
            slot.set(before[path])
        for layer in patched:
            object.__delattr__(layer, "call")


def _gaussian_dropout(layer: keras.layers.GaussianDropout, inputs: Any, training: bool = False) -> Any:
    """Compute what the layer does, but with `keras.ops.sqrt`: the layer's `math.sqrt` takes no array."""
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
    """Return lifted numbers as arrays [value, 1 - value] for a lane's state."""
    return {path: np.array([value, 1.0 - value], np.float32) for path, value in values.items()}


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    return list(model._flatten_layers(include_self=False, recursive=True))
