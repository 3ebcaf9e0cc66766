"""Makes the sampler and the pruner that a study names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.policies import pruners, samplers
from search.policies.pruners import Pruner
from search.policies.samplers import Sampler, SearchProblem
from search.policies.samplers.candidates import CandidateDraws
from search.policies.samplers.draws import Draws
from search.policies.samplers.informed import InformedSampler
from search.spec.study import StudyFile
from search.trials import known
from search.trials.objective import Objective
from search.trials.trial import Trials


@dataclass(frozen=True, slots=True)
class Policies:
    """The sampler, its draws and the pruner of a study."""

    sampler: Sampler
    draws: Draws | CandidateDraws
    pruner: Pruner

    @classmethod
    def of(cls, file: StudyFile, trials: Trials, study_attrs: Mapping[str, Any]) -> Policies:
        """Make the policies of a study; `trials` are its trials, now and later."""
        search, seed = file.settings.search, file.settings.study.seed
        candidates = tuple(file.space.check(config) for config in search.candidates if isinstance(config, dict))
        own_attrs = {key: value for key, value in study_attrs.items() if key != known.KEY}
        problem = SearchProblem(file.space, Objective.of(file), seed, file.epochs, own_attrs, candidates)
        plain = sampler = samplers.make(search.sampler.name, search.sampler.options, problem)
        if earlier := known.read(study_attrs, problem.objective):
            sampler = InformedSampler(plain, earlier)
        pruner = pruners.make(search.pruner.name, search.pruner.options, epochs=file.epochs)
        vetoes = getattr(sampler, "vetoes_pruning", None) if hasattr(plain, "vetoes_pruning") else None
        # Only halving can be vetoed: it is bayes's default pruner, and prunes rarely enough for the cost of a veto.
        if vetoes is not None and search.pruner.name == "halving":
            pruner = pruners.WithVeto(pruner, lambda number, epoch: vetoes(trials, number, epoch))
        draws = (
            CandidateDraws(sampler, search, file.space, seed, candidates)
            if candidates
            else Draws(sampler, search, file.space, seed)
        )
        return cls(sampler, draws, pruner)
