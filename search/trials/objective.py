"""The objective of a study: its metric, whether higher or lower is better, and how values compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.spec.study import StudyFile
from search.trials.trial import Trial


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
