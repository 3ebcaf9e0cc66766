"""What `quality.py` prints of the matches it played: regret, ranks, who is sooner where random search ends."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from playing import Played
from rich.table import Table

SHARES = (Fraction(1, 4), Fraction(1, 2), Fraction(1))
"""Of the budget, at which regret is told."""

RANDOM = "random"
RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of some runs, and its bootstrap interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], figure: Callable[..., NDArray[np.float64]]) -> Estimate:
        """Estimate `figure`, `np.mean` or `np.median`, with an interval from runs drawn again with replacement."""
        known = np.array(values)
        if not np.isfinite(known).all():  # a run that has found nothing yet has no end of regret, and so has their mean
            return cls(float(figure(known)), math.nan, math.nan)
        drawn = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
        low, high = np.quantile(figure(known[drawn], axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(figure(known)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one search did with so many lanes, over all tasks and seeds.

    Attributes:
        mean: regret by share of the budget, and `median`.
        rank: its average among the searches by regret at the end, 1 for the best; equals share a rank.
        epochs: the median of those it took to find what random search found in all of its own on the same task (the mean of
            its seeds); inf if half of the runs did not. None if random search was not played.
        reached: the share of runs that did.
        ms: CPU milliseconds of the sampler for a trial.
        trials: begun, and `whole` of them trained to the last epoch; means.
    """

    search: str
    runs: int
    mean: Mapping[Fraction, Estimate]
    median: Mapping[Fraction, Estimate]
    rank: float
    epochs: float | None
    reached: float
    ms: float
    trials: float
    whole: float


def standings(played: Sequence[Played]) -> list[Standing]:
    """Compare searches that were played on the same tasks and seeds with equally many lanes, in the order of their first."""
    by_search = defaultdict(list)
    for run in played:
        by_search[run.match.search].append(run)
    rank, goal = average_ranks(played), goals(played)
    return [_standing(search, runs, rank[search], goal) for search, runs in by_search.items()]


def _standing(search: str, runs: Sequence[Played], rank: float, goal: Mapping[str, float]) -> Standing:
    at = {share: [run.regret(float(run.match.budget * share)) for run in runs] for share in SHARES}
    took = [run.epochs_to(goal[run.match.task]) for run in runs if run.match.task in goal]
    return Standing(
        search=search,
        runs=len(runs),
        mean={share: Estimate.of(regrets, np.mean) for share, regrets in at.items()},
        median={share: Estimate.of(regrets, np.median) for share, regrets in at.items()},
        rank=rank,
        epochs=float(np.median(took)) if took else None,
        reached=fmean(math.isfinite(epochs) for epochs in took) if took else 0.0,
        ms=fmean(run.ms for run in runs),
        trials=fmean(run.trials for run in runs),
        whole=fmean(run.whole for run in runs),
    )


def average_ranks(played: Sequence[Played]) -> dict[str, float]:
    """Return the average rank of each search over task x seed, by regret at the end."""
    from scipy.stats import rankdata

    together = defaultdict(list)
    for run in played:
        together[run.match.task, run.match.seed].append(run)
    ranks = defaultdict(list)
    for runs in together.values():
        for run, rank in zip(runs, rankdata([run.regret(run.match.budget) for run in runs]), strict=True):
            ranks[run.match.search].append(float(rank))
    return {search: fmean(found) for search, found in ranks.items()}


def goals(played: Sequence[Played]) -> dict[str, float]:
    """Return by task the mean regret that random search had at the end; nothing if it was not played."""
    ends = defaultdict(list)
    for run in played:
        if run.match.search == RANDOM:
            ends[run.match.task].append(run.regret(run.match.budget))
    return {task: fmean(regrets) for task, regrets in ends.items()}


def mean_regret(runs: Sequence[Played], shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the mean of the runs' regret at each share of the budget."""
    regrets = np.array([[run.regret(run.match.budget * share) for share in shares] for run in runs])
    mean: NDArray[np.float64] = regrets.mean(axis=0)
    return mean


# -- in a table --------------------------------------------------------------------------------------------


def table(found: Sequence[Standing], about: str) -> Table:
    """Show standings, two lines each: the mean over runs and their median."""
    shown = Table(title=about, title_justify="left")
    shown.add_column("search", no_wrap=True)
    shown.add_column("regret", no_wrap=True)
    for share in SHARES:
        shown.add_column(f"after {share}" if share < 1 else "after all", justify="right", no_wrap=True)
    for column in ("rank", "to random's", "trials", "whole", "ms"):
        shown.add_column(column, justify="right", no_wrap=True)
    for standing in found:
        shown.add_row(
            standing.search,
            "mean\nmedian",
            *(f"{standing.mean[share]}\n{standing.median[share]}" for share in SHARES),
            f"{standing.rank:.2f}",
            _epochs(standing),
            f"{standing.trials:.0f}",
            f"{standing.whole:.0f}",
            f"{standing.ms:.1f}",
        )
    return shown


def _epochs(standing: Standing) -> str:
    if standing.epochs is None:
        return "not known"
    return (
        f"{standing.epochs:,.0f} ({standing.reached:.0%})"
        if math.isfinite(standing.epochs)
        else f"({standing.reached:.0%})"
    )


def notes(found: Sequence[Standing]) -> Iterator[str]:
    """Yield what the figures are."""
    yield "regret, after shares of the epochs: 0 is as good as the best of 1,500 random full trainings, 1 as their median,"
    yield "  below 0 is better than all of them; found is what the best epoch of any trial had so far, running ones included"
    yield f"in brackets: {LEVEL:.0%} by {RESAMPLES:,} bootstrap samples of the runs; a task with a seed is one run"
    yield "rank: by regret after all epochs, among the searches above on the same task and seed; equals share a rank; mean"
    if any(standing.epochs is not None for standing in found):
        yield "to random's: epochs until a run found what random search found in all of its own (its seeds' mean on a task);"
        yield "  median, and how many runs did; no median where half of them or more did not"
    else:
        yield "to random's: not known, for random was not among the searches"
    yield "trials: begun; whole: trained to the last epoch; ms: CPU milliseconds of the sampler a suggestion; means"
