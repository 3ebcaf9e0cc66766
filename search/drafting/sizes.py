"""How large a first search is: rows, trials and epochs that two CPU cores manage in a minute or two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.drafting.forms import Rows

# Steps of training that a trial gets at most, and rows that a first search uses, by the form of the rows.
_STEPS = {"dense": 2500, "image": 700, "sequence": 900, "ids": 700}
_NUMBERS = {"dense": 4_000_000, "image": 8_000_000, "sequence": 1_500_000, "ids": 800_000}
_MOST_ROWS = {"dense": 20_000, "image": 4_000, "sequence": 10_000, "ids": 8_000}
_FEWEST_EPOCHS, _MOST_EPOCHS = 6, 40
# Larger images get fewer filters and steps.
_SMALL_IMAGE = 40 * 40
_FEWEST_ROWS = 1_000


@dataclass(frozen=True)
class Size:
    trials: int
    epochs: int
    batch_size: tuple[int, ...]


def limit_of(kind: str, shape: tuple[int, ...], rows: int) -> int | None:
    """Return how many training and validation rows a first search uses; None for all."""
    fitting = _NUMBERS[kind] // max(1, math.prod(shape))
    limit = max(_FEWEST_ROWS, min(_MOST_ROWS[kind], fitting // 500 * 500))
    return limit if rows > 1.5 * limit else None


def size_of(inputs: Mapping[str, Rows], train_rows: int, *, is_streamed: bool = False) -> Size:
    """Return the size of a search over so many training rows."""
    kind = hardest(inputs)
    if is_streamed:  # the batches have their own size
        return Size(8, 5, ())
    if train_rows < 1000:
        batches: tuple[int, ...] = (16, 32)
    elif train_rows < 10_000 or kind != "dense":
        batches = (32, 64)
    else:
        batches = (64, 256)
    steps = _STEPS[kind] // (2 if _pixels(inputs) > _SMALL_IMAGE else 1)
    epochs = round(steps / math.ceil(train_rows / batches[0]))
    return Size(20 if kind == "dense" else 8, min(max(epochs, _FEWEST_EPOCHS), _MOST_EPOCHS), batches)


def _pixels(inputs: Mapping[str, Rows]) -> int:
    """Return the pixels of the largest image; 0 without images."""
    return max((math.prod(rows.image[:2]) for rows in inputs.values() if rows.kind == "image"), default=0)


def hardest(inputs: Mapping[str, Rows]) -> str:
    """Return the kind of the input that takes the longest to train."""
    order = ("image", "ids", "sequence", "dense")
    return min((rows.kind for rows in inputs.values()), key=order.index)


def space_of(inputs: Mapping[str, Rows], size: Size) -> dict[str, Any]:
    """Return the parameters of [space] for the inputs."""
    kinds = {rows.kind for rows in inputs.values()} | (set() if "" in inputs else {"dense"})
    space: dict[str, Any] = {"learning_rate": {"low": 3e-4, "high": 1e-2, "log": True}}
    space["weight_decay"] = {"low": 1e-6, "high": 1e-2, "log": True}
    space["dropout"] = {"low": 0.0, "high": 0.5}
    if "image" in kinds:
        filters = [8, 16, 32] if _pixels(inputs) <= _SMALL_IMAGE else [8, 16]
        space |= {"filters": filters, "augment": [0.0, 0.1, 0.2]}
    if kinds != {"image"}:
        space["width"] = [32, 128] if "dense" in kinds else [32, 64]
    if size.batch_size:
        space["batch_size"] = list(size.batch_size)
    return space
