"""The program key: what members must have in common to share a compiled program."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional

from search.engines.lanes.lifting import NotLiftable, Slot, layers_of


def describe(model: keras.Model, found: Mapping[str, Slot], batch_size: int) -> dict[str, Any]:
    """Describe what members must have in common to share a program: all but lifted numbers, weights and seeds.

    Raises NotLiftable with the reason for a model that no program can train.
    """
    if type(model) not in (keras.Sequential, Functional):
        raise NotLiftable(f"{type(model).__name__} is a model class of its own, not Sequential or Functional")
    if model.run_eagerly:
        raise NotLiftable("it is compiled to run eagerly")
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        raise NotLiftable(
            "a loss that is scaled as training goes (mixed_float16) has steps that lanes can't take apart"
        )
    lifted: dict[int, set[str]] = {}
    for slot in found.values():
        lifted.setdefault(id(slot.owner), set()).add(slot.name)
    return {
        "layers": [_layer_part(layer, lifted) for layer in layers_of(model)],
        "graph": _graph(model),
        "variables": [_variable_part(variable, lifted) for variable in model.trainable_variables],
        "frozen": [[list(v.shape), str(v.dtype)] for v in model.non_trainable_variables],
        "optimizer": _object_part(model.optimizer, lifted, drop=("learning_rate", "name", "initial_accumulator_value")),
        "schedule": _schedule_part(model.optimizer._learning_rate, lifted),
        "loss": _object_part(model.loss, {**lifted, id(model.loss): {"label_smoothing"}}),
        "metrics": [_object_part(metric, lifted) for metric in model._compile_metrics._user_metrics or ()],
        "batch_size": batch_size,
    }


def program_key(described: Mapping[str, Any]) -> str:
    """Return the key of what `describe` says: equal for members that can share a program."""
    return hashlib.sha256(_text(described).encode()).hexdigest()[:16]


def difference(model: keras.Model, described: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name what keeps two models from sharing a program: a layer of `model`, or another part of it."""
    for layer, one, two in zip(layers_of(model), described["layers"], other["layers"], strict=False):
        if _text(one) != _text(two):
            return f"the layer {layer.name} ({type(layer).__name__})"
    part = next((part for part in described if _text(described[part]) != _text(other[part])), "nothing")
    return f"the {part.replace('_', ' ')}"


def _text(described: Any) -> str:
    return json.dumps(described, sort_keys=True, default=_plain)


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
    gone = lifted.get(id(layer), set())
    kept = {
        key: value
        for key, value in config.items()
        if key != "seed" and not key.endswith(("_initializer", "_regularizer", "_constraint")) and key not in gone
    }
    return [
        _name(type(layer)),
        kept,
        _own_attributes(layer, _OF_ANY_LAYER, gone),
        _object_part(getattr(layer, "activity_regularizer", None), lifted),
        _plain(getattr(layer, "activation", None)),
    ]


def _variable_part(variable: Any, lifted: Mapping[int, set[str]]) -> Any:
    return [
        list(variable.shape),
        str(variable.dtype),
        _object_part(variable.regularizer, lifted),
        _object_part(variable.constraint, lifted),
    ]


def _schedule_part(schedule: Any, lifted: Mapping[int, set[str]]) -> Any:
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return _object_part(schedule, lifted)


def _object_part(thing: Any, lifted: Mapping[int, set[str]], drop: tuple[str, ...] = ()) -> Any:
    """Describe an optimizer, loss, metric, schedule, regularizer or constraint without its lifted numbers."""
    if not hasattr(thing, "get_config"):
        return _plain(thing)
    # Not lifted but absent (None) is another program; so only the value goes, not the key.
    gone = lifted.get(id(thing), set())
    config = {key: "lifted" if key in gone else value for key, value in thing.get_config().items() if key not in drop}
    return [_name(type(thing)), config, _own_attributes(thing, frozenset(), gone)]


_OF_ANY_LAYER = frozenset(vars(keras.layers.Layer()))


def _own_attributes(thing: Any, common: frozenset[str], gone: set[str]) -> dict[str, Any]:
    """Return what an object of a user's class holds: its arithmetic may use more than its `get_config` tells."""
    if type(thing).__module__.startswith(("keras.", "search.")):
        return {}
    return {
        key: "lifted" if key in gone else _plain(value, f"{type(thing).__name__}.{key}")
        for key, value in vars(thing).items()
        if key not in common
    }


def _plain(value: Any, where: str = "") -> Any:
    """Describe a value so that two that may compute differently are never equal; NotLiftable where that can't be told."""
    found: Any
    if value is None or isinstance(value, bool | int | float | str):
        found = value
    elif isinstance(value, Mapping):
        found = {str(key): _plain(inner, where) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        found = [_plain(entry, where) for entry in value]
    elif isinstance(value, set | frozenset):
        found = sorted((_plain(entry, where) for entry in value), key=str)
    elif isinstance(value, keras.Variable | keras.layers.Layer | keras.random.SeedGenerator | type):
        # Layers are compared one by one; variables and seeds are a lane's own.
        found = _name(value if isinstance(value, type) else type(value))
    elif inspect.isroutine(value):
        found = _function_part(value)
    elif hasattr(value, "get_config"):
        found = _object_part(value, {})
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        found = [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]
    elif type(value).__module__.startswith(("keras.", "jax", "numpy")):
        found = _name(type(value))
    else:
        kind = type(value).__name__
        raise NotLiftable(f"{where or 'the model'} holds a {kind}, which can't be compared between trials")
    return found


def _function_part(function: Any) -> Any:
    code = getattr(function, "__code__", None)
    if code is None or function.__module__.startswith("keras."):
        return _name(function)
    if function.__closure__:
        raise NotLiftable(f"the function {function.__name__} is a closure, which may hold anything")
    told = repr((code.co_code, [c for c in code.co_consts if not inspect.iscode(c)], function.__defaults__))
    return [_name(function), hashlib.sha256(told.encode()).hexdigest()]


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
