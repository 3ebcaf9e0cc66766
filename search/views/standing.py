"""Which trials rank: those that were trained fully. Others that were better on the way are named beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from search.storage.records import Brief, Stored
from search.trials.trial import Trial
from search.views.text import number

# Trials that one line names.
_NAMED = 3
_STATES = {"RUNNING": "running", "WAITING": "interrupted", "PRUNED": "pruned"}


def ahead(trials: Iterable[Trial], direction: str, listed: Sequence[Trial]) -> list[Trial]:
    """Return the trials not trained fully whose best epoch beats one of the `listed` (all, if none is), the best first."""
    sign = 1.0 if direction == "maximize" else -1.0
    least = min((sign * (trial.value or 0.0) for trial in listed), default=None)
    better = [
        trial
        for trial in trials
        if trial.state in _STATES and trial.value is not None and (least is None or sign * trial.value > least)
    ]
    return sorted(better, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))


def so_far(trial: Trial) -> str:
    """Describe a trial that was not trained fully: its value, number and state."""
    return _so_far(trial.value, trial.number, trial.state)


def best_of(brief: Brief) -> str:
    """Write the best value of a study's line, and a better one of a trial that was not trained fully."""
    if brief.ahead is None:
        return number(brief.best)
    better = _so_far(*brief.ahead)
    return better if brief.best is None else f"{number(brief.best)}; {better}"


def line(stored: Stored, top: int) -> str:
    """Say how many trials were trained fully, and which others were better than one of the `top` that are listed."""
    listed = stored.complete[:top]
    count = f"trained fully: {len(stored.complete)} of {len(stored.trials)} trials"
    better = ahead(stored.trials, stored.file.direction, listed)
    if not better:
        return count
    named = ", ".join(f"trial {trial.number} {number(trial.value)} ({how(trial)})" for trial in better[:_NAMED])
    more = f" and {len(better) - _NAMED} more" if len(better) > _NAMED else ""
    what = "the one listed" if len(listed) == 1 else f"rank {len(listed)}"
    return f"{count}; {f'better than {what}, but' if listed else 'only'} not trained fully: {named}{more}"


def how(trial: Trial) -> str:
    """Say what keeps a trial from being trained fully, and after how many epochs."""
    return f"{_STATES[trial.state]} at epoch {len(trial.curve)} of {trial.epochs}"


def _so_far(value: float | None, trial: int, state: str) -> str:
    return f"{number(value)} (trial {trial}, {_STATES[state]})"
