"""All that a model made of Keras's own parts holds, so that two can be known to compute alike without tracing both.

The program key is made of what parts tell of themselves, and Keras's `get_config` leaves some numbers out. Whoever wrote a
part, its arithmetic can also come from a closure, a global or a class that is made inside a builder. Keras's own code and
ours computes by nothing but what its objects hold: of models of such parts alone, equal contents are equal arithmetic.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import keras
import numpy as np

from search.engines.lanes.lifting import Slot, layers_of

_KNOWN = ("keras.", "search.engines.")
# They make the weights and the random stream, which are a lane's own.
_OF_THE_LANE = (keras.initializers.Initializer, keras.random.SeedGenerator)


class _ForeignError(Exception):
    """A part is code of somebody else's, which may compute by anything."""


def of(model: keras.Model, found: Mapping[str, Slot]) -> str:
    """Return a digest of what a built and compiled model holds, its lifted numbers left open; "" if a part is not Keras's.

    Says nothing of how layers are connected: the program key does.
    """
    layers, compiled = layers_of(model), model._compile_metrics
    operations = [o for o in getattr(model, "operations", ()) if not isinstance(o, keras.layers.Layer)]
    metrics = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    variables = model.trainable_variables
    others = [
        *operations, model.optimizer, model.loss, metrics, getattr(model._compile_loss, "_user_loss_weights", None),
        [[variable.regularizer, variable.constraint] for variable in variables],
        [layer.activity_regularizer for layer in layers],
    ]  # fmt: skip
    lifted = {(id(slot.owner), slot.name) for slot in found.values()}
    look = _Look({id(thing): number for number, thing in enumerate([*layers, *variables])}, lifted)
    try:
        text = repr([look.held_by(model), [look.held_by(layer) for layer in layers], look.at(others)])
    except _ForeignError:
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


class _Look:
    """Looks into objects; `numbers` are those of layers and variables, `lifted` the slots to leave open."""

    def __init__(self, numbers: Mapping[int, int], lifted: set[tuple[int, str]]) -> None:
        self._numbers, self._lifted = numbers, lifted
        self._seen: dict[int, int] = {}

    def at(self, value: Any) -> Any:
        """Describe a value: equal for two that compute alike; _ForeignError if it is not Keras's, and nothing plain."""
        found: Any
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            found = value
        elif isinstance(value, list | tuple):
            found = [self.at(entry) for entry in value]
        elif isinstance(value, set | frozenset):
            found = sorted(repr(self.at(entry)) for entry in value)
        elif isinstance(value, Mapping):
            found = {str(key): self._named(value, key, inner) for key, inner in value.items()}
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            array = np.asarray(value)
            found = [array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]
        elif isinstance(value, keras.KerasTensor):
            found = [value.shape, value.dtype, value.sparse]  # its name is a number in the process
        elif isinstance(value, np.dtype | keras.InputSpec | keras.DTypePolicy):
            found = str(value)
        elif isinstance(value, _OF_THE_LANE):
            found = "of the lane"
        elif id(value) in self._numbers:
            found = ["number", self._numbers[id(value)]]
        elif isinstance(value, keras.Variable):
            found = [value.shape, value.dtype, self.at(value.constraint)]
        elif inspect.isroutine(value) or isinstance(value, type):
            found = _named_of_keras(value)
        else:
            found = self._object(value)
        return found

    def held_by(self, thing: Any) -> Any:
        """Describe an object by its attributes; of those that all of its kind have, by numbers and switches only."""
        if not type(thing).__module__.startswith(_KNOWN) or not hasattr(thing, "__dict__"):
            raise _ForeignError
        kind: Any = next((kind for kind in _BOOK_KEEPERS if isinstance(thing, kind)), object)
        exactly: Any = type(thing)
        books = _books(kind, exactly)
        held = {
            name: self._named(thing, name, value)
            for name, value in vars(thing).items()
            if name not in books or isinstance(value, bool | int | float | keras.DTypePolicy)
        }
        return [f"{type(thing).__module__}.{type(thing).__qualname__}", held]

    def _object(self, thing: Any) -> Any:
        if id(thing) in self._seen:
            return ["again", self._seen[id(thing)]]
        self._seen[id(thing)] = len(self._seen)
        return self.held_by(thing)

    def _named(self, owner: Any, name: Any, value: Any) -> Any:
        return "lifted" if (id(owner), name) in self._lifted else self.at(value)


def _named_of_keras(value: Any) -> str:
    module = str(getattr(value, "__module__", ""))
    of_an_object = getattr(value, "__self__", None) is not None and not inspect.ismodule(value.__self__)
    if not f"{module}.".startswith((*_KNOWN, "jax.", "numpy.", "builtins.")) or getattr(value, "__closure__", None):
        raise _ForeignError
    if of_an_object:
        raise _ForeignError
    return f"{module}.{value.__qualname__}"


_BOOK_KEEPERS = (
    keras.Model, keras.layers.Layer, keras.Operation, keras.optimizers.Optimizer, keras.metrics.Metric, keras.losses.Loss,
)  # fmt: skip


@functools.cache
def _books(kind: type[Any], exactly: type[Any]) -> frozenset[str]:
    """Return what every model, layer, optimizer, metric or loss holds: names, variables, and Keras's books about them."""
    made: Any
    if kind is keras.Model:
        inputs = keras.Input((1,))
        dense = keras.layers.Dense(1)
        made = keras.Sequential([inputs, dense]) if exactly is keras.Sequential else exactly(inputs, dense(inputs))
        made.compile("sgd", "mse", metrics=["mae"])
    elif kind is keras.optimizers.Optimizer:
        made = keras.optimizers.SGD()
        made.build([keras.Variable([0.0])])
        made._use_weight_decay(made.iterations)
    else:
        made = kind()
    return frozenset(vars(made)) if kind is not object else frozenset()
