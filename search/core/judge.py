"""Decides after an epoch whether a trial ends: a pure function of the study so far."""

from __future__ import annotations

from dataclasses import dataclass

from search.policies import stopping
from search.policies.pruners import Pruner, Standings
from search.spec.study import StudyFile
from search.trials import baseline
from search.trials.objective import Objective
from search.trials.trial import Training, Trial


@dataclass(frozen=True, slots=True)
class Ruling:
    """How a trial ends, with attributes of `Trial`."""

    state: str
    ended: str
    why: str


def judge(trial: Trial, file: StudyFile, standings: Standings, pruner: Pruner) -> Ruling | None:
    """Return how a trial that has just finished an epoch ends, or None if it goes on.

    `standings` hold all trials as they are now.
    """
    epoch, settings = len(trial.curve), file.settings
    if epoch >= trial.epochs:
        return Ruling("COMPLETE", "finished", f"all {trial.epochs} epochs")
    rule = settings.search.early_stopping
    if rule and stopping.stops_early(rule, Objective.of(file).scores(trial)):
        return Ruling("COMPLETE", "stopped early", f"no better for {rule.patience} epochs")
    if baseline.is_spared(trial.number, file):
        return None
    if why := pruner.reason(standings, trial.number, epoch, trial.epochs / file.epochs):
        return Ruling("PRUNED", "pruned", why)
    return None


def by_clock(training: Training, file: StudyFile, *, is_out_of_time: bool) -> Ruling | None:
    """Return how a training ends because a time limit is reached, or None. `is_out_of_time`: the study's time is used up."""
    limit = file.settings.run.trial_time
    if limit and sum(training.seconds) >= limit:
        return Ruling("COMPLETE", "timeout", f"its time of {limit:g} s was used up")
    if is_out_of_time:
        return Ruling("COMPLETE", "time", "the study's time was used up")
    return None
