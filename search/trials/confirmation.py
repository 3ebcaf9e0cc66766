"""How much of a search's best values was luck: the best configs, trained again with fresh seeds. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from search.trials.history import History
from search.trials.objective import Objective
from search.trials.trial import Trial

SUFFIX = ".confirm"
"""The end of the name of a study that confirms another one of the same database."""
LEVEL = 0.95
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One of the best configs of a search, trained again.

    Attributes:
        trial: its number in the search.
        value: the search's value of it.
        values: of the fresh trials that have a value, each measured as the search measures a trial.
        failed: how many fresh trials ended without a value.
        mean: of `values`; None without any.
        low: the lower end of Student's interval of the mean at `LEVEL`; None with fewer than two values.
        high: its upper end.
        standard_error: of the mean; None with fewer than two values.
        luck: how much better the search's value is than the mean, in the unit of the objective.
    """

    trial: int
    value: float
    values: tuple[float, ...]
    failed: int
    mean: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    luck: float | None

    @property
    def is_lucky(self) -> bool:
        """Whether the search's value is better than the interval of the mean."""
        if self.luck is None or self.low is None or self.high is None:
            return False
        return self.luck > 0 and not self.low <= self.value <= self.high


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The best configs of a search, trained again, in the search's order.

    Attributes:
        study: the name of the study that holds the fresh trials.
        repeats: how many fresh trials each config is to have.
        is_done: whether all of them have ended.
        is_current: whether the configs still are the best of the search, which may have gone on.
        best: the trial of the search whose fresh trials have the best mean; None while none has a value.
        correlation: Spearman's, of the search's values and the means: 1 where the order holds; None with fewer than two
            different values or means.
        apart: pairs of trials of the search, the better one by mean first, whose means differ (Welch's test, `LEVEL` for all
            pairs together by Holm's method).
    """

    study: str
    configs: tuple[Confirmed, ...]
    repeats: int
    is_done: bool
    is_current: bool
    best: int | None
    correlation: float | None
    apart: tuple[tuple[int, int], ...]

    @property
    def pairs(self) -> int:
        """How many pairs of configs can be compared."""
        return math.comb(sum(len(config.values) > 1 for config in self.configs), 2)


def best_configs(search: History, top: int) -> list[Trial]:
    """Return the trials of the best `top` distinct configs, the best first."""
    distinct: dict[str, Trial] = {}
    for trial in search.complete:
        distinct.setdefault(repr(search.file.space.config(trial.params)), trial)
    return list(distinct.values())[:top]


def is_of(again: History, search: History) -> bool:
    """Return whether a study trains the trials that it names of `search` again, on the same data.

    Deleted studies leave their name, so a study of that name may be another one.
    """
    study, trials = again.file.settings.study, {trial.number: trial for trial in search.complete}
    if not study.confirms or not all(number in trials for number in study.confirms):
        return False
    start = again.file.settings.search.start
    configs = [search.file.space.config(trials[number].params) for number in study.confirms]
    is_same = list(start[: len(configs)]) == configs and len(start) == study.trials
    fingerprints = (history.identity["data"].get("fingerprint") for history in (again, search))
    return is_same and len({*fingerprints}) == 1 and Objective.of(again.file) == Objective.of(search.file)


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return Student's interval of the mean of independent values; None with fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * _standard_error(values)
    return fmean(values) - half, fmean(values) + half


def confirmation(search: History, again: History) -> Confirmation:
    """Compare a search with the study that confirms it (see `is_of`), in which the configs take turns."""
    objective, top = Objective.of(search.file), again.file.settings.study.confirms
    trials = {trial.number: trial for trial in search.trials}
    fresh = [[one for one in again.trials if one.number % len(top) == index] for index in range(len(top))]
    configs = tuple(_confirmed(trials[number], of, objective) for number, of in zip(top, fresh, strict=True))
    repeats = again.file.settings.study.trials // len(top)
    means = [config for config in configs if config.mean is not None]
    return Confirmation(
        study=again.file.name,
        configs=configs,
        repeats=repeats,
        is_done=all(len(config.values) + config.failed == repeats for config in configs),
        is_current=[trial.number for trial in best_configs(search, len(top))] == list(top),
        best=max(means, key=lambda config: objective.sign * (config.mean or 0.0)).trial if means else None,
        correlation=_correlation([(config.value, config.mean) for config in means if config.mean is not None]),
        apart=tuple(_apart(configs, objective.sign)),
    )


def _confirmed(trial: Trial, fresh: Sequence[Trial], objective: Objective) -> Confirmed:
    values = tuple(one.value for one in fresh if one.state == "COMPLETE" and one.value is not None)
    value = trial.value or 0.0
    mean = fmean(values) if values else None
    low, high = interval(values) or (None, None)
    return Confirmed(
        trial=trial.number,
        value=value,
        values=values,
        failed=sum(one.is_ended for one in fresh) - len(values),
        mean=mean,
        standard_error=_standard_error(values) if len(values) > 1 else None,
        low=low,
        high=high,
        luck=None if mean is None else _luck(value, mean, objective.sign),
    )


def _luck(value: float, mean: float, sign: float) -> float:
    # Values are rounded to float32, so equal ones may differ a little.
    return 0.0 if math.isclose(value, mean, rel_tol=_ROUNDING) else sign * (value - mean)


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values))


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    # Seven digits, as those of float32: equal means are to have equal ranks.
    values, means = ([float(f"{value:.7g}") for value in of] for of in zip(*pairs, strict=True)) if pairs else ([], [])
    if len({*values}) < 2 or len({*means}) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(values, means).statistic)


def _apart(configs: Sequence[Confirmed], sign: float) -> list[tuple[int, int]]:
    compared = [config for config in configs if len(config.values) > 1]
    tested = [(_p_value(a.values, b.values), a, b) for a, b in combinations(compared, 2)]
    apart = []
    for index, (p, a, b) in enumerate(sorted(tested, key=lambda test: test[0])):
        if p > (1 - LEVEL) / (len(tested) - index):  # Holm's method ends at the first pair that is not apart
            break
        better, worse = sorted((a, b), key=lambda config: -sign * fmean(config.values))
        apart.append((better.trial, worse.trial))
    return apart


def _p_value(a: Sequence[float], b: Sequence[float]) -> float:
    if len({*a}) == len({*b}) == 1:
        # Without any spread Welch has no test, and two trainings may agree by chance, as shares of few rows do. Of all ways
        # to deal the values out, these are the two farthest apart (a permutation test).
        return 1.0 if a[0] == b[0] else 2 / math.comb(len(a) + len(b), len(a))
    from scipy.stats import ttest_ind_from_stats

    # From means and deviations: of equal values, scipy computes a spread that is rounding, and warns of it.
    one, other = ((fmean(values), stdev(values), len(values)) for values in (a, b))
    return float(ttest_ind_from_stats(*one, *other, equal_var=False).pvalue)
