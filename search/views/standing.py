"""Only trials that were trained fully are ranked. Other trials that did better so far are named beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from search.storage.records import Brief
from search.storage.studies import Stored
from search.trials.trial import Trial
from search.views.text import number

# A line names at most this many trials.
_MAX_NAMED = 3
_STATES = {"RUNNING": "running", "WAITING": "interrupted", "PRUNED": "pruned"}


def ahead(trials: Iterable[Trial], direction: str, listed: Sequence[Trial]) -> list[Trial]:
    """Return the trials not trained fully whose best epoch beats one of `listed` (all if that is empty), the best first."""
    sign = 1.0 if direction == "maximize" else -1.0
    worst = min((sign * (trial.value or 0.0) for trial in listed), default=None)
    better = [
        trial
        for trial in trials
        if trial.state in _STATES and trial.value is not None and (worst is None or sign * trial.value > worst)
    ]
    return sorted(better, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))


def so_far(trial: Trial) -> str:
    """Describe a trial that was not trained fully: its value, number and state."""
    return _so_far(trial.value, trial.number, trial.state)


def best_of(brief: Brief) -> str:
    """Return the text of a study's best value, and of a better value of a trial that was not trained fully."""
    if brief.ahead is None:
        return number(brief.best)
    better = _so_far(*brief.ahead)
    return better if brief.best is None else f"{number(brief.best)}; {better}"


def line(stored: Stored, top: int) -> str:
    """Return how many trials were trained fully, and which others were better than one of the `top` that are listed."""
    listed = stored.complete[:top]
    count = f"trained fully: {len(stored.complete)} of {len(stored.trials)} trials"
    better = ahead(stored.trials, stored.file.direction, listed)
    if not better:
        return count
    named = ", ".join(f"trial {one.number} {number(one.value)} ({progress(one)})" for one in better[:_MAX_NAMED])
    more = f" and {len(better) - _MAX_NAMED} more" if len(better) > _MAX_NAMED else ""
    what = "the one listed" if len(listed) == 1 else f"rank {len(listed)}"
    return f"{count}; {f'better than {what}, but' if listed else 'only'} not trained fully: {named}{more}"


def progress(trial: Trial) -> str:
    """Return the state of a trial that was not trained fully, and after how many of its epochs."""
    return f"{_STATES[trial.state]} at epoch {len(trial.curve)} of {trial.epochs}"


def _so_far(value: float | None, trial: int, state: str) -> str:
    return f"{number(value)} (trial {trial}, {_STATES[state]})"
