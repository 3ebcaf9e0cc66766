"""Name -> sampler: draws configs for a study from the trials that it is told of. Nothing here touches a database.

What a sampler draws depends on what the study holds and not on what this process did before, which is what lets a study
go on after a crash as if nothing had happened (docs/decisions/0002).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from search.errors import OptionError
from search.policies.samplers import grid
from search.policies.samplers.plain import OptunaSampler, distribution
from search.policies.samplers.plain import make as make_optunas
from search.policies.samplers.streams import stream
from search.spec.vocabulary import Rule, closest
from spaces import MAX_GRID_POINTS, Space

__all__ = ["NAMES", "Sampler", "check", "distribution", "limit", "make", "stream"]

_NEEDS = {"cmaes": "cmaes", "gp": "torch"}

_FLAG = Rule(bool)
_OPTIONS: dict[str, dict[str, Rule]] = {
    "bayes": {},
    "random": {},
    "tpe": {
        "n_startup_trials": Rule(int, 0),
        "n_ei_candidates": Rule(int, 1),
        "multivariate": _FLAG,
        "group": _FLAG,
        "constant_liar": _FLAG,
    },
    "gp": {"n_startup_trials": Rule(int, 1), "deterministic_objective": _FLAG},
    "cmaes": {
        "n_startup_trials": Rule(int, 1),
        "popsize": Rule(int, 4),
        "consider_pruned_trials": _FLAG,
        "use_separable_cma": _FLAG,
        "with_margin": _FLAG,
        "lr_adapt": _FLAG,
    },
    "qmc": {"qmc_type": Rule(str, choices=("sobol", "halton")), "scramble": _FLAG},
    "grid": {"points": Rule(int, 2, MAX_GRID_POINTS)},
}
NAMES = tuple(_OPTIONS)


class Sampler(Protocol):
    """What a study needs of its sampler."""

    def draw(self, number: int, attempt: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the params of trial `number`; return their labels and the attributes the sampler keeps with the trial.

        A higher `attempt` draws another config for the same trial.
        """

    def put(self, number: int, labels: Mapping[str, Any]) -> dict[str, Any]:
        """Let trial `number`, drawn already, have these params; return the attributes the sampler keeps with it."""

    def report(self, number: int, epoch: int, value: float) -> None:
        """Tell the objective of one epoch."""

    def spares(self, number: int, epoch: int) -> bool:
        """Tell whether a trial that halving would end after `epoch` is to go on, for all that the sampler knows."""

    def tell(self, number: int, state: str, value: float | None, *, diverged: bool = False) -> dict[str, Any]:
        """Tell how a trial ended; return the attributes that the sampler keeps with it now."""

    def restore(
        self,
        number: int,
        state: str,
        labels: Mapping[str, Any],
        curve: Mapping[int, float],
        value: float | None,
        attrs: Mapping[str, Any],
        *,
        diverged: bool,
    ) -> None:
        """Put a stored trial back, in order of numbers; an unfinished one is told later."""

    def study_attrs(self) -> dict[str, Any]:
        """Return the attributes that the sampler keeps with the study."""

    def restore_study_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Put back what `study_attrs` returned."""


def make(
    name: str,
    options: Mapping[str, Any],
    *,
    space: Space,
    direction: str,
    seed: int,
    epochs: int,
    start: Sequence[Mapping[str, Any]] = (),
) -> Sampler:
    """Make the sampler `name`, whose options `check` has seen; `start` are configs to draw first."""
    given: dict[str, Any] = {"space": space, "direction": direction, "seed": seed, "start": start}
    if name == "bayes":
        from search.policies.samplers.bayes import BayesSampler  # scipy takes a third of a second to come

        return BayesSampler(epochs=epochs, **given)
    return OptunaSampler(name, options, **given)


def check(name: str, options: Mapping[str, Any], space: Space) -> None:
    """Raise OptionError for an unknown sampler or option, one whose package is missing, or one that can't search `space`."""
    if name not in _OPTIONS:
        raise OptionError(f"no such sampler: {name!r}{closest(name, _OPTIONS)}; there are {', '.join(_OPTIONS)}")
    known = _OPTIONS[name]
    for key, value in options.items():
        if key not in known:
            has = f"it has {', '.join(known) or 'none'}"
            raise OptionError(f"the sampler {name} has no option {key!r}{closest(key, known)}; {has}", key)
        try:
            known[key].check(key, value)
        except ValueError as error:
            raise OptionError(str(error), key) from None
    package = _NEEDS.get(name)
    if package and importlib.util.find_spec(package) is None:
        raise OptionError(
            f"the sampler {name} needs the package {package}; run `pip install -e '.[{name}]'` in manyfit's folder"
        )
    if name == "grid":
        grid.check(options, space)
    elif name != "bayes":
        try:
            make_optunas(name, options, seed=0, path=(0,))
        except ValueError as error:
            raise OptionError(f"the sampler {name} does not take {dict(options)}: {error}") from None


def limit(name: str, options: Mapping[str, Any], space: Space, start: Sequence[Mapping[str, Any]] = ()) -> int | None:
    """Return how many different configs there are to draw, `start` among them; None if there is no end of them."""
    if name == "grid" and start:
        return len(grid.points(options, space, [space.check(values) for values in start], seed=0))
    if name == "grid":
        return grid.size(options, space)
    return grid.count(space)
