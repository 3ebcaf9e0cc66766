"""Losses of one-hot targets, for whole labels: what Keras computes for them once they are one-hot rows."""

from __future__ import annotations

from typing import Any

import keras


def binary_crossentropy(y_true: Any, y_pred: Any) -> Any:
    """Return the mean over classes of Keras's binary cross-entropy, from labels (n,) and probabilities (n, classes)."""
    return keras.losses.binary_crossentropy(_one_hot(y_true, y_pred), y_pred)


def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """Return Keras's hinge loss of several classes, from labels (n,) and outputs (n, classes)."""
    return keras.losses.categorical_hinge(_one_hot(y_true, y_pred), y_pred)


def _one_hot(y_true: Any, y_pred: Any) -> Any:
    labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
    return keras.ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
