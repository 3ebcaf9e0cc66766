"""Trains a model by its HyperModel's own `fit(hp, model, x, y, ...)`.

A `fit` that passes its callbacks on to `model.fit`, or calls their `on_epoch_end` with the objective in a loop of its own, is
followed epoch by epoch and can be pruned. Any other is one training of one epoch, whose value is the number or the dict that
it returns.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import numpy as np

from search.engines.logs import numbers

# Shares by which a returned value may differ from the best of its epochs.
_ROUNDING = 1e-5


class Recorder(Protocol):
    """The callback that reports epochs to the engine. `has_ended`: whether the trial has ended."""

    has_ended: bool
    epoch: int

    def set_model(self, model: Any) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...


class Ended(BaseException):  # leaves a loop of the user's, past its `except Exception`
    """The trial has ended, and a `fit` of the user's goes on."""


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Passes epochs with an objective on, under numbers of its own: a `fit` may call `model.fit` twice.

    Attributes:
        last: the metrics of the last epoch.
        total: the epochs that were passed on.
    """

    def __init__(self, recorder: Recorder, objective: str) -> None:
        super().__init__()
        self._recorder, self._objective = recorder, objective
        self.last: dict[str, float] = {}
        self.values: list[float] = []

    @property
    def total(self) -> int:
        return len(self.values)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        self._leave_if_ended()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._leave_if_ended()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._leave_if_ended()
        self._recorder.on_epoch_begin(self.total)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._leave_if_ended()
        self.last = numbers(logs or {})
        if self._objective in self.last:
            self.values.append(self.last[self._objective])
            self._recorder.set_model(self.model)
            self._recorder.on_epoch_end(self.total - 1, logs)

    def _leave_if_ended(self) -> None:
        if self._recorder.has_ended:
            raise Ended


def train(
    fit: Callable[..., Any], hp: Any, model: keras.Model, rows: Mapping[str, Any], recorder: Recorder,
    objective: tuple[str, float], callbacks: list[Any],
) -> None:  # fmt: skip
    """Train a model by a HyperModel's own `fit`; every epoch goes to `recorder`.

    Args:
        rows: `x`, `y` and the keyword arguments, such as `validation_data` and `epochs`.
        objective: its name, and 1.0 to maximize it or -1.0 to minimize it.
        callbacks: further ones, which come before the recorder.

    Raises ValueError if `fit` does not report the objective, or reports two values of it.
    """
    name, sign = objective
    epochs = Epochs(recorder, name)
    epochs.set_model(model)
    recorder.set_model(model)
    recorder.on_epoch_begin(0)
    try:
        result = call(fit, hp, model, {**rows, "callbacks": [*callbacks, epochs]}, lambda: epochs.total > 0)
    except Ended:
        return
    if recorder.has_ended:
        return
    returned = _returned(result, name)
    if not epochs.total:
        metrics = {**epochs.last, **returned}
        if name not in metrics:
            raise ValueError(_unreported(name, result, metrics))
        recorder.on_epoch_end(0, metrics)
        return
    best = max((value for value in epochs.values if math.isfinite(value)), key=lambda value: sign * value, default=None)
    value = returned.get(name)
    if best is not None and value is not None and not math.isclose(value, best, rel_tol=_ROUNDING, abs_tol=1e-8):
        raise ValueError(
            f"the hypermodel's fit returned {name} = {value:.6g}, and the best of its epochs is {best:.6g}: return the "
            "History of model.fit, or do not pass the callbacks on, so that only what fit returns counts"
        )


def takes(fit: Callable[..., Any], option: str) -> bool:
    """Whether a HyperModel's `fit` takes a keyword argument."""
    parameters = inspect.signature(fit).parameters
    return option in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def call(
    fit: Callable[..., Any], hp: Any, model: keras.Model, rows: Mapping[str, Any], has_begun: Callable[[], bool]
) -> Any:
    """Call a HyperModel's `fit` with the keyword arguments that it takes and does not give to `model.fit` itself."""
    options = dict(rows)
    x, y = options.pop("x"), options.pop("y")
    options = {key: value for key, value in options.items() if takes(fit, key)}
    while True:
        try:
            return fit(hp, model, x, y, **options)
        except TypeError as error:
            # `model.fit(*args, epochs=..., **kwargs)`: the hypermodel has the last word.
            match = re.search(r"got multiple values for (?:keyword )?argument '(\w+)'", str(error))
            if match is None or match[1] not in options or match[1] == "callbacks" or has_begun():
                raise
            del options[match[1]]


def _returned(result: Any, objective: str) -> dict[str, float]:
    if isinstance(result, Mapping):
        return numbers(dict(result))
    if isinstance(result, int | float | np.number) and not isinstance(result, bool):
        return {objective: float(result)}
    return {}


def _unreported(name: str, result: Any, metrics: Mapping[str, Any]) -> str:
    if isinstance(result, keras.callbacks.History) and name in result.history:
        return (
            "the hypermodel's fit trains without the callbacks that it receives, so its epochs and its weights are unknown; "
            "pass them on: model.fit(*args, **kwargs), or callbacks=callbacks"
        )
    has = f"only {', '.join(sorted(metrics))}" if metrics else f"nothing (it returned {type(result).__name__})"
    advice = f"return a number or a dict with {name!r}, or name another objective"
    return f"the hypermodel's fit reports no {name!r}, but {has}; {advice}"


class _AnyHistory(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        return [0.0]


@contextmanager
def pretended(model: keras.Model, epochs: list[int]) -> Iterator[None]:
    """Within this context, `model.fit` trains nothing, and appends to `epochs` how many epochs it was asked for."""

    def fit(*_: Any, **options: Any) -> keras.callbacks.History:
        epochs.append(int(options.get("epochs", 1)))
        history = keras.callbacks.History()
        history.history = _AnyHistory()
        return history

    own = vars(model).get("fit")
    object.__setattr__(model, "fit", fit)
    try:
        yield
    finally:
        object.__delattr__(model, "fit")
        if own is not None:
            object.__setattr__(model, "fit", own)
