"""Which trials a figure shows, where a study has more than a browser can draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from search.trials.objective import Objective
from search.trials.trial import Trial

# At most so many curves, points and lines of parallel coordinates; a curve has at most so many epochs.
CURVES, POINTS, LINES, EPOCHS = 250, 2000, 600, 150

_T = TypeVar("_T")


def thinned(trials: Sequence[Trial], objective: Objective, most: int) -> list[Trial]:
    """Return at most `most` trials in their order: the best third of that number, and others at even distances."""
    if len(trials) <= most:
        return list(trials)
    ranked = sorted((trial for trial in trials if trial.value is not None), key=objective.rank)
    best = {trial.number for trial in ranked[: most // 3]}
    others = spread([trial for trial in trials if trial.number not in best], most - len(best))
    kept = best | {trial.number for trial in others}
    return [trial for trial in trials if trial.number in kept]


def spread(items: Sequence[_T], most: int) -> list[_T]:
    """Return at most `most` items at even distances, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def note(shown: int, there: int, what: str) -> str:
    """Return in a sentence that only some are shown; "" if all are."""
    return "" if shown >= there else f"{shown:,} of {there:,} {what} are shown: the best, and others evenly spread."
