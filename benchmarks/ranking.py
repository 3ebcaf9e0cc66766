"""The tables of `quality.py`: regret, ranks, and how soon each search reaches the final regret of random search."""

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
"""The shares of the budget at which the table shows regret."""

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
        """Estimate `figure`, which is `np.mean` or `np.median`, with a bootstrap interval over the runs."""
        sample = np.array(values)
        if not np.isfinite(sample).all():  # the regret of a run without any objective yet is inf
            return cls(float(figure(sample)), math.nan, math.nan)
        drawn = np.random.default_rng(0).integers(len(sample), size=(RESAMPLES, len(sample)))
        low, high = np.quantile(figure(sample[drawn], axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(figure(sample)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Standing:
    """The results of one search with so many lanes, over all tasks and seeds.

    Attributes:
        mean, median: the regret by share of the budget.
        rank: its average rank among the searches by final regret, 1 for the best; equal ones share a rank.
        epochs: the median number of epochs until a run reached the final regret of random search on the same task (mean over
            its seeds); inf if half of the runs never did. None if random search was not played.
        reached: the share of runs that reached it.
        ms: CPU milliseconds per trial of the sampler and the pruner.
        trials: the mean number of started trials; `whole`: that of trials trained to the last epoch.
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
    """Compare searches that were played on the same tasks and seeds with the same lanes, in the order of their first runs."""
    by_search = defaultdict(list)
    for run in played:
        by_search[run.match.search].append(run)
    rank, goal = average_ranks(played), goals(played)
    return [_standing(search, runs, rank[search], goal) for search, runs in by_search.items()]


def _standing(search: str, runs: Sequence[Played], rank: float, goal: Mapping[str, float]) -> Standing:
    at = {share: [run.regret(float(run.match.budget * share)) for run in runs] for share in SHARES}
    epochs = [run.epochs_to(goal[run.match.task]) for run in runs if run.match.task in goal]
    return Standing(
        search=search,
        runs=len(runs),
        mean={share: Estimate.of(regrets, np.mean) for share, regrets in at.items()},
        median={share: Estimate.of(regrets, np.median) for share, regrets in at.items()},
        rank=rank,
        epochs=float(np.median(epochs)) if epochs else None,
        reached=fmean(map(math.isfinite, epochs)) if epochs else 0.0,
        ms=fmean(run.ms for run in runs),
        trials=fmean(run.trials for run in runs),
        whole=fmean(run.whole for run in runs),
    )


def average_ranks(played: Sequence[Played]) -> dict[str, float]:
    """Return the average rank of each search by final regret, over all pairs of task and seed."""
    from scipy.stats import rankdata

    together = defaultdict(list)
    for run in played:
        together[run.match.task, run.match.seed].append(run)
    ranks = defaultdict(list)
    for runs in together.values():
        for run, rank in zip(runs, rankdata([run.regret(run.match.budget) for run in runs]), strict=True):
            ranks[run.match.search].append(float(rank))
    return {search: fmean(own) for search, own in ranks.items()}


def goals(played: Sequence[Played]) -> dict[str, float]:
    """Return the mean final regret of random search by task; {} if it was not played."""
    ends = defaultdict(list)
    for run in played:
        if run.match.search == RANDOM:
            ends[run.match.task].append(run.regret(run.match.budget))
    return {task: fmean(regrets) for task, regrets in ends.items()}


def mean_regret(runs: Sequence[Played], shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the mean regret of the runs at each share of the budget."""
    regrets = np.array([[run.regret(run.match.budget * share) for share in shares] for run in runs])
    mean: NDArray[np.float64] = regrets.mean(axis=0)
    return mean


# -- in a table --------------------------------------------------------------------------------------------


def table(compared: Sequence[Standing], about: str) -> Table:
    """Make a table with two lines per search: the mean over runs and their median."""
    shown = Table(title=about, title_justify="left")
    shown.add_column("search", no_wrap=True)
    shown.add_column("regret", no_wrap=True)
    for share in SHARES:
        shown.add_column(f"after {share}" if share < 1 else "after all", justify="right", no_wrap=True)
    for column in ("rank", "to random's", "trials", "whole", "ms"):
        shown.add_column(column, justify="right", no_wrap=True)
    for standing in compared:
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


def notes(compared: Sequence[Standing]) -> Iterator[str]:
    """Yield lines that explain the figures."""
    yield "regret, after shares of the epochs: 0 is as good as the best of 1,500 random full trainings, 1 as their median,"
    yield "  below 0 is better than all of them; found is what the best epoch of any trial had so far, running ones included"
    yield f"in brackets: {LEVEL:.0%} by {RESAMPLES:,} bootstrap samples of the runs; a task with a seed is one run"
    yield "rank: by regret after all epochs, among the searches above on the same task and seed; equals share a rank; mean"
    if any(standing.epochs is not None for standing in compared):
        yield "to random's: epochs until a run found what random search found in all of its own (its seeds' mean on a task);"
        yield "  median, and how many runs did; no median where half of them or more did not"
    else:
        yield "to random's: not known, for random was not among the searches"
    yield "trials: begun; whole: trained to the last epoch; ms: CPU milliseconds of the sampler a suggestion; means"
