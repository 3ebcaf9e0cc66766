"""Checks of what a model learns in its first steps, in a worker process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import psutil
from numpy.typing import NDArray

from search.checking.exhibit import Exhibit, Lines
from search.checking.report import NotApplicable
from search.checking.short_training import BATCH, STEPS, ShortTraining
from search.data.targets import label_numbers
from search.engines import model_memory
from search.spec.finding import Finding
from spaces import Choice, Space

_FIXED_ROWS, _EPOCHS = 8, 5
# Arguments of builders that make models larger.
_SIZES = (
    "units",
    "width",
    "widths",
    "hidden",
    "hidden_units",
    "neurons",
    "filters",
    "channels",
    "dim",
    "layers",
    "depth",
)


@dataclass(frozen=True)
class LearningChecks:
    """The checks of what the model of one config learns in its first steps."""

    short: ShortTraining
    config: Mapping[str, Any]

    def checks(self) -> Mapping[str, Callable[[], Iterator[Finding | Exhibit]]]:
        """Return the checks, by name."""
        return {"larger model": self.larger_model, "predictions": self.predictions, "speed": self.speed}

    def larger_model(self) -> Iterator[Finding]:
        """Yield whether the largest model of the space, or one with larger arguments, fits the training rows better."""
        trainer, small = self.short.trainer, self.short
        config, changed = self._larger()
        large = ShortTraining(trainer, trainer.model(config, seed=0), small.rate)
        sizes = [model_memory.parameters_of(short.model) for short in (small, large)]
        if sizes[1] < 1.1 * sizes[0]:
            raise NotApplicable(f"{changed} does not make the model larger")
        x, y = small.rows(16 * BATCH)
        start, losses = small.reset().loss(x, y), []
        for short in (small, large):
            short.reset()
            short.train(x, y, 2 * STEPS)
            losses.append(short.loss(x, y))
        text = (
            f"training loss after {2 * STEPS} steps: {losses[0]:.4g} with {sizes[0]:,} parameters, {losses[1]:.4g} with "
            f"{sizes[1]:,} ({changed})"
        )
        numbers = {"loss": losses[0], "larger": losses[1]}
        if losses[1] <= losses[0] + 0.05 * abs(start):
            yield Finding("larger model", "ok", text, numbers=numbers)
        else:
            advice = "larger models train worse here: look at their learning rate, initialization and normalization"
            yield Finding("larger model", "look", text, advice, numbers)

    def predictions(self) -> Iterator[Finding | Exhibit]:
        """Yield how the predictions for a few validation rows change over the first epochs."""
        data = self.short.trainer.data
        if data.info.targets:
            raise NotApplicable("the data have several outputs")
        x, y = self.short.rows(16 * BATCH)
        total = len(keras.tree.flatten(data.y_validation)[0])
        chosen = np.sort(np.random.default_rng(1).permutation(total)[:_FIXED_ROWS])
        rows = keras.tree.map_structure(lambda array: array[chosen], data.x_validation)
        targets, what = np.asarray(data.y_validation)[chosen], "probability of its class"
        if data.info.task == "regression":
            is_one = targets.reshape(len(targets), -1).shape[1] == 1
            what = "prediction minus target" if is_one else "distance from the targets"
        self.short.reset()
        shown = [_shown(self.short.predict(rows), targets, data.info.task)]
        for _ in range(_EPOCHS):
            self.short.train(x, y, 1)
            shown.append(_shown(self.short.predict(rows), targets, data.info.task))
        values = np.array(shown)
        yield self._judged(values, what, data.info.task)
        epochs = tuple(float(epoch) for epoch in range(_EPOCHS + 1))
        names = _names(targets, data.info)
        lines = {name: (epochs, tuple(values[:, row].tolist())) for row, name in enumerate(names)}
        note = f"Rows are of the validation split; an epoch is of {len(keras.tree.flatten(y)[0]):,} training rows."
        title = "Predictions for a fixed batch over the first epochs"
        yield Lines("training", "predictions", title, "epoch", what, lines, note=note)

    def _judged(self, values: NDArray[Any], what: str, task: str) -> Finding:
        size = np.abs(values) if task == "regression" else values
        first, last = float(size[0].mean()), float(size[-1].mean())
        numbers = {"first": first, "last": last}
        of = "mean distance from the target" if task == "regression" else what
        text = f"{of} of {values.shape[1]} validation rows: {first:.3g} before, {last:.3g} after {_EPOCHS} short epochs"
        if not np.isfinite(values).all():
            return Finding("predictions", "look", f"some of {values.shape[1]} rows are not finite", "", {})
        if np.ptp(values, axis=0).max() <= 1e-6 * np.abs(values).max():
            return Finding(
                "predictions", "look", text, "training changes no prediction: see what outputs depend on", numbers
            )
        return Finding("predictions", "ok", text, numbers=numbers)

    def speed(self) -> Iterator[Finding]:
        """Yield the rows per second of `model.fit` at the config's batch size, and the memory of the process."""
        trainer = self.short.trainer
        size = int(self.config["batch_size"])
        x, y = self.short.rows(16 * size)
        count = len(keras.tree.flatten(y)[0])
        self.short.reset()
        seconds = math.inf
        for _ in range(3):  # the first one compiles
            began = time.perf_counter()
            self.short.model.fit(x, y, batch_size=size, epochs=1, shuffle=False, verbose=0)
            seconds = min(seconds, time.perf_counter() - began)
        memory = psutil.Process().memory_info().rss
        rows_s, total = count / seconds, trainer.data.info.train_rows
        text = f"{rows_s:,.0f} rows a second in batches of {size} by model.fit on {keras.backend.backend()}"
        text += f": an epoch of {total:,} rows takes about {_duration(total / rows_s)}" if total else ""
        text += f"; the process has {model_memory.text(memory)}"
        yield Finding("speed", "ok", text, numbers={"rows a second": rows_s, "memory": memory})

    def _larger(self) -> tuple[dict[str, Any], str]:
        """Return a config with a larger model, and what was changed; NotApplicable if nothing makes it larger."""
        trainer = self.short.trainer
        size = model_memory.parameters_of(self.short.model)
        best, changed, most = dict(self.config), "", size
        arguments = trainer.settings.model.arguments
        for name, value in [*_largest_values(trainer.space, self.config), *_doubled(arguments)]:
            config = {**self.config, name: value}
            try:
                larger = model_memory.parameters_of(trainer.model(config, seed=0))
            except Exception:  # noqa: BLE001, S112 (a builder may refuse the value)
                continue
            if larger > 1.1 * most:
                best, changed, most = config, f"{name} = {value}", larger
        if not changed:
            raise NotApplicable("no parameter of the space and no argument of the builder makes the model larger")
        return best, changed


def _largest_values(space: Space, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the largest value of each parameter of numbers or lists; those of training are left out."""
    for name, parameter in space.items():
        if name not in config or name in ("batch_size", "epochs", "seed"):
            continue
        if isinstance(parameter, Choice):
            values = [value for value in parameter.values() if _size(value) > 0]
            largest = max(values, key=_size) if values else None
        else:
            largest = parameter.high if isinstance(parameter.high, int) else None
        if largest is not None and largest != config[name]:
            yield name, largest


def _size(value: Any) -> float:
    if isinstance(value, bool):
        return 0.0
    if isinstance(value, int):
        return float(value)
    return float(sum(map(_size, value))) if isinstance(value, list | tuple) else 0.0


def _doubled(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        if name in _SIZES and _size(value):
            yield name, 2 * value if isinstance(value, int) else [2 * item for item in value]


def _shown(outputs: Any, targets: NDArray[Any], task: str) -> NDArray[Any]:
    """Return a number for each row: the probability of its class, or the distance of the prediction from its target."""
    rows = np.asarray(keras.tree.flatten(outputs)[0], np.float64)
    rows = rows.reshape(len(rows), -1)
    if task == "regression":
        errors = rows - targets.reshape(len(rows), -1)
        return np.asarray(errors[:, 0] if errors.shape[1] == 1 else np.sqrt((errors**2).mean(axis=1)))
    labels = label_numbers(targets)
    if rows.shape[1] == 1:
        ones = rows[:, 0] if ((rows >= 0) & (rows <= 1)).all() else 1 / (1 + np.exp(-rows[:, 0]))
        return np.where(labels == 1, ones, 1 - ones)
    is_sum_one = (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-2)
    if not is_sum_one:
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        rows = powers / powers.sum(axis=1, keepdims=True)
    return rows[np.arange(len(rows)), labels]


def _names(targets: NDArray[Any], info: Any) -> list[str]:
    if info.task == "regression":
        values = targets.reshape(len(targets), -1)[:, 0]
        return [f"row {row}, target {value:.4g}" for row, value in enumerate(values)]
    names = info.class_names or tuple(map(str, range(info.classes)))
    return [f"row {row}, of {names[label]}" for row, label in enumerate(label_numbers(targets))]


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 60 else f"{seconds / 60:.1f} min"
