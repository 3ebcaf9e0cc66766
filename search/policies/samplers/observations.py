"""What the default sampler has observed: the scores of all trials at a few levels of epochs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.policies.samplers.encoding import Array
from search.trials.objective import Objective
from search.trials.trial import Trial

# Levels are the epochs at which scores are read: the last one, half of it, a quarter ... down to a sixteenth. They are the
# same for all trials, so that scores differ by config and not by time trained.
LEVELS = 5
# How many levels lie between the last epoch and a quarter of it.
QUARTER = 2
# Scores are clipped from below at median - FLOOR * (90th percentile - median), so that a few terrible ones don't dominate
# the fit. Both are taken at the first level from the first trials, which cover the whole space.
FLOOR, FLOOR_TRIALS = 3.0, 32

_RUNNING, _ENDED, _BAD = range(3)
_MAX_SCORE = 1e100


@dataclass(frozen=True, slots=True)
class Rows:
    """The data of a Gaussian process: `scores[i]` of `trials[i]` after `epochs[i]`, and the running trials."""

    trials: NDArray[np.intp]
    epochs: Array
    scores: Array
    running: NDArray[np.intp]


class Observations:
    """All trials as arrays, one row each. Higher scores are better; the score of an epoch is the best up to it."""

    def __init__(self, epochs: int, parameters: int) -> None:
        self._epochs = epochs
        self._trials = 0
        self._levels = sorted({max(1, round(epochs / 2**k)) for k in range(LEVELS)})
        self.points = np.zeros((64, parameters))
        self._at_level = np.full((64, len(self._levels)), np.nan)
        self._best = np.full(64, -np.inf)
        self._state = np.zeros(64, np.intp)
        self._epoch = np.zeros(64, np.intp)
        self._taken: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return self._trials

    def add(self, trial: int, point: Array) -> None:
        """Add the next trial, whose config is at `point`."""
        if trial >= len(self.points):
            for name, empty in (("points", 0), ("_at_level", np.nan), ("_best", -np.inf), ("_state", 0), ("_epoch", 0)):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.full_like(array, empty)]))
        self._trials = trial + 1
        self.points[trial] = point
        self._taken[_keys(point[None])[0]] += 1

    def update(self, trial: Trial, objective: Objective) -> None:
        """Read the new epochs and the end of a trial. One without a value later gets the worst score of all."""
        number = trial.number
        for epoch, value in objective.by_epoch(trial, int(self._epoch[number])).items():
            # Clip, so that sums of squares stay finite in float64.
            self.report(number, epoch, min(max(objective.sign * value, -_MAX_SCORE), _MAX_SCORE))
        if trial.is_ended and self._state[number] == _RUNNING:
            self.end(number, is_bad=trial.has_no_value, is_complete=trial.state == "COMPLETE")

    def has(self, points: Array) -> list[bool]:
        """Return, for each of the points of shape (n, d), whether a trial has it."""
        return [self._taken[key] > 0 for key in _keys(points)]

    def report(self, trial: int, epoch: int, score: float) -> None:
        """Record the score of one epoch."""
        self._best[trial], self._epoch[trial] = max(self._best[trial], score), epoch
        for k, level in enumerate(self._levels):
            if level <= epoch and np.isnan(self._at_level[trial, k]):
                self._at_level[trial, k] = self._best[trial]

    def end(self, trial: int, *, is_bad: bool, is_complete: bool) -> None:
        """Record how a trial ended: a complete one keeps its best score at all later levels."""
        self._state[trial] = _BAD if is_bad else _ENDED
        if is_bad or self._best[trial] == -np.inf:
            return
        later = np.isnan(self._at_level[trial])
        if not is_complete:  # a trial pruned before the first level counts there, with the best score it had
            later[1:] = False
        self._at_level[trial, later] = self._best[trial]

    def count_running(self, number: int) -> int:
        """Return how many of the trials before `number` are running."""
        return int(np.count_nonzero(self._state[:number] == _RUNNING))

    def with_score(self, first: int, number: int) -> NDArray[np.intp]:
        """Return the trials from `first` to before `number` that have a score at some level."""
        return first + np.flatnonzero(self._reached(number)[first:] > 0)

    def count_informative(self, number: int) -> int:
        """Return how many of the trials before `number` reached the first level or ended; 0 if none has a score."""
        is_informative = (self._reached(number) > 0) | (self._state[:number] != _RUNNING)
        return int(np.count_nonzero(is_informative)) if self._reached(number).any() else 0

    def rows(self, number: int, limit: int) -> Rows:
        """Return about `limit` rows of the trials before `number`, and those of them that are running.

        A trial has a row at the highest level that it reached and one at a quarter of that epoch: the two show how early
        scores predict late ones. If there are too many trials, half of the chosen ones are the best, because the next config
        is searched near them, and half are spread evenly over the study.
        """
        reached, is_bad = self._reached(number), self._state[:number] == _BAD
        scores = self._at_level[np.arange(number), reached - 1]
        chosen = _chosen(np.flatnonzero((reached > 0) | is_bad), np.where(is_bad, -np.inf, scores), limit // 2)
        late, bad = chosen[~is_bad[chosen]], chosen[is_bad[chosen]]
        early = late[reached[late] > QUARTER]
        middle, high = np.quantile(self._at_level[:number, 0][reached > 0][:FLOOR_TRIALS], [0.5, 0.9])
        floor = middle - FLOOR * (high - middle)
        good = np.maximum(np.concatenate([scores[late], self._at_level[early, reached[early] - 1 - QUARTER]]), floor)
        levels = np.array(self._levels, float)
        return Rows(
            trials=np.concatenate([late, early, bad]),
            epochs=np.concatenate(
                [levels[reached[late] - 1], levels[reached[early] - 1 - QUARTER], np.full(len(bad), self._epochs)]
            ),
            scores=np.concatenate([good, np.full(len(bad), good.min())]),
            running=np.flatnonzero((self._state[:number] == _RUNNING) & (reached < len(levels))),
        )

    def _reached(self, number: int) -> NDArray[np.intp]:
        """Return how many levels each of the trials before `number` reached; 0 for those that ended without a value."""
        reached = np.count_nonzero(~np.isnan(self._at_level[:number]), axis=1)
        return np.where(self._state[:number] == _BAD, 0, reached)


def _keys(points: Array) -> list[bytes]:
    # Rounded: points of the same config may differ in their last digits.
    return [row.tobytes() for row in np.round(points, 9)]


def _chosen(trials: NDArray[np.intp], scores: Array, limit: int) -> NDArray[np.intp]:
    """Return all trials in order; of more than `limit`, half by best score and half spread evenly over the others."""
    if len(trials) <= limit:
        return trials
    order = trials[np.argsort(-scores[trials], kind="stable")]
    best, others = order[: limit // 2], np.sort(order[limit // 2 :])
    evenly = others[np.linspace(0, len(others) - 1, limit - limit // 2).round().astype(np.intp)]
    return np.sort(np.concatenate([best, evenly]))
