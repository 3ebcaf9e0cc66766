"""Training against validation of the best trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.trials.history import History
from search.trials.trial import Metrics, Trial
from search.views.text import number

VALIDATION = "val_"
# A validation loss that rises by this share of its fall, while the training loss falls, is overfitting.
_RISE = 0.1


@dataclass(frozen=True, slots=True)
class Gap:
    """A metric on training and on validation rows, at the best epoch of a trial."""

    metric: str
    training: float
    validation: float


def gaps(trial: Trial) -> list[Gap]:
    """Return the metrics that a trial has of both training and validation, at its best epoch."""
    if not trial.best_epoch:
        return []
    metrics = trial.curve[trial.best_epoch - 1]
    pairs = []
    for name, value in metrics.items():
        validation = metrics.get(f"{VALIDATION}{name}")
        if value is not None and validation is not None:
            pairs.append(Gap(name, value, validation))
    return pairs


def counterpart(objective: str, curve: Sequence[Metrics]) -> str:
    """Return the metric of training that belongs to one of validation; "" if a curve has none."""
    name = objective.removeprefix(VALIDATION)
    return name if name != objective and any(name in metrics for metrics in curve) else ""


def line(history: History) -> str:
    """Return in a sentence whether the best trial overfits; "" if its losses don't say."""
    best = next(iter(history.complete), None)
    if best is None:
        return ""
    both = [(m.get("loss"), m.get("val_loss")) for m in best.curve]
    pairs = [(one, other) for one, other in both if one is not None and other is not None]
    if len(pairs) < len(best.curve) or len(pairs) < 2:
        return ""
    training, validation = zip(*pairs, strict=True)
    lowest = min(validation)
    at = validation.index(lowest) + 1
    rise, fall = validation[-1] - lowest, validation[0] - lowest
    if rise > _RISE * fall and at < len(pairs) and training[-1] < training[at - 1]:
        return (
            f"it overfits after epoch {at}: until epoch {len(pairs)} val_loss rose from {number(lowest)} to "
            f"{number(validation[-1])}, and loss fell from {number(training[at - 1])} to {number(training[-1])}"
        )
    if at == len(pairs) and best.ended == "finished":
        return f"val_loss was still falling at its last epoch, {len(pairs)}: more epochs may help"
    return "no sign of overfitting: val_loss does not rise while loss falls"
