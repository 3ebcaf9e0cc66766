"""What a training reports after an epoch, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# A metric of more numbers than this (a matrix of confusions, say) is no curve.
MOST_NUMBERS = 100


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return every number of the logs by its name; those of a vector as NAME[0], NAME[1] ...; ValueError for too many.

    Each is a float32 as the shortest decimal that stands for it: 0.9722222 and not 0.9722222089767456.
    """
    found = {}
    for name, value in logs.items():
        array = np.asarray(value, np.float32)
        for part, index in _parts(name, array.shape):
            found[part] = float(str(array[index]))
    return found


def names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Return the names under which a metric of this shape is reported."""
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
