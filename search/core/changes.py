"""What has changed in a study since its last commit."""

from __future__ import annotations

from dataclasses import dataclass, field

from search.trials.history import Commit, Epoch, HistoryEvent, TrialStart, TrialState
from search.trials.trial import Trial, Trials


@dataclass(slots=True)
class Changes:
    """All changes since the last commit, each one once.

    Attributes:
        started: numbers of the trials that were drawn.
        restated: numbers of the trials whose state changed.
    """

    started: list[int] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    restated: set[int] = field(default_factory=set)
    events: list[HistoryEvent] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.epochs or self.restated or self.events)

    def commit(self, trials: Trials) -> Commit:
        """Return the changes of trials and events as a commit."""
        return Commit(
            started=tuple(_start(trials[number]) for number in self.started),
            epochs=tuple(self.epochs),
            states=tuple(_state(trials[number]) for number in sorted(self.restated)),
            events=tuple(self.events),
        )


def _start(trial: Trial) -> TrialStart:
    return TrialStart(trial.number, trial.params, trial.started_at, trial.attrs)


def _state(trial: Trial) -> TrialState:
    return TrialState(
        number=trial.number,
        state=trial.state,
        ended=trial.ended,
        why=trial.why,
        detail=trial.detail,
        value=trial.value,
        best_epoch=trial.best_epoch,
        epochs=len(trial.curve),
        seconds=sum(trial.seconds),
        ended_at=trial.ended_at,
        attrs=trial.attrs,
    )
