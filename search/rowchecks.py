"""Whether what a database says of a study is of the kinds that it must be of: JSON that is valid can still be damaged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.records import Stored
    from search.study import Trial

_RESOLVED = {"engine": str, "backend": str, "devices": list, "versions": dict}


def check(stored: Stored) -> None:
    """Raise ValueError or TypeError for the first value of a study that is not of its kind."""
    if not isinstance(stored.resolved, dict):
        raise TypeError("resolved is no table")
    for key, kind in _RESOLVED.items():
        if not isinstance(stored.resolved.get(key, kind()), kind):
            raise TypeError(f"resolved.{key} is no {kind.__name__}")
    if not isinstance(stored.identity, dict) or not isinstance(stored.spent, dict):
        raise TypeError("identity or spent is no table")
    if not _is_number(stored.seconds) or not all(map(_is_number, stored.spent.values())):
        raise ValueError("its seconds are no numbers")
    if not isinstance(stored.ended, str) or not all(isinstance(detail, dict) for _, _, detail in stored.events):
        raise ValueError("its ending or an event is of another kind")
    for trial in stored.trials:
        _check_trial(trial)


def _check_trial(trial: Trial) -> None:
    def refuse(what: str) -> None:
        raise ValueError(f"trial {trial.number}: {what}")

    if any(label is None or (isinstance(label, float) and not math.isfinite(label)) for label in trial.labels.values()):
        refuse("a parameter has no value")
    if not all(isinstance(text, str) for text in (trial.ended, trial.why, trial.detail)):
        refuse("its ending is no text")
    if not (trial.value is None or _is_number(trial.value)) or not (
        trial.best_epoch is None or _is_number(trial.best_epoch)
    ):
        refuse("its value or best epoch is no number")
    for metrics in trial.curve:
        if not isinstance(metrics, dict) or not all(value is None or _is_number(value) for value in metrics.values()):
            refuse("an epoch's metrics are no numbers")
    if not all(map(_is_number, trial.seconds)):
        refuse("the seconds of an epoch are no number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
