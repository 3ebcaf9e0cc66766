"""The configs that a study lists itself, each drawn once, in an order that its sampler chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.policies.samplers import Sampler
from search.policies.samplers.encoding import Array, Encoding
from search.spec.settings import SearchSection
from search.trials.streams import stream
from search.trials.trial import Trials
from spaces import Space

# The random stream that picks among candidates, as it does among undrawn configs of a space.
_STREAM = 2


class CandidateDraws:
    """Draws candidates; of the same interface as `Draws`.

    A sampler that chooses scores the undrawn ones itself. For another that learns, the one nearest to its proposal is taken.
    The grid takes them in order, random and qmc by chance.

    Attributes:
        configs: how many candidates there are.
    """

    def __init__(
        self, sampler: Sampler, search: SearchSection, space: Space, seed: int, candidates: Sequence[Mapping[str, Any]]
    ) -> None:
        self._sampler, self._seed = sampler, seed
        self._name, self._learns = search.sampler.name, search.learns
        self._start = [space.check(values) for values in search.start]
        self._candidates = [dict(candidate) for candidate in candidates]
        self._encoding = Encoding(space)
        self._points = np.array([self._encoding.point(candidate) for candidate in candidates])
        self._places = {_key(candidate): place for place, candidate in enumerate(candidates)}
        self._read = 0
        self._left = np.ones(len(candidates), bool)
        self.configs: int | None = len(candidates)

    def used_up(self, trials: Trials) -> str:
        """Return why no candidate is left to draw; "" if one is."""
        self._update(trials)
        return "" if self._left.any() else f"all {self.configs} candidates have been tried"

    def draw(self, trials: Trials) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the params of the next trial; return them with the attributes that the sampler stores with them."""
        self._update(trials)
        number = len(trials)
        given = self._start[number] if number < len(self._start) else {}
        left = [int(place) for place in np.flatnonzero(self._left)]
        fitting = [place for place in left if given.items() <= self._candidates[place].items()] or left
        if not self._learns:
            by_chance = 0 if self._name == "grid" else stream(self._seed, _STREAM, number) % len(fitting)
            return dict(self._candidates[fitting[by_chance]]), {}
        params, attrs = self._sampler.draw(trials, 0, given)
        place = self._places.get(_key(params))
        if place is not None and self._left[place]:
            return params, attrs
        nearest = self._nearest(params, fitting)
        return dict(self._candidates[nearest]), self._sampler.draw(trials, 1, self._candidates[nearest])[1]

    def _nearest(self, params: Mapping[str, Any], places: Sequence[int]) -> int:
        distances = squared_distances(self._encoding, self._points[places], self._encoding.point(params))
        return places[int(distances.argmin())]

    def _update(self, trials: Trials) -> None:
        for number in range(self._read, len(trials)):
            if (place := self._places.get(_key(trials[number].params))) is not None:
                self._left[place] = False
        self._read = len(trials)


def squared_distances(encoding: Encoding, points: Array, point: Array) -> Array:
    """Return the squared distances of points of shape (n, d) from one of shape (d,), as features measure them."""
    features = encoding.features(np.vstack([points, point]))
    differences = features[:-1] - features[-1]
    unordered = encoding.layout.unordered_columns
    differences[:, unordered] = differences[:, unordered] != 0
    return np.asarray((differences**2).sum(axis=1))


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(params.items())
