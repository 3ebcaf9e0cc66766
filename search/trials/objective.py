"""What a study searches for: which metric, whether more of it is better, and what that makes the best."""

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
        """Return that of a study."""
        return cls(file.settings.study.objective, file.direction)

    @property
    def sign(self) -> float:
        """1.0 where more of it is better, else -1.0: a value times this is a score, the higher the better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def is_better(self, value: float, than: float | None) -> bool:
        """Tell whether a value beats another, or there is no other."""
        return than is None or self.sign * value > self.sign * than

    def best_of(self, curve: Sequence[Mapping[str, float | None]]) -> tuple[float | None, int | None]:
        """Return the best value in a curve and its epoch, counted from 1; of equals the first. None if there is none."""
        best, at = None, None
        for epoch, metrics in enumerate(curve, 1):
            value = metrics.get(self.name)
            if value is not None and self.is_better(value, best):
                best, at = value, epoch
        return best, at

    def by_epoch(self, trial: Trial, after: int = 0) -> dict[int, float]:
        """Return the value of every epoch of a trial after so many, counted from 1."""
        later = enumerate(trial.curve[after:], after + 1)
        return {epoch: value for epoch, metrics in later if (value := metrics.get(self.name)) is not None}

    def scores(self, trial: Trial) -> list[float]:
        """Return the score of every epoch of a trial."""
        return [self.sign * value for value in self.by_epoch(trial).values()]

    def rank(self, trial: Trial) -> tuple[float, int]:
        """Return what sorts trials that have a value: the best first, and of equals the lower number."""
        return (-self.sign * (trial.value or 0.0), trial.number)
