"""Name -> sampler: draws configs for a study from its trials so far. Nothing here touches a database.

A sampler's draw depends only on the study, not on what this process did before. So a study that is resumed after a crash
draws the same configs as one that was never interrupted (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from search.errors import OptionError
from search.policies.samplers import grid
from search.registry import PRUNERS, SAMPLERS
from search.spec.vocabulary import closest, closest_of_kinds
from search.trials.objective import Objective
from search.trials.trial import Trials
from spaces import Space


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """What a sampler searches.

    Attributes:
        epochs: the most that a trial may have.
        study_attrs: what an earlier sampler stored with the study; the new one continues from it.
        candidates: the params of the configs to choose among; empty for all of the space.
    """

    space: Space
    objective: Objective
    seed: int
    epochs: int
    study_attrs: Mapping[str, Any] = field(default_factory=dict)
    candidates: Sequence[Mapping[str, Any]] = ()


class Sampler(Protocol):
    """Draws the config of the next trial from the trials before it.

    A sampler is made by `kind(problem, **options)`. Its class may have OPTIONS, name -> `Rule`, a class method
    `check(options, space)`, which raises OptionError for a space that it can't search, and a static method `prepare()`,
    which imports what the first draws need while workers start. If it has a method
    `vetoes_pruning(trials, number, epoch)`, halving calls that before it prunes a trial; True lets the trial go on. If it
    draws none of the problem's candidates, the nearest of them is taken.
    """

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the params of the next trial, and what the storage keeps with it: plain JSON.

        `given` are params that the user, or the study, has fixed. A higher `attempt` draws another config for the same trial.
        A sampler may cache what it read of `trials`: a new one must draw the same.
        """

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        """Plain JSON to store with the study; the sampler of the next command receives it."""


def make(name: str, options: Mapping[str, Any], problem: SearchProblem) -> Sampler:
    """Make the sampler `name`, with options that `check` has accepted."""
    made: Sampler = SAMPLERS.get(name)(problem, **options)
    return made


def prepare(name: str) -> None:
    """Import what the first draws of a sampler need, if it says how: that may take a second."""
    getattr(SAMPLERS.get(name), "prepare", lambda: None)()


def check(name: str, options: Mapping[str, Any], space: Space) -> None:
    """Raise OptionError for an unknown sampler or option, a missing package, or a space that the sampler can't search."""
    if name not in SAMPLERS:
        hint = closest_of_kinds(name, SAMPLERS, "pruner", PRUNERS)
        raise OptionError(f"no such sampler: {name!r}{hint}; there are {', '.join(SAMPLERS)}")
    kind = SAMPLERS.get(name)
    known = getattr(kind, "OPTIONS", {})
    for key, value in options.items():
        if key not in known:
            has = f"it has {', '.join(known) or 'none'}"
            raise OptionError(f"the sampler {name} has no option {key!r}{closest(key, known)}; {has}", key)
        try:
            known[key].check(key, value)
        except ValueError as error:
            raise OptionError(str(error), key) from None
    if hasattr(kind, "check"):
        kind.check(options, space)


def limit(name: str, options: Mapping[str, Any], space: Space, start: Sequence[Mapping[str, Any]] = ()) -> int | None:
    """Return how many different configs there are to draw, `start` among them; None if they can't be counted."""
    if name == "grid" and start:
        return len(grid.configs(options, space, [space.check(values) for values in start], seed=0))
    if name == "grid":
        return grid.size(options, space)
    return grid.count(space)
