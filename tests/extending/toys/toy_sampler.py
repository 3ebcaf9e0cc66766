"""A sampler: the middle of every range, and from there on a little higher with each trial."""

from __future__ import annotations

from typing import ClassVar

from search.spec.vocabulary import Rule


class Climbing:
    OPTIONS: ClassVar = {"by": Rule(float, 0)}

    def __init__(self, problem, by=0.01):
        self._space, self._by = problem.space, by

    def draw(self, trials, attempt, given):
        share = min(1.0, 0.5 + self._by * (len(trials) + attempt))
        params = {
            name: given.get(name, parameter.low + share * (parameter.high - parameter.low))
            for name, parameter in self._space.items()
        }
        return params, {"toy": {"share": share}}

    @property
    def study_attrs(self):
        return {}
