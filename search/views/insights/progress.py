"""How the best value of a study has risen or fallen over its trials, epochs and seconds of training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from search.trials import baseline
from search.trials.history import History
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views.text import number

# Fewer ended trials than this say nothing about whether a search still improves.
_FEW = 8
# A search still improves if its best value did within this last share of the epochs.
_LATE = 1 / 3
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """A trial that became the best of those trained fully.

    Attributes:
        ended: how many trials had ended with it; `epochs` and `seconds` of training are those of all of them.
    """

    trial: int
    value: float
    ended: int
    epochs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """The steps of a study's best value, and what it has spent on trials that have ended."""

    steps: tuple[Step, ...]
    ended: int
    epochs: int
    seconds: float

    @property
    def since(self) -> int:
        """How many epochs were trained since the best value last changed."""
        return self.epochs - self.steps[-1].epochs if self.steps else self.epochs

    @property
    def is_improving(self) -> bool | None:
        """Whether the best value changed in the last third of the epochs; None if it is too early to say."""
        if self.ended < _FEW or not self.steps:
            return None
        return len(self.steps) > 1 and self.since <= _LATE * self.epochs


def progress(history: History) -> Progress:
    """Return the progress of a study, in the order in which its trials ended."""
    objective = Objective.of(history.file)
    steps: list[Step] = []
    ended, epochs, seconds = 0, 0, 0.0
    for trial in _in_order(history.trials):
        ended, epochs, seconds = ended + 1, epochs + len(trial.curve), seconds + sum(trial.seconds)
        if trial.state != "COMPLETE" or trial.value is None:
            continue
        if objective.is_better(trial.value, steps[-1].value if steps else None):
            steps.append(Step(trial.number, trial.value, ended, epochs, seconds))
    return Progress(tuple(steps), ended, epochs, seconds)


def line(history: History) -> str:
    """Return in a sentence whether a search still improves."""
    done, objective = progress(history), history.file.settings.study.objective
    if not done.steps:
        return "no trial was trained fully yet, so there is no best value"
    last = done.steps[-1]
    if done.is_improving is None:
        return f"too early to say whether it still improves: {done.ended} {_trials(done.ended)} ended"
    if done.is_improving:
        was = number(done.steps[-2].value)
        return (
            f"still improving: trial {last.trial} took {objective} from {was} to {number(last.value)} at epoch "
            f"{last.epochs:,} of the {done.epochs:,} trained"
        )
    after = done.ended - last.ended
    return (
        f"not improving any more: {objective} {number(last.value)} stands since trial {last.trial}; "
        f"{after:,} {_trials(after)} and {done.since:,} of {done.epochs:,} epochs since then brought no better one"
    )


def gain_line(history: History) -> str:
    """Return in a sentence by how much the best trial is better than the start config."""
    objective, start = history.file.settings.study.objective, history.file.settings.search.start
    gain = baseline.gain(history)
    if gain is None:
        if not start:
            return "no start config (search.start), so the gain over one is not known"
        return "the gain over the start config is not known: no trial of it was trained fully"
    if gain.value == 0:
        best = f"(trial {gain.start.number}) is still the best, {objective} {number(gain.start.value)}"
        return f"no gain: the start config {best}"
    return (
        f"{objective} {number(gain.best.value)}, better by {number(gain.value)} than the start config's "
        f"{number(gain.start.value)} (trial {gain.start.number})"
    )


def _in_order(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that have ended, in the order of their ends; by number where a database doesn't have these."""
    ended = [trial for trial in trials if trial.is_ended]
    if any(trial.ended_at is None for trial in ended):
        return ended
    return sorted(ended, key=lambda trial: (trial.ended_at or _EARLIEST, trial.number))


def _trials(count: int) -> str:
    return "trial" if count == 1 else "trials"
