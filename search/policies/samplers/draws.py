"""The configs of a study, as its sampler draws them: each once, unless the study allows more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.policies.samplers import Sampler, grid, limit
from search.spec.settings import SearchSection
from search.trials.streams import stream
from search.trials.trial import Trials
from spaces import Space

# A sampler that has drawn a config again is asked for another so many times.
ATTEMPTS = 10
# Beside the sampler's own stream, 0, and those that trials train by, 1.
_LEFT = 2


class Draws:
    """Draws configs by a sampler.

    Attributes:
        configs: how many different ones there are to draw; None if there is no end of them, or none is asked for.
    """

    def __init__(self, sampler: Sampler, search: SearchSection, space: Space, seed: int) -> None:
        self._sampler, self._space, self._seed = sampler, space, seed
        self._start = [space.check(values) for values in search.start]
        # A grid lists every config once, and what a person asks for twice twice.
        self._is_grid = search.sampler.name == "grid"
        self._may_repeat = self._is_grid or search.duplicates
        # What is known of the trials: how many, and their configs.
        self._known = 0
        self._drawn: set[tuple[tuple[str, Any], ...]] = set()
        self.configs: int | None = None
        if self._is_grid or not self._may_repeat:
            self.configs = limit(search.sampler.name, search.sampler.options, space, search.start)
        if self._is_grid:
            self._start = grid.points(search.sampler.options, space, self._start, seed=seed)

    def used_up(self, trials: Trials) -> str:
        """Say that there is nothing left to draw; "" if there is."""
        self._look(trials)
        drawn = len(trials) if self._may_repeat else len(self._drawn)
        if self.configs is None or drawn < self.configs:
            return ""
        return f"all {self.configs} configs of the {'grid' if self._is_grid else 'space'} have been tried"

    def draw(self, trials: Trials) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the params of the next trial; return them with what the sampler keeps beside them.

        A sampler that has drawn them before is asked again, and after that takes what is left of a space that is nearly used
        up. In one that is too large to be listed it then gets what it insists on.
        """
        self._look(trials)
        number = len(trials)
        given = self._start[number] if number < len(self._start) else {}
        attempt = 0
        params, attrs = self._sampler.draw(trials, attempt, given)
        while self._is_repeated(params) and attempt < ATTEMPTS:
            attempt += 1
            params, attrs = self._sampler.draw(trials, attempt, given)
        if self._is_repeated(params) and self.configs is not None:
            params = self._left(number, given)
            _, attrs = self._sampler.draw(trials, attempt + 1, params)
        return params, attrs

    def _look(self, trials: Trials) -> None:
        for number in range(self._known, len(trials)):
            self._drawn.add(_key(trials[number].params))
        self._known = len(trials)

    def _is_repeated(self, params: Mapping[str, Any]) -> bool:
        return not self._may_repeat and _key(params) in self._drawn

    def _left(self, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return one of the configs that have not been drawn, if possible one that agrees with what is asked for."""
        left = [config for config in grid.every(self._space) if _key(config) not in self._drawn]
        wanted = [config for config in left if given.items() <= config.items()] or left
        return wanted[stream(self._seed, _LEFT, number) % len(wanted)]


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(params.items())
