"""Small data of the gallery: real rows where scikit-learn has them, shaped as the models want them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

TRAIN, VALIDATION = 64, 32


def split(x: Any, y: Any) -> dict[str, Any]:
    """Cut training and validation rows: two batches of 32, or two of 24 and a smaller one."""
    end = TRAIN + VALIDATION
    return {"x_train": x[:TRAIN], "y_train": y[:TRAIN], "x_val": x[TRAIN:end], "y_val": y[TRAIN:end]}


def _digits(classes: int = 10) -> tuple[Any, Any]:
    x, y = load_digits(n_class=classes, return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int64")


def flat() -> dict[str, Any]:
    """(64,) -> 10 classes."""
    return split(*_digits())


def sequence() -> dict[str, Any]:
    """(8, 8), a row of pixels a step -> 10 classes."""
    x, y = _digits()
    return split(x.reshape(-1, 8, 8), y)


def short() -> dict[str, Any]:
    """(4, 16), two rows of pixels a step -> 10 classes."""
    x, y = _digits()
    return split(x.reshape(-1, 4, 16), y)


def ragged() -> dict[str, Any]:
    """(8, 8) -> 10 classes; the last steps of many rows are all zero, to be masked."""
    x, y = _digits()
    x = x.reshape(-1, 8, 8).copy()
    for row in range(len(x)):
        x[row, 3 + row % 6 :] = 0
    return split(x, y)


def image() -> dict[str, Any]:
    """(8, 8, 1) -> 10 classes."""
    x, y = _digits()
    return split(x.reshape(-1, 8, 8, 1), y)


def colour() -> dict[str, Any]:
    """(8, 8, 3) -> 10 classes, for layers that want three channels."""
    x, y = _digits()
    return split(np.repeat(x.reshape(-1, 8, 8, 1), 3, axis=-1) * np.array([1.0, 0.5, 0.8], "float32"), y)


def volume() -> dict[str, Any]:
    """(4, 4, 4, 1) -> 10 classes."""
    x, y = _digits()
    return split(x.reshape(-1, 4, 4, 4, 1), y)


def film() -> dict[str, Any]:
    """(4, 4, 4, 1): four frames of 4 x 4 -> 10 classes."""
    return volume()


def tokens() -> dict[str, Any]:
    """(16,) whole numbers 0..16 -> 10 classes; 0 is padding."""
    x, y = _digits()
    return split(np.rint(x[:, 16:32] * 16).astype("int64"), y)


def large_numbers() -> dict[str, Any]:
    """(4,) whole numbers of 20,000,000 and more, which float32 can't tell from each other -> 10 classes."""
    x, y = _digits()
    chosen = np.rint(x[:, 18:22] * 15).astype("int64") + np.array([0, 16, 32, 48])
    return split(20_000_000 + chosen, y)


def pair() -> dict[str, Any]:
    """(2, 64): two images -> 1 if they show the same digit, labels of shape (rows, 1)."""
    x, y = _digits(3)
    other = np.roll(np.arange(len(x)), 1)
    return split(np.stack([x, x[other]], axis=1), (y == y[other]).astype("int64")[:, None])


def table() -> dict[str, Any]:
    """(10,) -> a number, of shape (rows, 1)."""
    x, y = load_diabetes(return_X_y=True)
    return split((x * 20).astype("float32"), ((y - 152) / 77).astype("float32")[:, None])


def two_numbers() -> dict[str, Any]:
    """(10,) -> two numbers."""
    x, y = load_diabetes(return_X_y=True)
    y = (y - 152) / 77
    return split((x * 20).astype("float32"), np.stack([y, np.abs(y)], axis=1).astype("float32"))


def yes_or_no() -> dict[str, Any]:
    """(30,) -> 0 or 1, of shape (rows, 1)."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return split(x.astype("float32"), y.astype("int64")[:, None])


def itself() -> dict[str, Any]:
    """(64,) -> the same 64 numbers."""
    x, _ = _digits()
    return split(x, x)


def image_itself() -> dict[str, Any]:
    """(64,) -> the same, its first 32 numbers only, so that shapes tell x and y apart."""
    x, _ = _digits()
    return split(x, x[:, :32])


def shares() -> dict[str, Any]:
    """(64,) -> four positive numbers whose sum is 1: sound for every loss that compares two rows of numbers."""
    x, y = _digits(4)
    soft = 0.7 * np.eye(4)[y] + 0.3 * np.abs(np.sin(np.arange(len(y))[:, None] + np.arange(4))) / 2.6
    return split(x, (soft / soft.sum(axis=1, keepdims=True)).astype("float32"))


def one_hot() -> dict[str, Any]:
    """(64,) -> one-hot rows of 10 classes."""
    x, y = _digits()
    return split(x, np.eye(10, dtype="float32")[y])
