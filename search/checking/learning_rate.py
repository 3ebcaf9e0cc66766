"""A learning-rate range test (Smith, 2017, arXiv:1506.01186). Nothing here imports keras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.checking.exhibit import Lines
from search.checking.report import NotApplicable
from search.spec.finding import Finding
from spaces import Choice, Space

if TYPE_CHECKING:
    from search.checking.short_training import ShortTraining

RATES = np.geomspace(1e-6, 10.0, 85)
# The first steps have rates at which nothing is learned, so they measure the noise of the loss between batches.
_QUIET = 12
_MEMORY = 0.8
# Around each rate the test trains about as much as this many steps at that rate would.
_STEPS_AT_A_RATE = 20
_NAMES = ("learning_rate", "lr")


@dataclass(frozen=True)
class RangeTest:
    """The loss of one training whose learning rate grows with every step.

    Attributes:
        losses: of each rate's batch; they end where the loss is not finite.
        smooth: the same, averaged over the last steps.
        falls_from: the rate from which the loss falls; None if it falls at no rate.
        lowest_at: the rate of the lowest smooth loss; 0 if it falls at no rate.
        blows_from: the rate from which it rises again; infinite if it does not.
    """

    losses: NDArray[np.float64]
    smooth: NDArray[np.float64]
    falls_from: float | None
    lowest_at: float
    blows_from: float

    @property
    def rate(self) -> float | None:
        """A rate at which the model learns: between where its loss begins to fall, and where it is lowest."""
        return None if self.falls_from is None else math.sqrt(self.falls_from * self.lowest_at)


def range_test(short: ShortTraining) -> RangeTest:
    """Train one step at each rate, from low to high; NotApplicable if the optimizer's rate can't be set."""
    losses: list[float] = []
    for loss in short.reset().losses_at(RATES):
        losses.append(loss)
        if not math.isfinite(loss) or loss > 1e4 * (abs(losses[0]) + 1e-6):
            break
    return judged(np.array(losses))


def judged(losses: NDArray[np.float64]) -> RangeTest:
    """Return where the losses of a range test fall and rise."""
    finite = losses[np.isfinite(losses)]
    smooth = _smoothed(finite)
    if len(finite) <= _QUIET:
        return RangeTest(losses, smooth, None, 0.0, float(RATES[len(finite)]))
    first, noise = float(np.median(finite[:_QUIET])), float(finite[:_QUIET].std())
    lowest = int(smooth[_QUIET:].argmin()) + _QUIET
    fall = first - float(smooth[lowest])
    rises = np.flatnonzero(smooth[lowest:] > smooth[lowest] + 0.5 * abs(fall)) + lowest
    blows = int(rises[0]) if len(rises) else len(finite) if len(finite) < len(RATES) else -1
    blows_from = float(RATES[min(blows, len(RATES) - 1)]) if blows >= 0 else math.inf
    if fall <= max(0.05 * abs(first), 3.5 * noise * math.sqrt((1 - _MEMORY) / (1 + _MEMORY))):
        return RangeTest(losses, smooth, None, 0.0, blows_from)
    still_high = np.flatnonzero(smooth[: lowest + 1] > first - 0.1 * fall)
    falls = int(still_high[-1]) + 1 if len(still_high) else 0
    return RangeTest(losses, smooth, float(RATES[min(falls, lowest)]), float(RATES[lowest]), blows_from)


def finding(test: RangeTest, space: Space, config_rate: float, steps: int) -> Finding:
    """Return whether the rates that the space has, or the config's rate, are ones at which the loss falls.

    `steps` is the length of a whole training: with more of them, a lower rate is enough.
    """
    low, high = rates_of(space) or (config_rate, config_rate)
    searched = f"the space has {low:.3g} to {high:.3g}" if low < high else f"the study trains at {low:.3g}"
    numbers = {"low": low, "high": high, "blows from": test.blows_from}
    if test.falls_from is None:
        text = f"in {len(test.losses)} steps from {RATES[0]:.0e} to {RATES[-1]:.0f} the loss falls at no learning rate"
        advice = "see that labels belong to their rows, and look at the scale of the inputs, the layers and the loss"
        return Finding("learning rate", "look", f"{text}; {searched}", advice, numbers)
    text = f"the loss falls from {test.falls_from:.2g} on and is lowest at {test.lowest_at:.2g}"
    text += f", and rises from {test.blows_from:.2g} on" if math.isfinite(test.blows_from) else ""
    text = f"{text}; {searched}"
    numbers |= {"falls from": test.falls_from, "lowest at": test.lowest_at}
    if high < test.falls_from * min(1.0, 10 * _STEPS_AT_A_RATE / max(steps, 1)) / 3:
        return Finding(
            "learning rate", "look", text, f"too low for {steps:,} steps: go up to {test.lowest_at:.1g}", numbers
        )
    if low >= test.blows_from:
        return Finding("learning rate", "look", text, f"too high: begin at {test.falls_from:.1g}", numbers)
    if _share_above(low, high, test.blows_from) > 0.5:
        advice = f"more than half of the range is too high: end it at {test.blows_from:.1g}"
        return Finding("learning rate", "look", text, advice, numbers)
    return Finding("learning rate", "ok", text, numbers=numbers)


def exhibit(test: RangeTest, searched: tuple[float, float]) -> Lines:
    """Return the curve of a range test, with the rates that the study has."""
    losses = np.where(np.isfinite(test.losses), test.losses, np.nan)
    # What blows up would hide the rest.
    most = float(np.nanmax(losses[:_QUIET], initial=0.0)) + 0.5 * abs(float(np.nanmedian(losses[:_QUIET])))
    rates = tuple(RATES.tolist())
    low, high = searched
    marks = {"lowest searched": low, "highest searched": high} if low < high else {"the study has": low}
    if test.falls_from is not None:
        marks["falls from"] = test.falls_from
    lines = {
        "a batch": (rates[: len(losses)], tuple(np.minimum(losses, most).tolist())),
        "smoothed": (rates[: len(test.smooth)], tuple(np.minimum(test.smooth, most).tolist())),
    }
    note = "One training; each step has a higher rate than the last. Losses above the plot are drawn at its edge."
    title = "Learning-rate range test"
    return Lines("training", "learning-rate", title, "learning rate", "loss", lines, marks, is_log=True, note=note)


def rates_of(space: Space) -> tuple[float, float] | None:
    """Return the lowest and highest learning rate of a space; None if it has none."""
    parameter = next((space[name] for name in _NAMES if name in space), None)
    if parameter is None:
        return None
    if isinstance(parameter, Choice):
        numbers = [float(value) for value in parameter.values() if isinstance(value, int | float)]
        return (min(numbers), max(numbers)) if numbers else None
    return float(parameter.low), float(parameter.high)


def config_rate(model: Any, config: Mapping[str, Any]) -> float:
    """Return the learning rate of a config; NotApplicable for an optimizer with a schedule of the builder's own."""
    try:
        return float(config.get("learning_rate") or np.asarray(model.optimizer.learning_rate))
    except (TypeError, ValueError, AttributeError):
        raise NotApplicable("the builder's optimizer has a schedule of its own") from None


def _share_above(low: float, high: float, rate: float) -> float:
    if low >= high or low <= 0:
        return float(low >= rate)
    return (
        float(np.clip((math.log(high) - math.log(rate)) / (math.log(high) - math.log(low)), 0, 1))
        if rate < high
        else 0.0
    )


def _smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    average, smooth = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = _MEMORY * average + (1 - _MEMORY) * float(loss)
        smooth.append(average / (1 - _MEMORY**number))
    return np.array(smooth)
