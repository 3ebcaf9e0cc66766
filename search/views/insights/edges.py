"""Which parameters have their best values at an end of their range, so that better ones may lie beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from search.spec.vocabulary import TRAIN_NUMBERS
from search.trials.history import History
from search.views.text import short
from spaces import Choice, Float, Int

# Use the best tenth of the complete trials, but at least MIN and at most MAX of them.
_TENTH, _MIN, _MAX = 0.1, 4, 20
# A value is near an end in the outer tenth of a range. So many of the best trials lie there by chance in one of 100 studies.
_NEAR, _CHANCE = 0.1, 0.01
# How much wider a range is to be, as a share of it; by steps, where it has steps.
_WIDER, _WIDER_BY_STEPS = 0.2, 1 / 3


@dataclass(frozen=True, slots=True)
class Edge:
    """A parameter whose best values lie at an end of its range.

    Attributes:
        side: "low" or "high", as the key of the bound.
        near: how many of the best `among` trials lie at that end.
        further: a bound to try; None if nothing valid lies beyond this one.
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
        return f"go on with a wider one: --widen space.{self.name}.{self.side}={self.further!r}"


def edges(history: History) -> list[Edge]:
    """Return the parameters whose best values lie at an end of their range more often than chance puts them there."""
    best = history.complete
    best = best[: min(max(math.ceil(_TENTH * len(best)), _MIN), _MAX)]
    points = history.file.settings.search.sampler.options.get("points")
    return [
        edge
        for name, parameter in history.file.space.items()
        if not isinstance(parameter, Choice)
        and (edge := _edge(name, parameter, [trial.params for trial in best if name in trial.params], points))
        is not None
    ]


def position(parameter: Float | Int, value: float) -> float:
    """Return where a value lies in its range, from 0 to 1, on the parameter's own scale."""
    if parameter.log:
        return math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
    return (value - parameter.low) / (parameter.high - parameter.low)


def _edge(name: str, parameter: Float | Int, params: list[Mapping[str, Any]], points: int | None) -> Edge | None:
    if len(params) < _MIN:
        return None
    positions = [position(parameter, one[name]) for one in params]
    count = None if parameter.log else parameter.count
    if count is None and isinstance(parameter, Float):
        count = points
    # Of few values, only the outermost is near an end.
    chance = max(_NEAR, 1 / count) if count else _NEAR
    for side, near in (
        ("low", sum(u < _NEAR for u in positions)),
        ("high", sum(u > 1 - _NEAR for u in positions)),
    ):
        if near > len(params) / 2 and binom.sf(near - 1, len(params), chance) < _CHANCE:
            bound = parameter.low if side == "low" else parameter.high
            return Edge(name, side, bound, near, len(params), _further(name, parameter, side))
    return None


def _further(name: str, parameter: Float | Int, side: str) -> float | None:
    """Return a bound that makes the range wider, by whole steps where it has steps; None if nothing valid lies beyond."""
    low, high, step = parameter.low, parameter.high, parameter.step
    if step is not None and not parameter.log:
        steps = max(1, round(_WIDER_BY_STEPS * (high - low) / step))
        if side == "low" and low >= 0:
            steps = min(steps, math.ceil(round(low / step, 6)) - 1)
        elif side == "high" and high < 1:
            steps = min(steps, math.ceil(round((1 - high) / step, 6)) - 1)
        moved: float = low - steps * step if side == "low" else high + steps * step
    elif parameter.log:
        factor = (high / low) ** _WIDER
        moved = low / factor if side == "low" else high * factor
    else:
        moved = low - _WIDER * (high - low) if side == "low" else high + _WIDER * (high - low)
        if side == "low" and low > 0 >= moved:
            moved = low / 10
    bound: float
    if isinstance(parameter, Int):
        bound = max(1, math.floor(moved)) if side == "low" and low > 0 else math.ceil(moved)
    else:
        bound = rounded(moved) if step is not None else _brief(moved, away_from=low if side == "low" else high)
    if side == "high" and step is None and high < 1 <= bound:
        bound = _brief((1 + high) / 2, away_from=high)
    is_further = bound < low if side == "low" else bound > high
    return bound if is_further and may_have(name, bound, parameter.low, parameter.high) else None


def may_have(name: str, value: float, low: float, high: float) -> bool:
    """Return whether a value beyond low..high can be one of the same parameter.

    Rates and counts stay above 0, and shares below 1: others may be invalid.
    """
    rule = TRAIN_NUMBERS.get(name)
    is_share = high < 1 <= value
    is_rate = low >= 0 >= value
    return not is_share and not is_rate and (rule is None or rule.low <= value <= rule.high)


def rounded(value: float) -> float:
    """Return a number without the last digits that arithmetic leaves: 3 * 0.1 is 0.30000000000000004."""
    return float(f"{value:.10g}")


def _brief(value: float, *, away_from: float) -> float:
    """Return a number of two digits where these still tell it from `away_from`, else of as many as that takes."""
    for digits in range(2, 17):
        brief = float(f"{value:.{digits}g}")
        if abs(brief - value) <= 0.1 * abs(value - away_from):
            return brief
    return value
