"""Which parameters have their best values at an end of their range, so that better ones may lie beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from search.trials.history import History
from search.views.text import short
from spaces import Choice, Float, Int

# The best tenth of the complete trials is looked at, but at least MIN and at most MAX of them.
_TENTH, _MIN, _MAX = 0.1, 4, 20
# A value is near an end in the outer tenth of a range. So many of the best trials lie there by chance in one of 100 studies.
_NEAR, _CHANCE = 0.1, 0.01
# How much wider a range is to be, as a share of it.
_WIDER = 0.2


@dataclass(frozen=True, slots=True)
class Edge:
    """A parameter whose best values lie at an end of its range.

    Attributes:
        side: "low" or "high", as the key of the bound.
        near: how many of the best `among` trials lie at that end.
        further: a bound to try; None if the range can't be wider on this side.
    """

    name: str
    side: str
    bound: float
    near: int
    among: int
    further: float | None

    @property
    def text(self) -> str:
        end = "lower" if self.side == "low" else "upper"
        return (
            f"the best values of {self.name} sit at its {end} bound, {short(self.bound)}: {self.near} of the best "
            f"{self.among} trials"
        )

    @property
    def advice(self) -> str:
        if self.further is None:
            return f"fix it at {short(self.bound)}, or leave it out"
        return f"go on with a wider one: --widen space.{self.name}.{self.side}={short(self.further)}"


def edges(history: History) -> list[Edge]:
    """Return the parameters whose best values lie at an end of their range more often than chance puts them there."""
    best = history.complete
    best = best[: min(max(math.ceil(_TENTH * len(best)), _MIN), _MAX)]
    return [
        edge
        for name, parameter in history.file.space.items()
        if not isinstance(parameter, Choice)
        and (edge := _edge(name, parameter, [trial.params for trial in best if name in trial.params])) is not None
    ]


def position(parameter: Float | Int, value: float) -> float:
    """Return where a value lies in its range, from 0 to 1, on the parameter's own scale."""
    if parameter.log:
        return math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
    return (value - parameter.low) / (parameter.high - parameter.low)


def _edge(name: str, parameter: Float | Int, params: list[Mapping[str, Any]]) -> Edge | None:
    if len(params) < _MIN:
        return None
    positions = [position(parameter, one[name]) for one in params]
    count = None if parameter.log else parameter.count
    # Of few values, only the outermost is near an end.
    chance = max(_NEAR, 1 / count) if count else _NEAR
    for side, near in (
        ("low", sum(u < _NEAR for u in positions)),
        ("high", sum(u > 1 - _NEAR for u in positions)),
    ):
        if near > len(params) / 2 and binom.sf(near - 1, len(params), chance) < _CHANCE:
            bound = parameter.low if side == "low" else parameter.high
            return Edge(name, side, bound, near, len(params), _further(parameter, side))
    return None


def _further(parameter: Float | Int, side: str) -> float | None:
    """Return a bound that makes the range wider; None below 0, and for steps, whose grid would move."""
    low, high = parameter.low, parameter.high
    if parameter.log:
        factor: float = (high / low) ** _WIDER
        moved = low / factor if side == "low" else high * factor
    elif isinstance(parameter, Float) and parameter.step is None:
        moved = low - (high - low) * _WIDER if side == "low" else high + (high - low) * _WIDER
    else:
        return None
    if side == "low" and low >= 0 and moved <= 0:
        # Rates and counts are not negative.
        return low / 10 if low > 0 else None
    if side == "high" and high < 1 <= moved:
        # A share of 1 or more may be invalid.
        moved = (1 + high) / 2
    if isinstance(parameter, Int):
        return max(1, math.floor(moved)) if side == "low" else math.ceil(moved)
    return float(f"{moved:.1e}")
