"""The metrics of an epoch as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# A metric with more numbers than this (such as a confusion matrix) is not recorded as curves.
MOST_NUMBERS = 100


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return every number of the logs by name, of a vector as NAME[0], NAME[1] ...; ValueError for too many numbers.

    Each float32 becomes the shortest decimal that identifies it: 0.9722222 and not 0.9722222089767456.
    """
    values = {}
    for name, value in logs.items():
        array = np.asarray(value, np.float32)
        for part, index in _parts(name, array.shape):
            values[part] = float(str(array[index]))
    return values


def names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Return the names of a metric's numbers, given its shape."""
    return [part for part, _ in _parts(name, shape)]


def _parts(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    if math.prod(shape) > MOST_NUMBERS:
        raise ValueError(
            f"the metric {name} gives {math.prod(shape)} numbers; a metric of at most {MOST_NUMBERS} can be recorded: "
            "average it, or remove it"
        )
    is_one = math.prod(shape) == 1  # Keras gives F1Score(threshold=0.5) of two classes as a vector of one
    for index in np.ndindex(*shape):
        yield name if is_one else f"{name}[{','.join(map(str, index))}]", index
