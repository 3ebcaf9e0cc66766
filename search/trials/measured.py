"""A model's metrics on a split of a study's data, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["test", "validation", "train"]


@dataclass(frozen=True)
class Measured:
    """A model's metrics on the rows of a split.

    Attributes:
        model: the file that was evaluated; None for the trial's kept weights.
        values: metrics by name, without the prefix `val_`.
        intervals: name -> (low, high, how), 95 percent; a metric may have none.
        before: the same metrics on the validation rows in the study, at the epoch of the weights.
        was_trained_on: whether the model was trained on these rows.
        looks: how often the study's test rows have been evaluated, this time included.
    """

    study: str
    trials: tuple[int, ...]
    model: Path | None
    split: Split
    rows: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float, str]]
    before: Mapping[str, float | None]
    looks: int
    was_trained_on: bool = False
    lines: tuple[str, ...] = ()
