"""A sampler that draws as if the trials of an earlier study had been the first ones of this study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search.policies.samplers import Sampler
from search.trials.trial import Trial, Trials


class InformedSampler:
    """Any sampler, which sees `known` as trials 0, 1 ... and this study's trials after them.

    So a sampler needs no code for trials of an earlier study, and its random streams go on where they would have.
    """

    def __init__(self, sampler: Sampler, known: Sequence[Trial]) -> None:
        self._sampler, self._count = sampler, len(known)
        self._all, self._log_position = Trials(known), 0

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._sampler.draw(self.after_known(trials), attempt, given)

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        return self._sampler.study_attrs

    def after_known(self, trials: Trials) -> Trials:
        """Return the known trials and after them `trials`, as they are now."""
        changed, self._log_position = trials.since(self._log_position)
        for trial in changed:
            # The copy shares the trial's curve and attributes. What else changes is copied again when it does.
            self._all.append(replace(trial, number=trial.number + self._count))
        return self._all

    def vetoes_pruning(self, trials: Trials, number: int, epoch: int) -> bool:
        """Return whether the sampler vetoes that a trial is pruned; for samplers that have that method."""
        vetoes = self._sampler.vetoes_pruning  # type: ignore[attr-defined]
        return bool(vetoes(self.after_known(trials), number + self._count, epoch))
