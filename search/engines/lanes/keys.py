"""The program key: two members share a compiled program only if their keys are equal."""

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

from search.engines.lanes.lifting import NotLiftable, Slot, layers_of
from search.engines.losses.forms import FormedLoss, FormedMetric
from search.engines.optimizers import Decay


def check(model: keras.Model) -> None:
    """Raise NotLiftable, with the reason, for a model that lanes can't train."""
    if type(model) not in (keras.Sequential, Functional):
        raise NotLiftable(f"{type(model).__name__} is a model class of its own, not Sequential or Functional")
    if model.run_eagerly:
        raise NotLiftable("it is compiled to run eagerly")
    if isinstance(model.optimizer, keras.optimizers.MultiOptimizer):
        raise NotLiftable("its optimizer is made of several, which have no learning rate in common")
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        raise NotLiftable(
            "a loss that is scaled as training goes (mixed_float16) has steps that lanes can't take apart"
        )


def describe(model: keras.Model, slots: Mapping[str, Slot], batch_size: int) -> dict[str, Any]:
    """Describe all of a model that the program depends on: everything but lifted numbers, weights and seeds.

    Raises NotLiftable for a part that can't be compared.
    """
    lifted: dict[int, dict[str, str]] = {}
    for path, slot in slots.items():
        lifted.setdefault(id(slot.owner), {})[slot.name] = path
    if "loss.label_smoothing" in slots:
        lifted.setdefault(id(model.loss), {})["label_smoothing"] = "loss.label_smoothing"
    layers = layers_of(model)
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    indices = {id(part): index for index, part in enumerate([*layers, *variables])}
    optimizer, compiled = model.optimizer, model._compile_metrics
    return {
        "layers": [_layer_part(layer, indices, lifted) for layer in layers],
        "graph": _graph(model),
        "variables": [_variable_part(variable, lifted) for variable in model.trainable_variables],
        "frozen": [[list(v.shape), str(v.dtype)] for v in model.non_trainable_variables],
        "optimizer": _optimizer_part(optimizer, variables, lifted),
        "decayed": [optimizer._use_weight_decay(variable) for variable in model.trainable_variables],
        "schedule": _schedule_part(optimizer._learning_rate, lifted),
        "loss": _object_part(model.loss, lifted),
        "loss_weights": _plain(getattr(model._compile_loss, "_user_loss_weights", None)),
        "metrics": _metrics_part(getattr(compiled, "_user_metrics", None), lifted),
        "weighted_metrics": _metrics_part(getattr(compiled, "_user_weighted_metrics", None), lifted),
        "lifted": sorted(slots),
        "batch_size": batch_size,
    }


def _metrics_part(metrics: Any, lifted: Lifted) -> Any:
    """Describe metrics as `compile` takes them: one, a list, or a table by the names of outputs."""
    if isinstance(metrics, Mapping):
        return {str(name): _metrics_part(inner, lifted) for name, inner in metrics.items()}
    if isinstance(metrics, list | tuple):
        return [_metrics_part(inner, lifted) for inner in metrics]
    return _object_part(metrics, lifted)


def program_key(described: Mapping[str, Any]) -> str:
    """Return the hash of a description by `describe`."""
    return hashlib.sha256(_text(described).encode()).hexdigest()[:16]


def difference(model: keras.Model, described: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name the first part in which two descriptions differ: a layer of `model`, or another part of it."""
    for layer, one, two in zip(layers_of(model), described["layers"], other["layers"], strict=False):
        if _text(one) != _text(two):
            return f"the layer {layer.name} ({type(layer).__name__})"
    part = next((part for part in described if _text(described[part]) != _text(other[part])), "nothing")
    return f"the {part.replace('_', ' ')}"


def _text(described: Any) -> str:
    return json.dumps(described, sort_keys=True, default=_plain)


def _graph(model: keras.Model) -> Any:
    """Describe the connections of layers, and operations that are not layers, such as `keras.ops.clip(x, 0, 1)`."""
    config = model.get_config()
    operations = [
        operation for operation in getattr(model, "operations", ()) if not isinstance(operation, keras.layers.Layer)
    ]
    return [
        [[entry.get("name"), entry.get("inbound_nodes")] for entry in config.get("layers", [])],
        [config.get("input_layers"), config.get("output_layers")],
        [[_name(type(o)), o.name, _attributes(o, _OPERATION_ATTRIBUTES, {}, None)] for o in operations],
    ]


def _layer_part(layer: keras.layers.Layer, indices: Indices, lifted: Lifted) -> Any:
    if isinstance(layer, keras.layers.Lambda):
        raise NotLiftable(f"the layer {layer.name} is a Lambda, whose function may hold anything")
    if isinstance(layer, keras.Model):
        if type(layer) not in (keras.Sequential, Functional):
            raise NotLiftable(f"{type(layer).__name__} is a model class of its own, not Sequential or Functional")
        return [_name(type(layer)), _graph(layer)]  # `layers_of` also lists its inner layers
    try:
        config = layer.get_config()
    except NotImplementedError:
        raise NotLiftable(
            f"the layer {layer.name} ({type(layer).__name__}) has no get_config to compare it by"
        ) from None
    lifted_names = lifted.get(id(layer), {})
    kept = {
        key: value
        for key, value in config.items()
        if key != "seed"
        and not key.endswith(("_initializer", "_regularizer", "_constraint"))
        and key not in lifted_names
    }
    return [
        _name(type(layer)),
        kept,
        _attributes(layer, _LAYER_ATTRIBUTES, lifted_names, indices),
        _object_part(getattr(layer, "activity_regularizer", None), lifted),
    ]


def _variable_part(variable: Any, lifted: Lifted) -> Any:
    return [
        list(variable.shape),
        str(variable.dtype),
        _object_part(variable.regularizer, lifted),
        _object_part(variable.constraint, lifted),
        variable.overwrite_with_gradient,
    ]


def _optimizer_part(optimizer: keras.optimizers.Optimizer, variables: list[Any], lifted: Lifted) -> Any:
    """Describe an optimizer by its config and, because a builder may change them afterwards, by its attributes."""
    indices = {id(variable): index for index, variable in enumerate([*variables, *optimizer.variables])}
    attributes = {
        key: _plain(value, f"{type(optimizer).__name__}.{key}", indices)
        for key, value in vars(optimizer).items()
        if key not in _OPTIMIZER_STATE and key not in lifted.get(id(optimizer), {})
    }
    return [_object_part(optimizer, lifted, drop=("learning_rate", *_OPTIMIZER_STATE)), attributes]


def _schedule_part(schedule: Any, lifted: Lifted) -> Any:
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return _object_part(schedule, lifted)


def _object_part(thing: Any, lifted: Lifted, drop: tuple[str, ...] = ()) -> Any:
    """Describe an optimizer, loss, metric, schedule, regularizer or constraint without its lifted numbers."""
    if not hasattr(thing, "get_config"):
        return _plain(thing)
    # Replace lifted values but keep their keys: a number that is None is not lifted and needs another program.
    lifted_names = lifted.get(id(thing), {})
    values = {key: value for key, value in thing.get_config().items() if key not in drop}
    config = {key: f"lifted {lifted_names[key]}" if key in lifted_names else value for key, value in values.items()}
    common = next((names for kind, names in _common_attributes() if isinstance(thing, kind)), frozenset())
    return [_name(type(thing)), config, _attributes(thing, common, lifted_names, None)]


Indices = Mapping[int, int]
"""id -> index of each layer and variable of a model."""
Lifted = Mapping[int, Mapping[str, str]]
"""id of an object -> its lifted numbers and their paths. Parts that share an object have the same paths."""

# What is described elsewhere, lives in a lane's state, or is Keras's bookkeeping by ids.
_OPTIMIZER_STATE = frozenset(
    [
        "name",
        "_learning_rate",
        "initial_accumulator_value",
        "_exclude_from_weight_decay",
        "_trainable_variables_indices",
        "_tracker",
    ]
)
_LAYER_ATTRIBUTES = frozenset(vars(keras.layers.Layer()))
_OPERATION_ATTRIBUTES = frozenset(vars(keras.Operation()))


@functools.cache
def _common_attributes() -> list[tuple[type[Any], frozenset[str]]]:
    """Return the attributes that every optimizer, metric and loss has: variables, and Keras's own bookkeeping."""
    optimizer = keras.optimizers.SGD()
    optimizer.build([keras.Variable([0.0])])
    optimizer._use_weight_decay(optimizer.iterations)
    return [
        (keras.optimizers.Optimizer, frozenset({*vars(optimizer), "_exclude_from_weight_decay"})),
        (keras.metrics.Metric, frozenset(vars(keras.metrics.Metric()))),
        (keras.losses.Loss, frozenset(vars(keras.losses.Loss()))),
    ]


def _attributes(
    thing: Any, common: frozenset[str], lifted: Mapping[str, str], indices: Indices | None
) -> dict[str, Any]:
    """Return the attributes of an object that `get_config` may omit, because its arithmetic may use them.

    For Keras's own classes: functions and arrays only. For other classes: every attribute.
    """
    is_trusted = type(thing).__module__.startswith("keras.") or type(thing) in (FormedLoss, FormedMetric, Decay)
    # The config of an operation that is not a layer is empty.
    has_config = is_trusted and (isinstance(thing, keras.layers.Layer) or not isinstance(thing, keras.Operation))
    attributes = {}
    for key, value in vars(thing).items():
        if key in common:
            continue
        if key in lifted:
            attributes[key] = f"lifted {lifted[key]}"
        elif not has_config or inspect.isroutine(value) or isinstance(value, np.ndarray | jax.Array):
            attributes[key] = _plain(value, f"{type(thing).__name__}.{key}", indices)
    return attributes


def _plain(value: Any, where: str = "", indices: Indices | None = None) -> Any:
    """Describe a value; values that may compute differently get different descriptions. NotLiftable if that is impossible."""
    described: Any
    if value is None or isinstance(value, bool | int | float | str):
        described = value
    elif isinstance(value, Mapping):
        described = {str(key): _plain(inner, where, indices) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        described = [_plain(entry, where, indices) for entry in value]
    elif isinstance(value, set | frozenset):
        described = sorted((_plain(entry, where, indices) for entry in value), key=str)
    elif isinstance(value, keras.layers.Layer):
        # Every layer has its own description; here only its index matters.
        described = [_name(type(value)), (indices or {}).get(id(value))]
    elif isinstance(value, keras.Variable) and indices is not None and id(value) in indices:
        described = indices[id(value)]  # its value is in the lane's state
    elif isinstance(value, keras.random.SeedGenerator | type):
        described = _name(value if isinstance(value, type) else type(value))
    elif inspect.isroutine(value):
        described = _function_part(value, where)
    elif hasattr(value, "get_config"):
        described = _object_part(value, {})
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        described = [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]
    elif isinstance(value, np.dtype | keras.InputSpec | keras.KerasTensor):
        described = [_name(type(value)), str(value)]
    else:
        name = type(value).__name__
        raise NotLiftable(f"{where or 'the model'} holds a {name}, which can't be compared between trials")
    return described


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
    text = repr((code.co_code, code.co_names, code.co_freevars, constants))
    return hashlib.sha256(text.encode()).hexdigest()


# Studies store the keys of structures: a class of ours that has moved keeps the name that it had.
_STORED_NAMES = {Decay: "search.engines.training.Decay"}


def _name(thing: Any) -> str:
    return _STORED_NAMES.get(thing) or f"{thing.__module__}.{thing.__qualname__}"
