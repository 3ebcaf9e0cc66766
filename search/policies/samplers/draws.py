"""The configs of a study, as its sampler draws them: each once, unless the study allows duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.policies.samplers import Sampler, grid, limit
from search.spec.settings import SearchSection
from search.trials.streams import stream
from search.trials.trial import Trials
from spaces import Float, Space

# How many times a sampler that repeats a config is called again for another one.
ATTEMPTS = 10
# The random stream that picks among undrawn configs. Stream 0 is the sampler's, 1 the training's, 3 that of bayes's vetoes.
_UNDRAWN_STREAM = 2


class Draws:
    """Draws configs by a sampler.

    Attributes:
        configs: how many different ones there are to draw; None if they can't be counted, or duplicates are allowed.
    """

    def __init__(self, sampler: Sampler, search: SearchSection, space: Space, seed: int) -> None:
        self._sampler, self._space, self._seed = sampler, space, seed
        self._stepped = {key: p for key, p in space.items() if isinstance(p, Float) and p.step is not None}
        self._start = [space.check(values) for values in search.start]
        # A grid may repeat: it draws each config once, but a config that `start` lists twice is drawn twice.
        self._is_grid = search.sampler.name == "grid"
        self._may_repeat = self._is_grid or search.duplicates
        # The number of trials read so far, and their configs.
        self._read = 0
        self._drawn: set[tuple[tuple[str, Any], ...]] = set()
        self.configs: int | None = None
        if self._is_grid or not self._may_repeat:
            self.configs = limit(search.sampler.name, search.sampler.options, space, search.start)
        if self._is_grid:
            self._start = grid.configs(search.sampler.options, space, self._start, seed=seed)

    def used_up(self, trials: Trials) -> str:
        """Return why no config is left to draw; "" if one is."""
        self._update(trials)
        drawn = len(trials) if self._may_repeat else len(self._drawn)
        if self.configs is None or drawn < self.configs:
            return ""
        return f"all {self.configs} configs of the {'grid' if self._is_grid else 'space'} have been tried"

    def draw(self, trials: Trials) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the params of the next trial; return them with the attributes that the sampler stores with them.

        If the sampler repeats a config, it is called up to ATTEMPTS more times. Then an undrawn config is picked instead; in
        a space too large to list, the repeated config is used.
        """
        self._update(trials)
        number = len(trials)
        given = self._start[number] if number < len(self._start) else {}
        attempt = 0
        params, attrs = self._draw(trials, attempt, given)
        while self._is_repeated(params) and attempt < ATTEMPTS:
            attempt += 1
            params, attrs = self._draw(trials, attempt, given)
        if self._is_repeated(params) and self.configs is not None:
            params = self._undrawn(number, given)
            _, attrs = self._sampler.draw(trials, attempt + 1, params)
        return params, attrs

    def _draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        params, attrs = self._sampler.draw(trials, attempt, given)
        return self._snapped(params), attrs

    def _snapped(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return params with the listed values of their steps: a sampler may compute the last digit differently."""
        return {
            key: self._stepped[key].nearest(value) if key in self._stepped else value for key, value in params.items()
        }

    def _update(self, trials: Trials) -> None:
        for number in range(self._read, len(trials)):
            self._drawn.add(_key(self._snapped(trials[number].params)))
        self._read = len(trials)

    def _is_repeated(self, params: Mapping[str, Any]) -> bool:
        return not self._may_repeat and _key(params) in self._drawn

    def _undrawn(self, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return one of the configs that have not been drawn, if possible one that contains `given`."""
        undrawn = [config for config in grid.all_configs(self._space) if _key(config) not in self._drawn]
        candidates = [config for config in undrawn if given.items() <= config.items()] or undrawn
        return candidates[stream(self._seed, _UNDRAWN_STREAM, number) % len(candidates)]


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(params.items())
