"""Decides whether a user's own loss or metric gets labels (rows,) or (rows, 1).

Labels (rows,) minus outputs (rows, 1) give a rows x rows array: every row is silently compared with every other row. So do
labels (rows, 1) beside the class of each row, (rows,). Test:
if only the labels are permuted, a loss or metric that pairs rows correctly changes; a mean over all pairs does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.engines.heads import Head
from search.engines.losses.forms import Form, FormedLoss, FormedMetric, Shape
from search.engines.losses.keras_names import name_of

_ROWS = 8
_CHANGE = 1e-4


@dataclass(frozen=True)
class Rows:
    """What the rows of a study look like.

    Attributes:
        given: the shape of the labels, "flat" or "column".
        width: the model's outputs per row.
        classes: number of classes; 0 for regression. `is_binary`: labels are 0 or 1.
    """

    given: Shape
    width: int = 1
    classes: int = 0
    is_binary: bool = False


def form_for(item: Any, rows: Rows, *, is_metric: bool) -> Form:
    """Return the form of labels in which a user's loss or metric pairs rows; the source's own form is tried first.

    If no form pairs rows, labels stay unchanged.
    """
    given = rows.given
    # Keras reshapes (rows,) to a column before it calls a loss function, so "flat" differs from "" there.
    others: tuple[Shape, ...] = ("flat",) if given == "column" else ("column",) if is_metric else ("column", "flat")
    for labels in ("", *others):
        form = Form(given, labels)
        if _pairs(item, form, rows, is_metric=is_metric):
            return form
    return Form(given)


def formed(item: Any, form: Form, *, is_metric: bool) -> Any:
    """Wrap a user's loss or metric so that it gets labels in another form."""
    if form.changes_nothing:
        return item
    if is_metric:
        if not isinstance(item, keras.metrics.Metric):
            item = keras.metrics.MeanMetricWrapper(item, name=item.__name__)
        return FormedMetric(item, form)
    return FormedLoss(item if isinstance(item, keras.losses.Loss) else _Function(item), form)


def warnings_of(model: keras.Model, rows: Rows, head: Head) -> Iterator[str]:
    """Yield a warning for each loss or metric of a builder's own that compares every row with every other."""
    for what, item in _user_code(model, head):
        wanted = form_for(item, rows, is_metric=what == "metric").labels
        if wanted:
            has, needs = ("(rows,)", "(rows, 1)") if wanted == "column" else ("(rows, 1)", "(rows,)")
            yield (
                f"the {what} {name_of(item)} of the builder compares every row with every other: labels are {has}, outputs "
                f"are (rows, {rows.width}); give labels of shape {needs} in the data, or reshape them in the {what}"
            )


def names_of_user_code(model: keras.Model, head: Head) -> list[str]:
    """Return the names of an output's losses and metrics that are neither Keras's nor made from the study file."""
    return [name_of(item) for _, item in _user_code(model, head) if not isinstance(item, FormedLoss | FormedMetric)]


def _user_code(model: keras.Model, head: Head) -> Iterator[tuple[str, Any]]:
    given = [("loss", _at(model.loss, head))]
    metrics = _at(getattr(model._compile_metrics, "_user_metrics", None), head)
    given += [("metric", metric) for metric in keras.tree.flatten(metrics or [])]
    yield from (pair for pair in given if callable(pair[1]) and not type(pair[1]).__module__.startswith("keras."))


def _at(given: Any, head: Head) -> Any:
    """Return what `compile` was given for an output: one for all, or one for each by name or in order."""
    if head.index is None:
        return given
    if isinstance(given, Mapping):
        return given.get(head.name)
    is_for_each = isinstance(given, list | tuple) and len(given) == head.outputs
    return given[head.index] if is_for_each else given


class _Function(keras.losses.Loss):  # type: ignore[misc]
    """A loss function as a Keras loss."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(name=getattr(function, "__name__", "loss"))
        self.fn = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(y_true, y_pred)


def _pairs(item: Any, form: Form, rows: Rows, *, is_metric: bool) -> bool:
    if not is_metric and isinstance(item, keras.losses.Loss) and type(item).__call__ is not keras.losses.Loss.__call__:
        return form.changes_nothing  # FormedLoss can only wrap `call`
    value = _metric_value(item, form) if is_metric else _loss_value(item, form)
    for labels, outputs in _samples(rows):
        try:
            base = value(labels, outputs)
            if any(
                _differ(base, value(labels[np.random.default_rng(seed).permutation(_ROWS)], outputs))
                for seed in range(3)
            ):
                return True
        except Exception:  # noqa: BLE001, S112 (the user's code may not accept labels of this shape)
            continue
    return False


def _samples(rows: Rows) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield (labels, outputs) twice: first positive outputs (probabilities of classes), then values around 0."""
    rng = np.random.default_rng(0)
    shape = (_ROWS, rows.width)
    if rows.is_binary:
        labels = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)
    elif rows.classes:
        labels = rng.permutation(_ROWS).astype(np.int32) % rows.classes
    else:
        labels = rng.uniform(0.5, 2, _ROWS).astype("float32")
    labels = labels if rows.given == "flat" else labels.reshape(-1, 1)
    outputs = rng.uniform(0.05, 0.95, shape) if rows.classes or rows.is_binary else rng.uniform(0.5, 2, shape)
    if rows.classes and rows.width > 1:
        outputs /= outputs.sum(axis=1, keepdims=True)
    yield labels, outputs.astype("float32")
    yield labels, rng.normal(0, 2, shape).astype("float32")


def _loss_value(item: Any, form: Form) -> Callable[[Any, Any], float]:
    loss = formed(item, form, is_metric=False)
    if not isinstance(loss, keras.losses.Loss):
        from keras.src.losses.losses import LossFunctionWrapper

        loss = LossFunctionWrapper(loss)
    return lambda y, outputs: _number(loss(keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(outputs)))


def _metric_value(item: Any, form: Form) -> Callable[[Any, Any], float]:
    metric = formed(item, form, is_metric=True)
    if not isinstance(metric, keras.metrics.Metric):
        metric = keras.metrics.MeanMetricWrapper(metric)

    def value(y: Any, outputs: Any) -> float:
        metric.reset_state()
        metric.update_state(keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(outputs))
        return _number(metric.result())

    return value


def _number(value: Any) -> float:
    return float(np.mean(np.asarray(value)))


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _CHANGE * max(abs(one), abs(other), 1e-3)
