"""The program key: what members must have in common to share a compiled program."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Mapping
from types import CodeType
from typing import Any

import jax
import keras
import numpy as np
from keras.src.models.functional import Functional

from search.engines.forms import FormedLoss, FormedMetric
from search.engines.lanes.lifting import NotLiftable, Slot, layers_of
from search.engines.training import Decay


def check(model: keras.Model) -> None:
    """Raise NotLiftable with the reason for a model that no program can train."""
    if type(model) not in (keras.Sequential, Functional):
        raise NotLiftable(f"{type(model).__name__} is a model class of its own, not Sequential or Functional")
    if model.run_eagerly:
        raise NotLiftable("it is compiled to run eagerly")
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        raise NotLiftable(
            "a loss that is scaled as training goes (mixed_float16) has steps that lanes can't take apart"
        )


def describe(model: keras.Model, found: Mapping[str, Slot], batch_size: int) -> dict[str, Any]:
    """Describe what members must have in common to share a program: all but lifted numbers, weights and seeds.

    Raises NotLiftable for a part that can't be compared.
    """
    lifted: dict[int, set[str]] = {}
    for slot in found.values():
        lifted.setdefault(id(slot.owner), set()).add(slot.name)
    if "loss.label_smoothing" in found:
        lifted.setdefault(id(model.loss), set()).add("label_smoothing")
    layers = layers_of(model)
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    known = {id(thing): number for number, thing in enumerate([*layers, *variables])}
    optimizer, compiled = model.optimizer, model._compile_metrics
    return {
        "layers": [_layer_part(layer, known, lifted) for layer in layers],
        "graph": _graph(model),
        "variables": [_variable_part(variable, lifted) for variable in model.trainable_variables],
        "frozen": [[list(v.shape), str(v.dtype)] for v in model.non_trainable_variables],
        "optimizer": _object_part(optimizer, lifted, drop=("learning_rate", "name", "initial_accumulator_value")),
        "decayed": [optimizer._use_weight_decay(variable) for variable in model.trainable_variables],
        "schedule": _schedule_part(optimizer._learning_rate, lifted),
        "loss": _object_part(model.loss, lifted),
        "loss_weights": _plain(getattr(model._compile_loss, "_user_loss_weights", None)),
        "metrics": [_object_part(metric, lifted) for metric in getattr(compiled, "_user_metrics", None) or ()],
        "weighted_metrics": [_plain(m) for m in getattr(compiled, "_user_weighted_metrics", None) or ()],
        "lifted": sorted(found),
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
    """Describe how layers are connected, and the operations between them that are no layers (`keras.ops.clip(x, 0, 1)`)."""
    config = model.get_config()
    operations = [
        operation for operation in getattr(model, "operations", ()) if not isinstance(operation, keras.layers.Layer)
    ]
    return [
        [[entry.get("name"), entry.get("inbound_nodes")] for entry in config.get("layers", [])],
        [config.get("input_layers"), config.get("output_layers")],
        [[_name(type(o)), o.name, _attributes(o, _OF_ANY_OPERATION, set(), None)] for o in operations],
    ]


def _layer_part(layer: keras.layers.Layer, known: Known, lifted: Mapping[int, set[str]]) -> Any:
    if isinstance(layer, keras.layers.Lambda):
        raise NotLiftable(f"the layer {layer.name} is a Lambda, whose function may hold anything")
    if isinstance(layer, keras.Model):
        if type(layer) not in (keras.Sequential, Functional):
            raise NotLiftable(f"{type(layer).__name__} is a model class of its own, not Sequential or Functional")
        return [_name(type(layer)), _graph(layer)]  # its layers are in the list, too
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
        _attributes(layer, _OF_ANY_LAYER, gone, known),
        _object_part(getattr(layer, "activity_regularizer", None), lifted),
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
    common = next((names for kind, names in _common() if isinstance(thing, kind)), frozenset())
    return [_name(type(thing)), config, _attributes(thing, common, gone, None)]


Known = Mapping[int, int]
"""The layers and variables of a model by their identity in memory: which one of them it is."""

_OF_ANY_LAYER = frozenset(vars(keras.layers.Layer()))
_OF_ANY_OPERATION = frozenset(vars(keras.Operation()))


@functools.cache
def _common() -> list[tuple[type[Any], frozenset[str]]]:
    """Name what every optimizer, metric and loss holds: its variables, and Keras's books about them."""
    optimizer = keras.optimizers.SGD()
    optimizer.build([keras.Variable([0.0])])
    optimizer._use_weight_decay(optimizer.iterations)
    return [
        (keras.optimizers.Optimizer, frozenset({*vars(optimizer), "_exclude_from_weight_decay"})),
        (keras.metrics.Metric, frozenset(vars(keras.metrics.Metric()))),
        (keras.losses.Loss, frozenset(vars(keras.losses.Loss()))),
    ]


def _attributes(thing: Any, common: frozenset[str], gone: set[str], known: Known | None) -> dict[str, Any]:
    """Return what an object holds beyond what `get_config` tells: its arithmetic may use it.

    Of Keras's own classes that is functions and arrays, of others everything. `known` are the model's
    own layers and variables.
    """
    is_known = type(thing).__module__.startswith("keras.") or type(thing) in (FormedLoss, FormedMetric, Decay)
    # An operation that is no layer tells nothing by itself.
    is_told = is_known and (isinstance(thing, keras.layers.Layer) or not isinstance(thing, keras.Operation))
    found = {}
    for key, value in vars(thing).items():
        if key in common:
            continue
        if key in gone:
            found[key] = "lifted"
        elif not is_told or inspect.isroutine(value) or isinstance(value, np.ndarray | jax.Array):
            found[key] = _plain(value, f"{type(thing).__name__}.{key}", known)
    return found


def _plain(value: Any, where: str = "", known: Known | None = None) -> Any:
    """Describe a value so that two that may compute differently are never equal; NotLiftable where that can't be told."""
    found: Any
    if value is None or isinstance(value, bool | int | float | str):
        found = value
    elif isinstance(value, Mapping):
        found = {str(key): _plain(inner, where, known) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        found = [_plain(entry, where, known) for entry in value]
    elif isinstance(value, set | frozenset):
        found = sorted((_plain(entry, where, known) for entry in value), key=str)
    elif isinstance(value, keras.layers.Layer):
        # Layers are compared one by one: here it matters which one this is.
        found = [_name(type(value)), (known or {}).get(id(value))]
    elif isinstance(value, keras.Variable) and known is not None and id(value) in known:
        found = known[id(value)]  # a lane has its own
    elif isinstance(value, keras.random.SeedGenerator | type):
        found = _name(value if isinstance(value, type) else type(value))
    elif inspect.isroutine(value):
        found = _function_part(value, where)
    elif hasattr(value, "get_config"):
        found = _object_part(value, {})
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        found = [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]
    elif isinstance(value, np.dtype | keras.InputSpec | keras.KerasTensor):
        found = [_name(type(value)), str(value)]
    else:
        kind = type(value).__name__
        raise NotLiftable(f"{where or 'the model'} holds a {kind}, which can't be compared between trials")
    return found


def _function_part(function: Any, where: str = "") -> Any:
    owner = getattr(function, "__self__", None)
    code = getattr(function, "__code__", None)
    module = str(getattr(function, "__module__", ""))
    if module.startswith(("keras.", "jax.", "numpy")) and not inspect.ismodule(owner) and owner is None:
        return _name(function)
    if code is None:
        raise NotLiftable(f"{where or 'the model'} holds {function!r}, which can't be compared between trials")
    if function.__closure__:
        raise NotLiftable(f"the function {function.__name__} is a closure, which may hold anything")
    defaults = [_plain(function.__defaults__, where), _plain(function.__kwdefaults__, where)]
    return [_name(function), _code_part(code), defaults, None if owner is None else _plain(owner, where)]


def _code_part(code: CodeType) -> Any:
    constants = [_code_part(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    told = repr((code.co_code, code.co_names, code.co_freevars, constants))
    return hashlib.sha256(told.encode()).hexdigest()


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
