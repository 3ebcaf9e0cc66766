"""A look at a study's model before the first trial: what would make every trial fail, and what nothing reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np

from search.data import DataInfo
from search.engines import failures
from search.engines.protocol import Ready
from search.engines.training import ReadConfig, Trainer
from search.errors import UsageError
from search.vocabulary import TRAIN_PARAMETERS, closest
from spaces import Choice, Space

# Every conditional parameter is to be drawn once; a space with more branches than this is looked at in part.
_MOST_CONFIGS = 8
# More models than these are built only to see whether a name is read that none of the first ones has read.
_MOST_SEARCHED = 32


def inspect(trainer: Trainer, fixed: Mapping[str, Any]) -> Ready:
    """Build the model in the middle of the space (and of each branch of it) and describe it.

    Raises UsageError for what a person must mend: an unknown metric or loss, an objective that training does not report.
    A builder that raises is no such thing: it may do so for some configs only, and is then that trial's failure.
    """
    space = Space.parse(trainer.settings.space)
    reading = _Reading(trainer, fixed)
    described: dict[str, Any] = {}
    for labels in _branches(space):
        try:
            model = reading.build(labels)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 (the user's builder; the trial with this config will tell)
            described = described or {"error": failures.one_line(error)}
            continue
        trainer.arrays()
        if "parameters" not in described:
            described = _describe(model)
            _check_outputs(model, trainer)
            _check_objective(model, trainer)
        del model
    reading.look_further()
    keras.backend.clear_session()
    return Ready(
        data=asdict(trainer.data.info),
        fingerprint=trainer.data.fingerprint,
        source=trainer.source,
        model=described,
        read=sorted(reading.read),
        undrawn=[name for name in space if name not in reading.drawn],
        compiles_itself=bool(reading.came_compiled) and all(reading.came_compiled),
        steps=_steps(trainer, fixed, space),
    )


@dataclass
class _Reading:
    """Builds models and notes which names their builder, and the callbacks, have asked their config for."""

    trainer: Trainer
    fixed: Mapping[str, Any]
    read: set[str] = field(default_factory=set)
    drawn: set[str] = field(default_factory=set)
    came_compiled: list[bool] = field(default_factory=list)

    def build(self, labels: Mapping[str, Any]) -> keras.Model:
        """Build and compile the model of a config; whatever its builder raises passes through."""
        space = Space.parse(self.trainer.settings.space)
        config = ReadConfig({**self.fixed, **space.config(labels)})
        came_compiled = False
        read: set[str] = set()

        def build(config: Mapping[str, Any], info: DataInfo) -> keras.Model:
            nonlocal came_compiled, read
            model = self.trainer.build(config, info)
            came_compiled = bool(getattr(model, "compiled", False))
            # What compiling reads is known without looking; it reads more than it uses.
            read = set(config.read) if isinstance(config, ReadConfig) else set()
            return model

        model = replace(self.trainer, build=build).model(config, seed=0)
        for_callbacks = ReadConfig({**self.fixed, **space.config(labels)})
        self.trainer.callbacks(for_callbacks)
        self.read |= read | for_callbacks.read
        self.drawn |= set(labels)
        self.came_compiled.append(came_compiled)
        return model

    def look_further(self) -> None:
        """Move one parameter at a time while there are names that nothing has read: a branch of the builder may read them."""
        space = Space.parse(self.trainer.settings.space)
        names = {*self.trainer.settings.model.arguments, *space} - set(TRAIN_PARAMETERS)
        for number, labels in enumerate(_moved(space)):
            if names <= self.read or not self.came_compiled or number == _MOST_SEARCHED:
                return
            with suppress(Exception):  # the user's builder; the trial with this config will tell
                self.build(labels)


def _moved(space: Space) -> Iterator[dict[str, Any]]:
    """Yield configs in the middle of the space but for one parameter: choices first, then the ends of ranges."""
    for kind in (Choice, object):
        for name, parameter in space.items():
            if isinstance(parameter, Choice) != (kind is Choice):
                continue
            values = parameter.values() if isinstance(parameter, Choice) else (parameter.high, parameter.low)
            for value in values:
                yield middle_with(space, name, value)


def _steps(trainer: Trainer, fixed: Mapping[str, Any], space: Space) -> int:
    """Return the steps of the shortest training in the space."""

    def end(name: str, which: Callable[[Any], Any]) -> Any:
        parameter = space.get(name)
        if parameter is None:
            return fixed[name]
        if isinstance(parameter, Choice):
            return which(parameter.choices)
        return parameter.low if which is min else parameter.high

    return trainer.steps({"batch_size": end("batch_size", max), "epochs": end("epochs", min)})


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


def middle_with(space: Space, name: str, value: Any = None) -> dict[str, Any]:
    """Return labels in the middle of the space but for what makes the parameter `name` active, and for its `value`."""
    labels: dict[str, Any] = {}
    wanted = _conditions(space, name)
    if value is not None:
        wanted[name] = value
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
    except Exception:  # noqa: BLE001 (shapes that do not fit, a custom step: the first trial tells better)
        return
    try:
        names = set(model.compute_metrics(x, y, predicted)) | {"loss"}
    except Exception as error:  # noqa: BLE001 (a metric for other labels or outputs)
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
