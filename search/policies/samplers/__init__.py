"""Name -> sampler: draws configs for a study from what has become of its trials. Nothing here touches a database.

What a sampler draws depends on what the study holds and not on what this process did before, which is what lets a study
go on after a crash as if nothing had happened (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from search.errors import OptionError
from search.policies.samplers import grid
from search.registry import SAMPLERS
from search.spec.vocabulary import closest
from search.trials.objective import Objective
from search.trials.trial import Trials
from spaces import Space


@dataclass(frozen=True, slots=True)
class Searched:
    """What a sampler is made for.

    Attributes:
        epochs: the most that a trial may have.
        study_attrs: what another sampler has kept with the study: this one goes on from it.
    """

    space: Space
    objective: Objective
    seed: int
    epochs: int
    study_attrs: Mapping[str, Any] = field(default_factory=dict)


class Sampler(Protocol):
    """Draws the config of the next trial from what has become of all before it.

    It is made by `kind(searched, **options)`. A kind may have OPTIONS, a `Rule` for each option by its name, and a class
    method `check(options, space)`, which raises OptionError for what can't be searched. One that has a method
    `spares(trials, number, epoch)` is asked before halving ends a trial whether that is to go on.
    """

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the params of the next trial, and what the storage keeps with it: plain JSON.

        `given` are parameters that a person, or the study, has decided. A higher `attempt` draws another config for the same
        trial. What it remembers of trials can be thrown away: one that is made anew draws the same.
        """

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        """What is to be kept with the study, plain JSON: it is given to the sampler that goes on with it."""


def make(name: str, options: Mapping[str, Any], searched: Searched) -> Sampler:
    """Make the sampler `name`, whose options `check` has seen."""
    made: Sampler = SAMPLERS.get(name)(searched, **options)
    return made


def check(name: str, options: Mapping[str, Any], space: Space) -> None:
    """Raise OptionError for an unknown sampler or option, one whose package is missing, or one that can't search `space`."""
    if name not in SAMPLERS:
        raise OptionError(f"no such sampler: {name!r}{closest(name, SAMPLERS)}; there are {', '.join(SAMPLERS)}")
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
    """Return how many different configs there are to draw, `start` among them; None if there is no end of them."""
    if name == "grid" and start:
        return len(grid.points(options, space, [space.check(values) for values in start], seed=0))
    if name == "grid":
        return grid.size(options, space)
    return grid.count(space)
