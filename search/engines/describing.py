"""Looks at a trained model: what it gets wrong, and what its first layer looks for. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search import arrayfile
from search.data import Data, pictures
from search.data.targets import label_numbers
from search.engines import exporting, noting
from search.engines.exporting import Evaluated
from search.engines.heads import Head
from search.engines.protocol import DescribeModel
from search.engines.training import Trainer
from search.trials.events import Noted

# At most so many mistakes, points of a regression, pictures of weights, classes in a matrix, and columns of a row.
MISTAKES, POINTS, PICTURES, CLASSES, COLUMNS = 24, 1000, 64, 50, 6
_LONGEST_TEXT = 160
# Layers that leave rows as images, or flatten them: what follows still has a weight for each pixel.
_PASSING = (
    "InputLayer", "Flatten", "Reshape", "Rescaling", "Normalization", "Dropout", "GaussianNoise", "Identity",
    "ActivityRegularization", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast",
    "RandomBrightness",
)  # fmt: skip
# Metrics that are the share of rows whose most probable class is theirs.
_ACCURACIES = ("accuracy", "acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy")


def describe(trainer: Trainer, order: DescribeModel) -> Noted:
    """Build a member's model with its kept weights; return its mistakes and its first weights."""
    weights, _ = arrayfile.read(Path(order.weights))
    evaluated = Evaluated.of(trainer, order, weights)
    outputs = keras.tree.flatten(evaluated.outputs)
    is_own = exporting.is_compiled_by_builder(trainer, order)
    heads = []
    for head in evaluated.heads:
        given = noting.given_by(evaluated.model, trainer, head, order.config, own=is_own)
        heads.append(_described(trainer, evaluated, head, np.asarray(outputs[head.index or 0]), given))
    return Noted(
        "model described",
        {
            "evaluated": {f"val_{name}": value for name, value in evaluated.values.items()},
            "is_half": any("16" in str(layer.compute_dtype) for layer in evaluated.model._flatten_layers()),
            "heads": heads,
            "weights": first_weights(evaluated.model, trainer),
        },
    )


def _described(
    trainer: Trainer, evaluated: Evaluated, head: Head, outputs: NDArray[Any], given: noting.Given
) -> dict[str, Any]:
    info, count = head.data.info, len(outputs)
    detail: dict[str, Any] = {"name": head.name, "task": info.task, "rows": count}
    flat = outputs.reshape(count, -1).astype(np.float64)
    if info.task == "regression":
        return {**detail, **_errors(trainer, head.data, flat)}
    labels = label_numbers(np.asarray(head.data.y_validation)).reshape(-1)
    if outputs.ndim > 2 or len(labels) != count:
        return {**detail, "left_out": "the model gives more than one class a row"}
    shares = _shares(flat, given, info.classes)
    if shares is None:
        return {**detail, "left_out": "it is not known what its outputs mean: no probabilities, and no logits"}
    predicted = shares.argmax(1)
    accuracy, name = float((predicted == labels).mean()), head.name
    known = [evaluated.values.get(f"{name}_{metric}" if name else metric) for metric in _ACCURACIES]
    stated = next((value for value in known if value is not None), None)
    if stated is not None and head.data.w_validation is None and abs(stated - accuracy) > 1.5 / count:
        return {
            **detail,
            "left_out": f"its classes by the largest output give an accuracy of {accuracy:.5g}, not {stated:.5g}",
        }
    names = list(info.class_names) or [str(number) for number in range(info.classes)]
    return {
        **detail,
        **_confusion(labels, predicted, names),
        "mistakes": _mistakes(trainer, labels, predicted, shares, names, given),
    }


def _shares(outputs: NDArray[np.float64], given: noting.Given, classes: int) -> NDArray[np.float64] | None:
    """Return a number for each class, the largest for the predicted one: probabilities where these are known."""
    if outputs.shape[1] == 1 and classes == 2:
        if given.threshold is not None:
            return np.concatenate([given.threshold - outputs, outputs - given.threshold], axis=1)
        if given.gives not in ("probabilities", "logits"):
            return None
        share = outputs if given.gives == "probabilities" else 1 / (1 + np.exp(-np.clip(outputs, -500, 500)))
        return np.concatenate([1 - share, share], axis=1)
    if outputs.shape[1] != classes:
        return None
    if given.gives == "logits" and given.squash == "softmax":
        shifted = np.exp(outputs - outputs.max(1, keepdims=True))
        shares: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
        return shares
    return outputs


def _confusion(labels: NDArray[Any], predicted: NDArray[Any], names: list[str]) -> dict[str, Any]:
    """Return the counts of the true (first) and predicted classes; of many classes, only of those with the most mistakes."""
    count = len(names)
    matrix = np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)
    shown = np.arange(count)
    if count > CLASSES:
        wrong = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
        shown = np.sort(np.argsort(-wrong, kind="stable")[:CLASSES])
    return {
        "classes": [names[k] for k in shown],
        "all_classes": count,
        "confusion": matrix[np.ix_(shown, shown)].tolist(),
        "wrong": int((labels != predicted).sum()),
    }


def _mistakes(
    trainer: Trainer,
    labels: NDArray[Any],
    predicted: NDArray[Any],
    shares: NDArray[np.float64],
    names: list[str],
    given: noting.Given,
) -> list[dict[str, Any]]:
    """Return the wrong rows whose own class is the least likely, the worst first."""
    rows = np.flatnonzero(labels != predicted)
    worst = rows[np.argsort(shares[rows, labels[rows]], kind="stable")][:MISTAKES]
    are_probabilities = given.gives in ("probabilities", "logits")
    shown = _Rows(trainer)
    return [
        {
            "row": int(row),
            "true": names[labels[row]],
            "predicted": names[predicted[row]],
            "probability": float(shares[row, predicted[row]]) if are_probabilities else None,
            **shown.of(int(row)),
        }
        for row in worst
    ]


def _errors(trainer: Trainer, data: Data, outputs: NDArray[np.float64]) -> dict[str, Any]:
    """Return true and predicted numbers of a regression of one target, and the rows with the largest errors."""
    targets = np.asarray(data.y_validation).reshape(len(outputs), -1).astype(np.float64)
    if targets.shape[1] != 1 or outputs.shape[1] != 1:
        return {"left_out": "the model gives several numbers a row"}
    true, predicted = targets[:, 0], outputs[:, 0]
    worst = np.argsort(-np.abs(true - predicted), kind="stable")[:MISTAKES]
    some = np.unique(np.linspace(0, len(true) - 1, min(len(true), POINTS)).astype(int))
    shown = _Rows(trainer)
    return {
        "points": [[float(true[row]), float(predicted[row])] for row in some],
        "mistakes": [
            {"row": int(row), "true": float(true[row]), "predicted": float(predicted[row]), **shown.of(int(row))}
            for row in worst
        ],
    }


class _Rows:
    """Shows validation rows as the source has them: an image, a text, or some of its columns."""

    def __init__(self, trainer: Trainer) -> None:
        data, section = trainer.data, trainer.settings.data
        raw: Any = data.raw.x_validation
        self._inputs: Mapping[str, Any] = (
            raw
            if isinstance(raw, dict)
            else {str(k): one for k, one in enumerate(raw)}
            if isinstance(raw, tuple)
            else {"": raw}
        )
        self._names = [str(column["name"]) for column in data.columns]
        self._image, self._shape, self._ends = "", None, (0.0, 1.0)
        for name, rows in self._inputs.items():
            is_window = bool(section.window) or name in self._names
            if shape := pictures.image_shape(tuple(rows.shape[1:]), section.source, is_window=is_window):
                some = np.asarray(rows[:256], np.float32)
                self._image, self._shape = name, shape
                self._ends = min(0.0, float(np.nanmin(some))), float(np.nanmax(some))
                break

    def of(self, row: int) -> dict[str, Any]:
        """Return a row's `picture`, a PNG in base64, or its `text`."""
        if self._shape is not None:
            return {
                "picture": pictures.of_row(
                    np.asarray(self._inputs[self._image][row : row + 1])[0], self._shape, *self._ends
                )
            }
        return {"text": "; ".join(self._cells(row))[:_LONGEST_TEXT]}

    def _cells(self, row: int) -> Iterator[str]:
        for name, rows in list(self._inputs.items())[:COLUMNS]:
            one: Any = np.asarray(rows[row : row + 1])[0]
            if np.ndim(one) == 0:
                yield f"{name} {_shown(one)}".strip()
            elif np.ndim(one) == 1:
                names = (
                    self._names if len(self._names) == len(one) and not name else [f"[{k}]" for k in range(len(one))]
                )
                prefix = f"{name}" if name else ""
                yield from (
                    f"{prefix}{column} {_shown(cell)}" for column, cell in zip(names[:COLUMNS], one, strict=False)
                )


def _shown(cell: Any) -> str:
    return f"{float(cell):.5g}" if isinstance(cell, float | np.floating) else str(cell)


def first_weights(model: keras.Model, trainer: Trainer) -> dict[str, Any]:
    """Return pictures of the weights of the layer that sees the image first, or `left_out` with the reason."""
    data, section = trainer.data, trainer.settings.data
    if data.info.inputs:
        return {"left_out": "the model has several inputs"}
    shape = pictures.image_shape(data.info.input_shape, section.source, is_window=bool(section.window))
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Reshape):
            shape = pictures.image_shape(tuple(layer.target_shape)) or shape
        if shape is None and not isinstance(layer, keras.layers.InputLayer | keras.layers.Reshape):
            return {"left_out": "its rows are no images"}
        if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D) and shape is not None:
            return _of_layer(layer, shape)
        if type(layer).__name__ not in _PASSING and not isinstance(layer, keras.Model):
            return {"left_out": f"its first layer, {layer.name}, has no weight for each pixel"}
    return {"left_out": "none of its layers has weights for pixels"}


def _of_layer(layer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32)
    if isinstance(layer, keras.layers.Dense):
        if kernel.shape[0] != np.prod(shape):
            return {"left_out": f"its first layer, {layer.name}, sees no whole image"}
        kernel = kernel.reshape(*shape, -1)
    if kernel.ndim == 3:
        kernel = kernel[:, :, None]
    height, width, channels, units = kernel.shape
    if min(height, width) < 2 or channels not in (1, 3):
        return {
            "left_out": f"the weights of its first layer, {layer.name}, are not pictures: {height} x {width} x {channels}"
        }
    strongest = np.argsort(-np.square(kernel).sum((0, 1, 2)), kind="stable")[:PICTURES]
    return {
        "layer": layer.name,
        "units": units,
        "size": [height, width, channels],
        "pictures": [
            {
                "unit": int(unit),
                "picture": pictures.of_weights(kernel[..., unit] if channels == 3 else kernel[..., 0, unit]),
            }
            for unit in strongest
        ],
    }
