"""A look at a study's model before the first trial: what would make every trial fail, and what nothing reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from search.engines import failures
from search.engines.protocol import Ready
from search.engines.training import ReadConfig, Trainer
from search.errors import UsageError
from search.vocabulary import TRAIN_NUMBERS, TRAIN_PARAMETERS, closest
from spaces import Space

# Every conditional parameter is to be drawn once; a space with more branches than this is looked at in part.
_MOST_CONFIGS = 8


def inspect(trainer: Trainer, fixed: Mapping[str, Any]) -> Ready:
    """Build the model in the middle of the space (and of each branch of it) and describe it.

    Raises UsageError for what a person must mend: an unknown metric or loss, an objective that training does not report.
    A builder that raises is no such thing: it may do so for some configs only, and is then that trial's failure.
    """
    space = Space.parse(trainer.settings.space)
    read: set[str] = set()
    drawn: set[str] = set()
    described: dict[str, Any] = {}
    for labels in _branches(space):
        config = ReadConfig({**fixed, **space.config(labels)})
        try:
            model = trainer.model(config, seed=0)
            trainer.callbacks(config)
        except UsageError:
            raise
        except BaseException as error:  # noqa: BLE001 (the user's builder may even exit; the trial of this config will tell)
            drawn -= set(labels)
            described = described or {"error": failures.one_line(error)}
            continue
        trainer.arrays()
        read |= config.read | {"batch_size", "epochs"}
        drawn |= set(labels)
        if "parameters" not in described:
            described = _describe(model)
            _check_outputs(model, trainer)
            _check_objective(model, trainer)
        del model
    keras.backend.clear_session()
    return Ready(
        data=asdict(trainer.data.info),
        fingerprint=trainer.data.fingerprint,
        source=trainer.source,
        warnings=[_unread(name, read, trainer) for name in space if name in drawn - read],
        model=described,
    )


def _branches(space: Space) -> Iterator[dict[str, Any]]:
    """Yield configs in the middle of the space until every parameter that can be drawn has been drawn."""
    middle = space.middle()
    yield middle
    seen, given = set(middle), 1
    for name in space:
        if name in seen or given == _MOST_CONFIGS:
            continue
        labels = middle_with(space, name)
        if name in labels:
            yield labels
            seen |= set(labels)
            given += 1


def middle_with(space: Space, name: str) -> dict[str, Any]:
    """Return labels in the middle of the space but for what makes the parameter `name` active."""
    labels: dict[str, Any] = {}
    wanted = _conditions(space, name)
    for other, kind in space.items():
        if space.is_active(other, labels):
            labels[other] = wanted[other] if other in wanted else kind.middle()
    return labels


def _conditions(space: Space, name: str) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for parent, values in space[name].when.items():
        wanted |= {parent: values[0], **_conditions(space, parent)}
    return wanted


def _describe(model: keras.Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "layers": len(model.layers),
        "parameters": int(model.count_params()),
        "optimizer": type(model.optimizer).__name__,
        "loss": str(getattr(model.loss, "name", None) or getattr(model.loss, "__name__", model.loss)),
    }


def _check_outputs(model: keras.Model, trainer: Trainer) -> None:
    """Refuse a model whose outputs the task's own loss can't be computed from."""
    info, given = trainer.data.info, trainer.settings.train.loss
    outputs = getattr(model, "output_shape", None)
    if given is not None or not isinstance(outputs, tuple) or not isinstance(outputs[-1], int):
        return
    if info.task == "classification" and outputs[-1] != info.classes:
        raise UsageError(
            f"model.build: the model gives {outputs[-1]} outputs a row, the data have {info.classes} classes; "
            "end it with data.outputs units, or name the loss in train.loss"
        )


def _check_objective(model: keras.Model, trainer: Trainer) -> None:
    data, objective = trainer.data, trainer.settings.study.objective
    x, y = data.x_validation[:4], data.y_validation[:4]
    try:
        predicted = model(x, training=False)
        model.compute_loss(x, y, predicted)
    except BaseException:  # noqa: BLE001 (shapes that do not fit, a custom step: the first trial tells better)
        return
    try:
        names = set(model.compute_metrics(x, y, predicted)) | {"loss"}
    except BaseException as error:  # noqa: BLE001 (a metric for other labels or outputs)
        raise UsageError(
            f"train.metrics: they can't be computed from this model's outputs and labels, which are whole numbers for "
            f"classes: {failures.one_line(error)}"
        ) from None
    reported = sorted(names) + sorted(f"val_{name}" for name in names)
    if objective not in reported and objective != "learning_rate":
        raise UsageError(
            f"study.objective: training reports no {objective!r}{closest(objective, reported)}; "
            f"it reports {', '.join(reported)}; mend it, or name the metric in train.metrics"
        )
    if not np.all(np.isfinite(keras.ops.convert_to_numpy(predicted))):
        raise UsageError("the untrained model's outputs are not finite; look at the scale of the data (data.scale)")


def _unread(name: str, read: set[str], trainer: Trainer) -> str:
    known = (read | set(TRAIN_NUMBERS)) - {name}
    if name in TRAIN_PARAMETERS:
        return (
            f"parameter {name!r} is read by nothing: the builder {trainer.settings.model.build} compiles its model itself, "
            f"so it has to read config[{name!r}] there"
        )
    return (
        f"parameter {name!r} is read by nothing: neither by training nor by the builder "
        f"{trainer.settings.model.build}{closest(name, known)}"
    )
