"""Saves a trial's trained model as a file that Keras alone can open: scaling inside, compiled without our classes.

Runs in a worker process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search import arrayfile
from search.data import Data
from search.engines import failures, noting, pins, portable
from search.engines.heads import Head, heads_of
from search.engines.logs import numbers
from search.engines.losses.keras_names import name_of
from search.engines.losses.outputs import width_of
from search.engines.optimizers import make_optimizer
from search.engines.packing import SAME_SCALED, Packed, are_alike, pack
from search.engines.portable import Labels, Yardstick
from search.engines.protocol import DescribeModel, SaveModel
from search.engines.training import Trainer, validation_batch, weights_of
from search.spec import model_file
from search.spec.vocabulary import SCHEDULE_NUMBERS
from search.trials.events import Noted

_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Evaluated:
    """The trained model as the study compiles it, with its outputs and metrics on the validation rows.

    Attributes:
        labels: the validation labels of each head, by its name.
    """

    model: keras.Model
    outputs: Any
    values: dict[str, float]
    heads: list[Head]
    labels: dict[str, Labels]
    batch_size: int

    @classmethod
    def of(
        cls, trainer: Trainer, order: SaveModel | DescribeModel, weights: Mapping[str, NDArray[Any]] | None
    ) -> Evaluated:
        """Build, compile and evaluate a trial's model as the study does; without weights the builder has set them."""
        data, batch_size = trainer.data, validation_batch(int(order.config["batch_size"]))
        model = trainer.model(order.config, order.seed)
        if weights is not None:
            assign(model, weights)
        outputs = model.predict(data.x_validation, batch_size=batch_size, verbose=0)
        values = _values(model, data.x_validation, data.y_validation, data.w_validation, batch_size)
        heads = heads_of(model, data)
        labels = {head.name: _labels(head.data) for head in heads}
        return cls(model, outputs, values, heads, labels, batch_size)

    def first_forms(self) -> dict[str, str]:
        """Return the form of labels that the source has, by head."""
        return {name: next(iter(labels.forms)) for name, labels in self.labels.items()}

    def in_forms(self, forms: Mapping[str, str], like: Any) -> Any:
        """Return the validation labels in these forms, in the structure of `like`."""
        made = {name: labels.forms[forms.get(name, "labels")] for name, labels in self.labels.items()}
        if "" in made:
            return made[""]
        return made if isinstance(like, dict) else tuple(made[str(number)] for number in range(len(made)))


@dataclass(frozen=True)
class Compiled:
    """How a file's model is compiled, with Keras's own classes only.

    Attributes:
        arguments: of `Model.compile`; None for a model that is not compiled.
        forms: of the labels that `evaluate` takes, by head: "labels" or "one-hot".
        lines: for the user: what is left out, and how to compute it.
    """

    arguments: dict[str, Any] | None
    forms: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def without(self, wrong: Mapping[str, str]) -> Compiled:
        """Leave out metrics by name, or do not compile at all if the loss is wrong. `wrong`: name -> reason."""
        metrics = (self.arguments or {}).get("metrics")
        kept = _kept(metrics, "", wrong)
        if "loss" in wrong or kept == metrics:
            name = "loss" if "loss" in wrong else next(iter(wrong))
            return _uncompiled(f"{name} would be wrong ({wrong[name]})")
        lines = (*self.lines, *(f"{name} is left out of the file: {why}" for name, why in wrong.items()))
        return replace(self, arguments={**(self.arguments or {}), "metrics": kept}, lines=lines)


def _kept(metrics: Any, output: str, wrong: Collection[str]) -> Any:
    """Return metrics in their structure without those that are wrong; Keras reports those of an output with its name."""
    if isinstance(metrics, dict):
        return {name: _kept(inner, f"{name}_", wrong) for name, inner in metrics.items()}
    if isinstance(metrics, list) and not any(isinstance(inner, list) for inner in metrics):
        return [metric for metric in metrics if f"{output}{name_of(metric)}" not in wrong]
    return metrics


def _labels(data: Data) -> Labels:
    info = data.info
    return Labels.of(data.y_validation, task=info.task, classes=info.classes, is_one_hot=data.raw.is_one_hot)


def _uncompiled(why: str) -> Compiled:
    return Compiled(None, lines=(f"the model is not compiled, for {why}; compile it after loading",))


class Bare(Trainer):
    """Builds models but does not compile them; a builder's own compilation stays."""

    def compile(self, model: keras.Model, config: Mapping[str, Any]) -> None:
        """Leave the model as it is."""


def bare_model(trainer: Trainer, config: Mapping[str, Any], seed: int) -> keras.Model:
    """Return the model of a config as its builder returns it."""
    bare = Bare(**{field.name: getattr(trainer, field.name) for field in fields(Trainer)})
    return bare.model(config, seed)


def is_compiled_by_builder(trainer: Trainer, order: DescribeModel) -> bool:
    """Return whether the builder compiles a trial's model itself."""
    return bool(bare_model(trainer, order.config, order.seed).compiled)


def save(trainer: Trainer, order: SaveModel) -> Noted:
    """Write a trial's model with its kept weights, load the file back, and evaluate it on raw validation rows.

    The file holds no class of ours. A loss or metric without an equivalent in Keras, or in the user's own code, is left out
    and a line says so. Errors of the user's layers pass through.
    """
    # An ensemble is built with its weights.
    weights = arrayfile.read(Path(order.weights))[0] if order.weights else None
    evaluated = Evaluated.of(trainer, order, weights)
    model = bare_model(trainer, order.config, order.seed)
    if weights is not None:
        assign(model, weights)
    data = trainer.data
    # A builder's loss gets labels in the source's form, which is the first form.
    forms = evaluated.first_forms()
    is_own = model.compiled
    compiled = replace(_of_builder(model), forms=forms) if is_own else _of_study(trainer, order, evaluated)
    packed = pack(model, data, evaluated.outputs, evaluated.batch_size)
    while True:
        _write(packed.model, compiled, order.path)
        loaded, load_lines = load(order.path, model)
        if loaded is None or compiled.arguments is None:
            values: dict[str, float] = {}
            break
        labels = evaluated.in_forms(compiled.forms, data.y_validation)
        model_of_file, rows = packed.staged(loaded)
        values = _values(model_of_file, rows, labels, data.w_validation, evaluated.batch_size)
        if not (wrong := _differing(values, evaluated, is_scaling=packed.is_scaling)):
            break
        compiled = compiled.without(wrong)
    if loaded is not None and not are_alike(packed.predicted(loaded, evaluated.batch_size), evaluated.outputs):
        load_lines = (
            *load_lines,
            "the file's predictions differ from the trained model's: its layers may draw, or save not all",
        )
    _note(trainer, order, evaluated, packed, compiled.forms, own=is_own)
    label_lines = [line for head in evaluated.heads for line in _label_lines(compiled, head)]
    lines = [*packed.lines, *compiled.lines, *label_lines, *load_lines]
    if values:
        left_out = {line.partition(" is left out")[0] for line in lines}
        lines += [
            f"{name} is left out of the file: its evaluate gives no value of that name"
            for name in evaluated.values
            if name not in values and re.sub(r"\[\d+\]$", "", name) not in left_out
        ]
    return Noted(
        "model saved",
        {
            "values": {f"val_{name}": value for name, value in {**evaluated.values, **values}.items()},
            "of_file": [f"val_{name}" for name in values],
            "lines": lines,
            "evaluated": {f"val_{name}": value for name, value in evaluated.values.items()},
            "is_half": any("16" in str(layer.compute_dtype) for layer in evaluated.model._flatten_layers()),
        },
    )


def _note(
    trainer: Trainer, order: SaveModel, evaluated: Evaluated, packed: Packed, forms: Mapping[str, str], *, own: bool
) -> None:
    """Write into the file what rows it takes and what it gives. `own`: the builder has compiled the model."""
    model, outputs = evaluated.model, keras.tree.flatten(evaluated.outputs)
    heads = [
        (head, outputs[head.index or 0], noting.given_by(model, trainer, head, order.config, own=own))
        for head in evaluated.heads
    ]
    model_file.put(Path(order.path), noting.notes_of(trainer, packed, heads, forms, order.origin))


def _of_study(trainer: Trainer, order: SaveModel, evaluated: Evaluated) -> Compiled:
    """Return Keras's equivalents of the study's loss, metrics and optimizer."""
    model, outputs = evaluated.model, keras.tree.flatten(evaluated.outputs)
    if len(outputs) != len(evaluated.heads):
        return _uncompiled("the model has several outputs")
    losses: dict[str, Any] = {}
    metrics: dict[str, list[Any]] = {}
    forms: dict[str, str] = {}
    lines: list[str] = []
    own_metrics = iter(model._compile_metrics.metrics)
    for head in evaluated.heads:
        of_output = f" of {head.name}" if head.name else ""
        yardstick = Yardstick(evaluated.labels[head.name], outputs[head.index or 0])
        named = trainer.loss(order.config, width_of(model, head.data, head.index), head)
        loss = portable.loss(_study_loss(evaluated, head), named, yardstick)
        if loss is None:
            why = "is code of yours" if isinstance(named, str) else "can't be expressed by Keras's own classes"
            return _uncompiled(f"the loss{of_output} {why}")
        losses[head.name], forms[head.name], metrics[head.name] = loss.object, loss.form, []
        for entry, own in zip(trainer.metrics(head), own_metrics, strict=False):
            equivalent = portable.metric(own, entry, yardstick, loss.form)
            if equivalent is None:
                name = f"{head.name}_{own.name}" if head.name else own.name
                lines.append(f"{name} is left out of the file: {portable.recipe(own, entry, yardstick)}")
            else:
                metrics[head.name].append(equivalent)
    arguments = {"optimizer": _optimizer(trainer, order), **trainer.compilation(losses, metrics)}
    return Compiled(arguments, forms, tuple(lines))


def _study_loss(evaluated: Evaluated, head: Head) -> Callable[[Any, Any], Any]:
    """Return the loss of an output, as the study computes it."""
    if head.index is not None:
        given = evaluated.model.loss
        loss: Callable[[Any, Any], Any] = given[head.name if isinstance(given, dict) else head.index]
        return loss

    def study_loss(y: Any, output: Any) -> Any:
        # Restore the structure: an output may have a name.
        return evaluated.model._compile_loss(y, keras.tree.pack_sequence_as(evaluated.outputs, [output]))

    return study_loss


def _optimizer(trainer: Trainer, order: SaveModel) -> keras.optimizers.Optimizer:
    """Return a trial's optimizer with a constant rate: the best epoch's, if a schedule or callback changed the rate."""
    given = {name: value for name, value in order.config.items() if name not in SCHEDULE_NUMBERS}
    is_changing = len(given) < len(order.config) or bool(trainer.settings.train.callbacks)
    if is_changing and order.learning_rate is not None:
        given["learning_rate"] = order.learning_rate
    return make_optimizer(given, trainer.steps(order.config))


def _of_builder(model: keras.Model) -> Compiled:
    """Return the parts of a builder's compilation that use Keras's own classes."""
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
        arguments[name] = _without_user_code(arguments.get(name), lines)
    return Compiled(arguments, lines=tuple(lines))


def _without_user_code(given: Any, lines: list[str]) -> Any:
    """Return metrics, in any nested structure, without the user's own; append a line for each that is left out."""
    if isinstance(given, dict):
        return {key: _without_user_code(item, lines) for key, item in given.items()}
    if isinstance(given, list | tuple):
        # Drop left-out entries, but keep None that was there before: an inner list may stand for an output.
        kept = [_without_user_code(item, lines) for item in given]
        return [item for item, before in zip(kept, given, strict=True) if item is not None or before is None]
    if given is None or portable.is_of_keras(given):
        return given
    lines.append(f"{name_of(given)} is left out of the file: it is code of yours")
    return None


def _write(model: keras.Model, compiled: Compiled, path: str) -> None:
    for layer in model._flatten_layers():
        # Otherwise Keras would also save how an inner model is compiled.
        if isinstance(layer, keras.Model):
            layer.compiled = False
    if compiled.arguments is not None:
        model.compile(**compiled.arguments)
        # Otherwise Keras warns that the optimizer is saved without variables.
        model.optimizer.build(model.trainable_variables)
    with pins.warnings_as_prints():
        model.save(path)


def load(path: str, model: keras.Model) -> tuple[keras.Model | None, tuple[str, ...]]:
    """Load a written file in safe mode; return the model, or None, and lines on what the user needs to load it."""
    foreign = portable.foreign_in(Path(path))
    lines: tuple[str, ...] = ()
    if names := sorted(set(foreign) - {portable.LAMBDA}):
        table = ", ".join(f'"{name}": {name}' for name in names)
        lines = (f"it needs code of yours: load_model(path, custom_objects={{{table}}})",)
    if portable.LAMBDA in foreign:
        return None, (
            *lines,
            "it opens with load_model(path, safe_mode=False) only, for a lambda in it",
        )
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    objects = {name: portable.users(name, foreign[name]) or classes.get(name) for name in names}
    try:
        return keras.saving.load_model(path, custom_objects=objects, safe_mode=True), lines
    except Exception as error:  # noqa: BLE001 (the user's layers may raise anything when loaded)
        return None, (*lines, f"the file was written, but load_model fails: {failures.one_line(error)}")


def _differing(values: Mapping[str, float], evaluated: Evaluated, *, is_scaling: bool) -> dict[str, str]:
    """Return the metrics whose values differ between file and study: name -> the two values, as text."""
    # With scaling inside, rounding may move a row at a class boundary to the other class.
    rtol, atol = (
        (SAME_SCALED, 1.5 / evaluated.heads[0].data.info.validation_rows)
        if is_scaling
        else (portable.SAME, portable.SAME)
    )
    return {
        name: f"from the file it is {value:.5g}, in the study {evaluated.values[name]:.5g}"
        for name, value in values.items()
        if name in evaluated.values and not np.isclose(value, evaluated.values[name], rtol, atol, equal_nan=True)
    }


def _label_lines(compiled: Compiled, head: Head) -> Sequence[str]:
    """Return lines on the labels that `evaluate` takes for an output, if they differ from the source's."""
    data, of_output = head.data, f" of {head.name}" if head.name else ""
    names, form, lines = data.info.class_names, compiled.forms.get(head.name, "labels"), []
    if names and names != tuple(map(str, range(len(names)))):
        shown = ", ".join(f"{number} is {name}" for number, name in enumerate(names[:_SHOWN_CLASSES]))
        lines.append(f"classes{of_output} are numbers: {shown}{', ...' if len(names) > _SHOWN_CLASSES else ''}")
    if compiled.arguments is not None and data.info.task != "regression":
        if form == "one-hot" and not data.raw.is_one_hot:
            lines.append(f"evaluate takes one-hot labels{of_output}, as its loss does")
        if form == "labels" and data.raw.is_one_hot:
            lines.append(f"evaluate takes whole numbers for labels{of_output}, as its loss does")
    return lines


def assign(model: keras.Model, weights: Mapping[str, NDArray[Any]]) -> None:
    for name, variable in weights_of(model.trainable_variables, model.non_trainable_variables):
        variable.assign(weights[name])


def _values(model: keras.Model, x: Any, y: Any, weights: Any, batch_size: int) -> dict[str, float]:
    """Evaluate a model; return its metrics as numbers."""
    results = model.evaluate(x, y, batch_size=batch_size, sample_weight=weights, verbose=0, return_dict=True)
    return numbers(results)
