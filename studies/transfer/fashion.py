"""Fashion-MNIST in halves: clothes 0 to 4 to train a backbone, and few examples of 5 to 9 to transfer it to."""

from pathlib import Path

import numpy as np

VALIDATION = 2000


def first_half():
    """Return all rows of the classes 0 to 4."""
    (x, y), (x_test, y_test) = _load()
    return (x[y < 5], y[y < 5]), (x_test[y_test < 5], y_test[y_test < 5])


def ten():
    """Return 10 training rows of each of the classes 5 to 9."""
    return _second_half(10)


def fifty():
    """Return 50 training rows of each of the classes 5 to 9."""
    return _second_half(50)


def two_hundred():
    """Return 200 training rows of each of the classes 5 to 9."""
    return _second_half(200)


def _second_half(each):
    (x, y), (x_test, y_test) = _load()
    rows = np.random.default_rng(0).permutation(np.flatnonzero(y >= 5))
    few = np.concatenate([rows[y[rows] == label][:each] for label in range(5, 10)])
    validation = rows[~np.isin(rows, few)][:VALIDATION]
    rest = y_test >= 5
    parts = {"train": (x[few], y[few]), "val": (x[validation], y[validation]), "test": (x_test[rest], y_test[rest])}
    return {f"{name}_{part}": rows for part, pair in parts.items() for name, rows in zip("xy", pair, strict=True)}


def _load():
    """Return (x, y) of the training and of the test rows: of a file beside this one, else as Keras downloads them."""
    path = Path(__file__).with_name("fashion_mnist.npz")
    if not path.is_file():
        import keras

        return keras.datasets.fashion_mnist.load_data()
    with np.load(path) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
