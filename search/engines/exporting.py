"""A trial's trained model as a file of Keras alone: scaling inside, compiled without a class of ours.

Runs in a worker process.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.data import Data
from search.data.splits import Scaling
from search.engines import failures, portable
from search.engines.checkpoints import read
from search.engines.logs import numbers
from search.engines.portable import Labels, Yardstick
from search.engines.protocol import SaveModel
from search.engines.training import Trainer, make_optimizer, validation_batch, weights_of
from search.spec.vocabulary import SCHEDULE_NUMBERS
from search.trials.events import Failed, Noted

# Normalization takes no spread below Keras's epsilon, and squares beyond these are not finite in float32.
_SPREADS = (1e-6, 1e18)
# Raw rows in float32 have fewer digits than the rows that were scaled in float64: outputs may differ by this share.
_SAME_SCALED = 1e-3
_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Judged:
    """The trained model as the study compiles it, and what it comes to on the validation rows."""

    model: keras.Model
    outputs: Any
    values: dict[str, float]
    labels: Labels
    batch_size: int

    @classmethod
    def of(cls, trainer: Trainer, order: SaveModel, weights: Mapping[str, NDArray[Any]]) -> Judged:
        """Build, compile and evaluate a trial's model as its study does."""
        data, info, batch_size = trainer.data, trainer.data.info, validation_batch(int(order.config["batch_size"]))
        model = trainer.model(order.config, order.seed)
        _assign(model, weights)
        outputs = model.predict(data.x_validation, batch_size=batch_size, verbose=0)
        values = _values(model, data.x_validation, data.y_validation, batch_size)
        labels = Labels.of(data.y_validation, task=info.task, classes=info.classes, is_one_hot=data.raw.is_one_hot)
        return cls(model, outputs, values, labels, batch_size)


@dataclass(frozen=True)
class Compiled:
    """What a file's model is compiled with, all of it Keras's own.

    Attributes:
        arguments: of `Model.compile`; None for a model that is not compiled.
        form: of the labels that `evaluate` takes: "labels" or "one-hot".
        lines: what is left out, and how to come to it.
    """

    arguments: dict[str, Any] | None
    form: str = "labels"
    lines: tuple[str, ...] = ()

    def without(self, wrong: Mapping[str, str]) -> Compiled:
        """Leave out metrics by name, or all where the loss is among them; `wrong` says of each what is wrong."""
        metrics = (self.arguments or {}).get("metrics")
        kept = [metric for metric in metrics if _name(metric) not in wrong] if isinstance(metrics, list) else metrics
        if "loss" in wrong or kept == metrics:
            name = "loss" if "loss" in wrong else next(iter(wrong))
            return _uncompiled(f"{name} would be wrong ({wrong[name]})")
        lines = (*self.lines, *(f"{name} is left out of the file: {why}" for name, why in wrong.items()))
        return replace(self, arguments={**(self.arguments or {}), "metrics": kept}, lines=lines)


def _uncompiled(why: str) -> Compiled:
    return Compiled(None, lines=(f"the model is not compiled, for {why}; compile it after loading",))


@dataclass(frozen=True)
class Packed:
    """A model ready to be written, and validation rows as it takes them."""

    model: keras.Model
    rows: NDArray[Any]
    is_scaling: bool = False
    lines: tuple[str, ...] = ()


class _Bare(Trainer):
    """Builds models and compiles none: a builder's own compilation stays."""

    def compile(self, model: keras.Model, config: Mapping[str, Any]) -> None:
        """Leave the model as it is."""


def saved(trainer: Trainer, order: SaveModel) -> Noted | Failed:
    """Save a trial's model, and tell what it comes to on the validation set; or what went wrong."""
    try:
        return save(trainer, order)
    except BaseException as error:  # noqa: BLE001 (the user's layers: anything may come out of saving them)
        return Failed(order.member, failures.one_line(error), failures.trace(error))


def save(trainer: Trainer, order: SaveModel) -> Noted:
    """Write a trial's model with its kept weights, load the file back, and evaluate it on raw validation rows.

    The file holds no class of ours. What Keras has no object for is left out and told in a line, and so is what needs the
    user's own code. Whatever a user's layer raises while it is saved passes through.
    """
    weights, _ = read(Path(order.weights))
    judged = Judged.of(trainer, order, weights)
    bare = _Bare(**{field.name: getattr(trainer, field.name) for field in fields(Trainer)})
    model = bare.model(order.config, order.seed)
    _assign(model, weights)
    # A builder's own loss gets labels in the form of the source, the first of the forms.
    own_form = next(iter(judged.labels.forms))
    compiled = replace(_of_builder(model), form=own_form) if model.compiled else _of_study(trainer, order, judged)
    packed = pack(model, trainer.data, judged)
    while True:
        _write(packed.model, compiled, order.path)
        loaded, trouble = _load(order.path, model)
        if loaded is None or compiled.arguments is None:
            values: dict[str, float] = {}
            break
        values = _values(loaded, packed.rows, judged.labels.forms[compiled.form], judged.batch_size)
        if not (wrong := _differing(values, judged, is_scaling=packed.is_scaling)):
            break
        compiled = compiled.without(wrong)
    if loaded is not None and not _are_alike(
        loaded.predict(packed.rows, batch_size=judged.batch_size, verbose=0), judged.outputs
    ):
        trouble = (
            *trouble,
            "the file's predictions differ from the trained model's: its layers may draw, or save not all",
        )
    lines = [*packed.lines, *compiled.lines, *_label_lines(compiled, trainer.data), *trouble]
    if values:
        told = {line.partition(" is left out")[0] for line in lines}
        lines += [
            f"{name} is left out of the file: its evaluate gives no value of that name"
            for name in judged.values
            if name not in values and re.sub(r"\[\d+\]$", "", name) not in told
        ]
    return Noted(
        "model saved",
        {
            "values": {f"val_{name}": value for name, value in {**judged.values, **values}.items()},
            "of_file": [f"val_{name}" for name in values],
            "lines": lines,
        },
    )


def pack(model: keras.Model, data: Data, judged: Judged) -> Packed:
    """Put what a study does to raw rows in front of a model, so that it takes rows as the source has them."""
    scaling, raw = data.scaling, data.raw.x_validation
    if scaling.kind == "none" and scaling.divisor == 1:
        return Packed(model, raw)
    try:
        whole = _in_front(_layers(scaling), model, data.info.input_shape)
        outputs = whole.predict(raw, batch_size=judged.batch_size, verbose=0)
        why = "" if _are_alike(outputs, judged.outputs) else "float32 has too few digits for these rows"
    except Exception as error:  # noqa: BLE001 (a model of the user's may not be callable inside of another)
        why = failures.one_line(error)
    if why:
        how = (
            f"x / {scaling.divisor:g}"
            if scaling.kind == "none"
            else f'data.scale = "{scaling.kind}" on the training rows'
        )
        return Packed(
            model, data.x_validation, lines=(f"scaling is NOT inside ({why}): the model takes rows scaled by {how}",)
        )
    what = f"the division by {scaling.divisor:g}" if scaling.kind == "none" else f'the scaling "{scaling.kind}"'
    return Packed(whole, raw, is_scaling=True, lines=(f"it takes rows as the source has them: {what} is inside",))


def _layers(scaling: Scaling) -> list[keras.layers.Layer]:
    """Return the layers that scale as a study does, in float32 whatever the precision of the model."""
    if scaling.mean is None or scaling.spread is None:
        return [keras.layers.Rescaling(1 / scaling.divisor, dtype="float32")]
    mean, spread = scaling.mean.tolist(), scaling.spread
    if _SPREADS[0] < spread.min() and spread.max() < _SPREADS[1]:
        return [keras.layers.Normalization(mean=mean, variance=(spread**2).tolist(), dtype="float32")]
    return [
        keras.layers.Normalization(mean=mean, variance=[1.0] * len(mean), dtype="float32"),
        keras.layers.Rescaling((1 / spread).tolist(), dtype="float32"),
    ]


def _in_front(layers: Sequence[keras.layers.Layer], model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape, dtype="float32")
    if type(model) is keras.Sequential:
        return keras.Sequential([inputs, *layers, *model.layers], name=model.name)
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, model(x))


def _of_study(trainer: Trainer, order: SaveModel, judged: Judged) -> Compiled:
    """Return what stands for the study's own loss, metrics and optimizer."""
    outputs = keras.tree.flatten(judged.outputs)
    if len(outputs) > 1:
        return _uncompiled("the model has several outputs")
    settings, info = trainer.settings.train, trainer.data.info
    yardstick = Yardstick(judged.labels, outputs[0])

    def own_loss(y: Any, output: Any) -> Any:
        # An output may have a name.
        return judged.model._compile_loss(y, keras.tree.pack_sequence_as(judged.outputs, [output]))

    loss = portable.loss(
        own_loss,
        settings.loss,
        yardstick,
        task=info.task,
        smoothing=float(order.config.get("label_smoothing", 0.0)),
    )
    if loss is None:
        why = "is code of yours" if portable.is_users(settings.loss) else "can't be expressed by Keras's own classes"
        return _uncompiled(f"the loss {why}")
    entries = trainer.metrics()
    metrics, lines = [], []
    for entry, own in zip(entries, judged.model._compile_metrics.metrics, strict=True):
        found = portable.metric(own, entry, yardstick, loss.form)
        if found is None:
            lines.append(f"{own.name} is left out of the file: {portable.recipe(own, entry, yardstick)}")
        else:
            metrics.append(found)
    optimizer = _optimizer(trainer, order)
    return Compiled({"optimizer": optimizer, "loss": loss.object, "metrics": metrics}, loss.form, tuple(lines))


def _optimizer(trainer: Trainer, order: SaveModel) -> keras.optimizers.Optimizer:
    """Return a trial's optimizer with one rate: the best epoch's, where a schedule or a callback changed it."""
    given = {name: value for name, value in order.config.items() if name not in SCHEDULE_NUMBERS}
    is_changing = len(given) < len(order.config) or bool(trainer.settings.train.callbacks)
    if is_changing and order.learning_rate is not None:
        given["learning_rate"] = order.learning_rate
    return make_optimizer(given, trainer.steps(order.config))


def _of_builder(model: keras.Model) -> Compiled:
    """Return a builder's own compilation, as far as it is Keras's own."""
    config = getattr(model, "_compile_config", None)
    if config is None or type(model).compile is not keras.Model.compile:
        return _uncompiled("the model's class has a compile method of its own")
    arguments: dict[str, Any] = dict(config.config)
    lines: list[str] = []
    for name in ("loss", "metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(portable.completed, arguments.get(name))
    for name in ("optimizer", "loss"):
        if not portable.is_of_keras(arguments.get(name)):
            return _uncompiled(f"the {name} is code of yours")
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = _without_own(arguments.get(name), lines)
    return Compiled(arguments, lines=tuple(lines))


def _without_own(given: Any, lines: list[str]) -> Any:
    """Return metrics, in a structure of any kind, without those that are the user's code; a line is added for each."""
    if isinstance(given, dict):
        return {key: _without_own(item, lines) for key, item in given.items()}
    if isinstance(given, list | tuple):
        # What is left out of a list is None; a list in a list stands for an output.
        kept = [_without_own(item, lines) for item in given]
        return [item for item, before in zip(kept, given, strict=True) if item is not None or before is None]
    if given is None or portable.is_of_keras(given):
        return given
    lines.append(f"{_name(given)} is left out of the file: it is code of yours")
    return None


def _write(model: keras.Model, compiled: Compiled, path: str) -> None:
    for layer in model._flatten_layers():
        # Keras would also write what a model inside of another is compiled with.
        if isinstance(layer, keras.Model):
            layer.compiled = False
    if compiled.arguments is not None:
        model.compile(**compiled.arguments)
        # Keras warns of an optimizer that is saved without its variables.
        model.optimizer.build(model.trainable_variables)
    model.save(path)


def _load(path: str, model: keras.Model) -> tuple[keras.Model | None, tuple[str, ...]]:
    """Load a written file in safe mode; return the model, or None, and what a person has to know for that."""
    with zipfile.ZipFile(path) as file:
        foreign = portable.foreign(json.loads(file.read("config.json")))
    lines: tuple[str, ...] = ()
    if names := sorted(set(foreign) - {portable.LAMBDA}):
        table = ", ".join(f'"{name}": {name}' for name in names)
        lines = (f"it needs code of yours: load_model(path, custom_objects={{{table}}})",)
    if portable.LAMBDA in foreign:
        return None, (
            *lines,
            "it opens with load_model(path, safe_mode=False) only, for a lambda in it",
        )
    kinds = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    objects = {name: _users(name, foreign[name]) or kinds.get(name) for name in names}
    try:
        return keras.saving.load_model(path, custom_objects=objects, safe_mode=True), lines
    except Exception as error:  # noqa: BLE001 (the user's layers: anything may come out of loading them)
        return None, (*lines, f"the file was written, but load_model fails: {failures.one_line(error)}")


def _users(name: str, module: str) -> Any:
    """Find a class or function of the user's; of functions Keras does not write where they are from."""
    if found := getattr(sys.modules.get(module), name, None):
        return found
    return next(
        (
            found
            for key, other in list(sys.modules.items())
            if (found := vars(other).get(name)) is not None and getattr(found, "__module__", None) == key
        ),
        None,
    )


def _differing(values: Mapping[str, float], judged: Judged, *, is_scaling: bool) -> dict[str, str]:
    """Return the metrics of a file that are not the study's, and what they are."""
    # A row on the edge of two classes may change sides where scaling is rounded.
    share, rest = (_SAME_SCALED, 1.5 / len(judged.labels.study)) if is_scaling else (portable.SAME, portable.SAME)
    return {
        name: f"from the file it is {value:.5g}, in the study {judged.values[name]:.5g}"
        for name, value in values.items()
        if name in judged.values and not np.isclose(value, judged.values[name], rtol=share, atol=rest, equal_nan=True)
    }


def _are_alike(some: Any, others: Any) -> bool:
    pairs = zip(keras.tree.flatten(some), keras.tree.flatten(others), strict=True)
    return all(
        np.allclose(a, b, rtol=_SAME_SCALED, atol=_SAME_SCALED * max(1e-3, float(np.std(b))), equal_nan=True)
        for a, b in pairs
    )


def _label_lines(compiled: Compiled, data: Data) -> Sequence[str]:
    """Say what labels `evaluate` takes, where they are not the source's."""
    names, lines = data.info.class_names, []
    if names and names != tuple(map(str, range(len(names)))):
        shown = ", ".join(f"{number} is {name}" for number, name in enumerate(names[:_SHOWN_CLASSES]))
        lines.append(f"classes are numbers: {shown}{', ...' if len(names) > _SHOWN_CLASSES else ''}")
    if compiled.arguments is not None and data.info.task != "regression":
        if compiled.form == "one-hot" and not data.raw.is_one_hot:
            lines.append("evaluate takes one-hot labels, as its loss does")
        if compiled.form == "labels" and data.raw.is_one_hot:
            lines.append("evaluate takes whole numbers for labels, as its loss does")
    return lines


def _assign(model: keras.Model, weights: Mapping[str, NDArray[Any]]) -> None:
    for name, variable in weights_of(model.trainable_variables, model.non_trainable_variables):
        variable.assign(weights[name])


def _values(model: keras.Model, x: Any, y: Any, batch_size: int) -> dict[str, float]:
    """Evaluate a model; return what its metrics come to, as numbers."""
    found = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
    return numbers({name: keras.ops.convert_to_numpy(value) for name, value in found.items()})


def _name(metric: Any) -> str:
    return str(
        metric if isinstance(metric, str) else getattr(metric, "name", None) or getattr(metric, "__name__", metric)
    )
