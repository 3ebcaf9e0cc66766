"""Whether a model contains code that isn't Keras's own: then its parts' configs need not tell what they compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import keras

from search.engines.forms import FormedLoss, FormedMetric
from search.engines.lanes.lifting import layers_of
from search.engines.training import Decay

_OURS = (FormedLoss, FormedMetric, Decay)
_KERAS_FOLDER = f"{Path(keras.__file__).parent}/"
_TRUSTED = ("keras.", "jax.", "jaxlib.", "numpy", "builtins")


def has_own_code(model: keras.Model) -> bool:
    """Return whether a class, method or function that takes part in a step was written or replaced outside Keras."""
    return any(not _is_keras_own(part) for part in _parts(model))


def _parts(model: keras.Model) -> Iterator[Any]:
    optimizer, compiled = model.optimizer, model._compile_metrics
    yield from (model, optimizer, model._compile_loss, model.loss)
    yield from (compiled, *(getattr(compiled, "metrics", None) or ()))
    if not isinstance(optimizer._learning_rate, keras.Variable):
        yield optimizer._learning_rate
    for layer in layers_of(model):
        yield layer
        yield from getattr(layer, "_operations", ())
    yield from getattr(model, "_operations", ())
    for variable in model.trainable_variables:
        yield from (variable.regularizer, variable.constraint)


def _is_keras_own(part: Any) -> bool:
    if part is None or isinstance(part, str | int | float):
        return True
    if isinstance(part, list | tuple | Mapping):
        return all(map(_is_keras_own, part.values() if isinstance(part, Mapping) else part))
    if isinstance(part, FunctionType):
        return _is_of_keras(part)
    if type(part) not in _OURS and not all(map(_is_unchanged, type(part).__mro__)):
        return False
    values = list(vars(part).values()) if hasattr(part, "__dict__") else []
    inner = [entry for value in values if isinstance(value, list | tuple) for entry in value]
    return all(_is_trusted(value) for value in (*values, *inner) if callable(value))


def _is_unchanged(cls: type) -> bool:
    """Return whether a class is Keras's or Python's, with the methods that it was defined with."""
    if cls.__module__.split(".")[0] in ("builtins", "abc", "typing", "collections"):
        return True
    return cls.__module__.startswith("keras.") and all(
        _is_of_keras(value) for value in vars(cls).values() if isinstance(value, FunctionType)
    )


def _is_of_keras(function: FunctionType) -> bool:
    return function.__code__.co_filename.startswith(_KERAS_FOLDER)


def _is_trusted(value: Any) -> bool:
    """Return whether an attribute that can be called is a function, a class or an object of Keras or JAX."""
    if isinstance(value, FunctionType):
        return _is_of_keras(value) or value.__module__.startswith(("jax.", "numpy"))
    if isinstance(value, type) or type(value) in _OURS:
        return True
    function = getattr(value, "__func__", None)
    if isinstance(function, FunctionType):
        return _is_of_keras(function)
    return type(value).__module__.startswith(_TRUSTED)
