"""The objective of a study: its metric, whether higher or lower is better, and how values compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from search.spec.study import StudyFile
from search.trials.trial import Training, Trial


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric, and its direction: "minimize" or "maximize"."""

    name: str
    direction: str

    @classmethod
    def of(cls, file: StudyFile) -> Objective:
        """Return the objective of a study."""
        return cls(file.settings.study.objective, file.direction)

    @property
    def sign(self) -> float:
        """1.0 where higher values are better, else -1.0. A value times the sign is a score; higher scores are better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def is_better(self, value: float, than: float | None) -> bool:
        """Return whether `value` is better than `than`, or `than` is None."""
        return than is None or self.sign * value > self.sign * than

    def best_of(self, curve: Sequence[Mapping[str, float | None]]) -> tuple[float | None, int | None]:
        """Return the best value of a curve and its epoch, counted from 1; the first of equal ones. None without values."""
        best, at = None, None
        for epoch, metrics in enumerate(curve, 1):
            value = metrics.get(self.name)
            if value is not None and self.is_better(value, best):
                best, at = value, epoch
        return best, at

    def best_training(self, trainings: Sequence[Training]) -> Training:
        """Return the training whose own best value is the best; the first of equal ones."""
        best = trainings[0]
        for training in trainings[1:]:
            value = self.best_of(training.curve)[0]
            if value is not None and self.is_better(value, self.best_of(best.curve)[0]):
                best = training
        return best

    def repeats(self, trial: Trial) -> list[float]:
        """Return the value of each training of a trial at the trial's best epoch; [] without one."""
        if trial.best_epoch is None:
            return []
        values = [training.curve[trial.best_epoch - 1].get(self.name) for training in trial.trainings]
        return [value for value in values if value is not None]

    def standard_error(self, trial: Trial) -> float | None:
        """Return the standard error of a trial's value, the mean of its repeats; None with less than two."""
        values = self.repeats(trial)
        return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None

    def by_epoch(self, trial: Trial, after: int = 0) -> dict[int, float]:
        """Return the value of each epoch of a trial past epoch `after`, by epoch counted from 1."""
        later = enumerate(trial.curve[after:], after + 1)
        return {epoch: value for epoch, metrics in later if (value := metrics.get(self.name)) is not None}

    def scores(self, trial: Trial) -> list[float]:
        """Return the score of every epoch of a trial."""
        return [self.sign * value for value in self.by_epoch(trial).values()]

    def rank(self, trial: Trial) -> tuple[float, int]:
        """Return a sort key for trials that have a value: the best first, among equal ones the lower number."""
        return (-self.sign * (trial.value or 0.0), trial.number)
