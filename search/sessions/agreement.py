"""Whether a model that was evaluated again gives its trial's values, as far as rounding allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search.trials.trial import Metrics, Training
from search.views.text import number

# Shares of a value by which another device or engine may change it by rounding. Lanes and fit differ by 1e-5 in float32, but
# a GPU may multiply with the 10 bits of TF32 (1e-3); bfloat16 has 8 bits (4e-3), which several layers round in a row.
_ROUNDING, _ROUNDING_OF_HALF = 2e-3, 2e-2
# Share of a loss's largest value: a loss near 0 is a difference of large numbers.
_NEAR_ZERO = 1e-5
# Rows that rounding may move over a threshold. Precision and recall divide by the rows of one class.
_FEW_ROWS = 3


@dataclass(frozen=True)
class Evaluation:
    """A training's model, evaluated again on the study's rows.

    Attributes:
        values: metrics by name, those of the validation rows with the prefix `val_`.
        rows: how many validation rows there are.
        classes: how many classes there are; 0 for a regression.
        is_half: whether the model computes in 16 bits.
    """

    values: Mapping[str, float]
    rows: int
    classes: int
    is_half: bool

    def warning(self, training: Training, stored: Metrics, objective: str, path: Path) -> str:
        """Return a warning for the user of the model in `path` if it is not its training's; "" if it is.

        `stored` are the metrics of the epoch that its weights are of.
        """
        difference = self.difference(training, stored, objective)
        if difference is None:
            return ""
        name, was, now = difference
        return (
            f"{name} of trial {training.member.trial}'s model is {number(now)} now and was {number(was)} in the study, "
            f"a difference that rounding does not explain: the model in {path} is not the trial's any more. "
            "What its code reads (a data file, an environment variable) may have changed: change it back and export again. "
            "Or the model draws random numbers when it is evaluated, as a VAE does: then all is well"
        )

    def difference(self, training: Training, stored: Metrics, objective: str) -> tuple[str, float, float] | None:
        """Return the first metric that is not its training's, with its values in the study and now; None if all agree.

        The loss is compared beside the objective: it changes with every output, whereas an accuracy may stay by chance.
        """
        for name in dict.fromkeys((objective, "val_loss")):
            was, now = stored.get(name), self.values.get(name)
            if was is not None and now is not None and not abs(now - was) <= self._tolerance(name, was, training):
                return name, was, now
        return None

    def _tolerance(self, name: str, was: float, training: Training) -> float:
        largest = max(abs(metrics.get(name) or 0.0) for metrics in training.curve)
        tolerance = (_ROUNDING_OF_HALF if self.is_half else _ROUNDING) * abs(was) + _NEAR_ZERO * largest
        if name == "val_loss" or not self.classes:
            return tolerance
        is_count = was > 1 and was == int(was)
        return tolerance + (_FEW_ROWS if is_count else _FEW_ROWS * self.classes / self.rows)
