"""The sampler and the pruner that a study asks for, made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.policies import pruners, samplers
from search.policies.pruners import Pruner
from search.policies.samplers import Sampler, Searched
from search.policies.samplers.draws import Draws
from search.spec.study import StudyFile
from search.trials.objective import Objective
from search.trials.trial import Trials


@dataclass(frozen=True, slots=True)
class Policies:
    """What a study's search is decided by."""

    sampler: Sampler
    draws: Draws
    pruner: Pruner

    @classmethod
    def of(cls, file: StudyFile, trials: Trials, study_attrs: Mapping[str, Any]) -> Policies:
        """Make those of a study, for `trials`."""
        search, seed = file.settings.search, file.settings.study.seed
        searched = Searched(file.space, Objective.of(file), seed, file.epochs, study_attrs)
        sampler = samplers.make(search.sampler.name, search.sampler.options, searched)
        pruner = pruners.make(search.pruner.name, search.pruner.options, epochs=file.epochs)
        spares = getattr(sampler, "spares", None)
        # Other pruners are taken at their word; this one comes with such a sampler, and is asked a few times a trial.
        if spares is not None and search.pruner.name == "halving":
            pruner = pruners.Sparing(pruner, lambda number, epoch: spares(trials, number, epoch))
        return cls(sampler, Draws(sampler, search, file.space, seed), pruner)
