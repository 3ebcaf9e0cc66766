"""The configs of `search.start`: which trials have them, and how much better than them a search has become."""

from __future__ import annotations

from dataclasses import dataclass

from search.spec.study import StudyFile
from search.trials.history import History
from search.trials.objective import Objective
from search.trials.trial import Trial


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better the best trial of a study is than its best start config; both were trained fully.

    Attributes:
        value: in the unit of the objective, positive where the best trial is better; 0 if the start config is the best.
    """

    start: Trial
    best: Trial
    value: float


def is_start(number: int, file: StudyFile) -> bool:
    """Return whether trial `number` has a config of `search.start`."""
    return number < len(file.settings.search.start)


def is_spared(number: int, file: StudyFile) -> bool:
    """Return whether no pruner may end trial `number`."""
    return is_start(number, file) and not file.settings.search.prune_start


def gain(history: History) -> Gain | None:
    """Return the gain over the best start config; None without one that was trained fully."""
    complete = history.complete
    start = next((trial for trial in complete if is_start(trial.number, history.file)), None)
    if start is None:
        return None
    best = complete[0]
    return Gain(start, best, Objective.of(history.file).sign * ((best.value or 0.0) - (start.value or 0.0)))
