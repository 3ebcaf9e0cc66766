"""What a constant prediction is worth on the validation rows: what every search has to beat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from search.data import Data
from search.data.splits import Scaling
from search.data.table_encoding import Encoding
from search.data.targets import label_numbers

_EPSILON = 1e-7


@dataclass(frozen=True)
class Goal:
    """What trials are judged by, and the value of a prediction that learnt nothing from the features.

    Attributes:
        objective: for the study file.
        metrics: names for [train].
        loss: for [train]; "" for the task's default.
        direction: "maximize" or "minimize".
        baseline: value of `objective` on the validation rows.
        words: the prediction that has it, as a clause without a verb: "the most frequent class, 'no', for every row".
        also: a second baseline for a series, as a sentence; "" if there is none.
        loss_weights: of several outputs, so that each counts alike.
    """

    objective: str
    metrics: tuple[str, ...]
    direction: str
    baseline: float
    words: str
    loss: str = ""
    also: str = ""
    loss_weights: dict[str, float] | None = None


def goal_of(data: Data) -> Goal:
    """Return the goal for the task of the data; classes that are far from balanced are not judged by their accuracy."""
    if data.has_several_outputs:
        return _of_several(data)
    if data.info.task == "regression":
        return _of_labels(data) if are_several_labels(data) else _of_numbers(data)
    train, validation = (_labels(y, data) for y in (data.y_train, data.y_validation))
    shares = np.bincount(train, minlength=data.info.classes) / len(train)
    most = int(shares.argmax())
    name = data.info.class_names[most]
    share = float((validation == most).mean())
    has_all = len(np.unique(validation)) > 1
    if share < _unbalanced(data) or (share < 1 and not has_all):
        words = f"the most frequent class, {name!r}, for every row"
        return Goal("val_accuracy", ("accuracy",), "maximize", share, words)
    if data.info.task == "binary" and has_all:
        words = f"chance; {max(shares):.0%} of the rows are {name!r}, so accuracy would say little"
        return Goal("val_auc", ("auc", "accuracy"), "maximize", 0.5, words)
    words = (
        f"each class by its share of the training rows{_by_weight(data)}; {name!r} has {max(shares):.0%} of the rows, so "
        "accuracy would say little"
    )
    return Goal("val_loss", ("accuracy",), "minimize", _constant_loss(data), words)


def _unbalanced(data: Data) -> float:
    """Return the share of the most frequent class from which on accuracy says little."""
    return 0.75 if data.info.task == "binary" else 0.8


def are_several_labels(data: Data) -> bool:
    """Return whether the targets of a regression are rows of 0 and 1: any number of labels for each row."""
    y = data.y_train
    is_of_numbers = data.info.task == "regression" and y.ndim == 2 and y.shape[1] > 1
    return bool(is_of_numbers and ((y == 0) | (y == 1)).all())


def _of_labels(data: Data) -> Goal:
    shares = np.clip(_weighted_mean(data.y_train, data.w_train), _EPSILON, 1 - _EPSILON)
    y = np.asarray(data.y_validation, np.float64)
    losses = -(y * np.log(shares) + (1 - y) * np.log(1 - shares)).mean(axis=1)
    words = f"each label by its share of the training rows{_by_weight(data)}"
    loss = _loss_of(losses, data)
    return Goal("val_loss", ("binary_accuracy",), "minimize", loss, words, loss="binary_crossentropy")


def _of_numbers(data: Data) -> Goal:
    train, validation = (np.asarray(y, np.float64) for y in (data.y_train, data.y_validation))
    mean = train.mean(axis=0)
    error = float(np.sqrt(((validation - mean) ** 2).mean()))
    shown = f", {float(mean.reshape(-1)[0]):.4g}," if mean.size == 1 else ""
    words = f"the mean of the training rows{shown} for every row"
    return Goal("val_root_mean_squared_error", ("root_mean_squared_error", "mae"), "minimize", error, words)


def with_last_value(goal: Goal, data: Data, past: int) -> Goal:
    """Return the goal of a series with a second baseline: the target repeats its value at the end of the window.

    `past` is the feature that holds the target's past.
    """
    changes = changes_of(data.x_validation, data.y_validation, data, past)
    error = float(np.sqrt((changes**2).mean()))
    also = f"Also try to beat {error:.4g}, by repeating the last known value."
    return replace(goal, also=also)


def changes_of(x: Any, y: Any, data: Data, past: int) -> Any:
    """Return how the target differs from its last value in the window, (rows,), in its units."""
    last, scaling = np.asarray(x[:, -1, past], np.float64), scaling_of(data)
    if scaling.mean is not None and scaling.spread is not None:
        last = last * scaling.spread[past] + scaling.mean[past]
    return np.asarray(y, np.float64).reshape(-1) - last


def scaling_of(data: Data) -> Scaling:
    """Return the scaling of the first features of a single input: of its numbers, if it is a table that is encoded."""
    return data.encoding.scaling if isinstance(data.encoding, Encoding) else data.scaling


def _of_several(data: Data) -> Goal:
    """Return the sum of the losses of all outputs, each divided by that of a constant prediction: then each counts alike."""
    weights = {}
    for name in data.info.targets:
        loss = _constant_loss(data.output(name))
        weights[name] = float(f"{1 / max(loss, _EPSILON):.4g}")
    total = sum(weights[name] * _constant_loss(data.output(name)) for name in weights)
    words = "the mean, or the share of each class, of the training rows for every row of every output"
    return Goal("val_loss", (), "minimize", total, words, loss_weights=weights)


def _constant_loss(data: Data) -> float:
    """Return the default loss of the task on the validation rows for the constant that is best on the training rows."""
    if data.info.task == "regression":
        train, validation = (np.asarray(y, np.float64).reshape(len(y), -1) for y in (data.y_train, data.y_validation))
        losses = ((validation - _weighted_mean(train, data.w_train)) ** 2).mean(axis=1)
    else:
        train, validation = (_labels(y, data) for y in (data.y_train, data.y_validation))
        counts = np.bincount(train, weights=_weights(data.w_train), minlength=data.info.classes)
        shares = counts / counts.sum()
        losses = -np.log(np.clip(shares[validation], _EPSILON, 1))
    return _loss_of(losses, data)


def _loss_of(losses: Any, data: Data) -> float:
    """Return the loss of the validation rows as Keras does: it divides by the number of rows, not by the sum of weights."""
    weights = 1.0 if data.w_validation is None else np.asarray(data.w_validation, np.float64)
    return float((losses * weights).mean())


def _weighted_mean(rows: Any, weights: Any) -> Any:
    return np.average(np.asarray(rows, np.float64), axis=0, weights=_weights(weights))


def _weights(given: Any) -> Any:
    """Return weights of training rows; None if all count alike, as they do for a constant if none has a weight."""
    weights = None if given is None else np.asarray(given, np.float64)
    return weights if weights is not None and weights.sum() > 0 else None


def _by_weight(data: Data) -> str:
    return "" if data.w_train is None else " by weight"


def _labels(y: Any, data: Data) -> Any:
    labels = label_numbers(np.asarray(y))
    # Classes that are floats or signed were numbered 0, 1 ... already.
    assert labels.max() < data.info.classes  # noqa: S101
    return labels
