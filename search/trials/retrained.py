"""A config that was trained again by itself, and what the search promises of it. Pure values and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal, TypeAlias

from scipy import stats

from search.trials.trial import Metrics

LEVEL = 0.95
Mode: TypeAlias = Literal["again", "long", "full"]


@dataclass(frozen=True, slots=True)
class Promise:
    """Where the value of one more training of a config is expected.

    Attributes:
        values: of its trainings with different seeds: those of `manyfit confirm`, or the repeats of the search.
        low, high: Student's interval of one more value at `LEVEL`; None with fewer than two values.
    """

    values: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Promise:
        """Return the promise of the values of several trainings."""
        count = len(values)
        if count < 2:
            return cls(tuple(values))
        half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * stdev(values) * math.sqrt(1 + 1 / count)
        return cls(tuple(values), fmean(values) - half, fmean(values) + half)

    def holds(self, value: float) -> bool | None:
        """Return whether a value is within the interval; None if there is none."""
        return None if self.low is None or self.high is None else self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Retrained:
    """A config that was trained again.

    Attributes:
        mode: "again" as in the search, "long" past its end, or "full" with the validation rows among the training rows.
        search: the value of its trial in the search.
        same_seed: the value that the search had with the same seed; None for another seed.
        value: the objective at `epoch`, whose weights the model has; None with "full".
        within: the value that compares with those of the search: the best one within its epochs; of a study with repeats,
            that of the epoch with their best mean, `at`, of which their values are, too. None with "full".
        epoch: counted from 1.
        epochs: how many the search trained it.
        curve: the metrics of each epoch.
        lines: what the user has to know about the model's file.
    """

    study: str
    objective: str
    trial: int
    rank: int
    seed: int
    mode: Mode
    search: float
    same_seed: float | None
    value: float | None
    within: float | None
    epoch: int
    epochs: int
    curve: Sequence[Metrics]
    promise: Promise = field(default_factory=Promise)
    at: int | None = None
    lines: tuple[str, ...] = ()
