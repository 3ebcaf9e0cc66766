"""Which parameters matter: importance with intervals, a test against chance, and what the sampler's process has learned.

Importance is PED-ANOVA's (arXiv 2304.10255), as optuna-dashboard computes it: what tells the best tenth of the complete
trials from all of them. The process of the default sampler learns from all epochs of all trials. Both may be wrong; where
they differ, `answer` says which of the two rests on more.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views import learned

if TYPE_CHECKING:
    from search.policies.samplers.bayes import Outlook
    from search.storage.studies import Stored

Verdict = Literal["matters", "unclear", "no effect seen"]
_VERDICTS: tuple[Verdict, ...] = ("matters", "unclear", "no effect seen")

_RESAMPLES, _SHUFFLES = 50, 100
# More trials than this change intervals little, and cost time.
_MOST = 1500
# The seed of resamples and shuffles, so that every command prints the same.
_SEED = 0
# Fewer complete trials can't show that a parameter has no effect.
_ENOUGH = 20
# Importance is above chance if shuffled values reach it this often at most.
_CHANCE = 0.01
# Length scales in ranges: below SHORT scores change much over a parameter's range, above LONG little.
_SHORT, _LONG, _LONGEST = 1.0, 2.0, 2.9
# The first by importance is settled if it is first in this share of the resamples.
_SETTLED = 0.9
# The complete trials leave out a part of a range if their middle half covers less than this share of that of all trials.
_NARROW = 0.67


@dataclass(frozen=True, slots=True)
class Matter:
    """What is known of a parameter's effect.

    Attributes:
        share: its importance, of 1 for all parameters; `low` to `high` holds 90 % of the resamples. None: too few trials.
        first: the share of the resamples in which it comes first.
        chance: how often shuffled values give it as much importance.
        length_scale: of the sampler's process, in ranges; None without one.
    """

    name: str
    verdict: Verdict = "unclear"
    share: float | None = None
    low: float | None = None
    high: float | None = None
    first: float | None = None
    chance: float | None = None
    length_scale: float | None = None


def matters(stored: Stored, outlook: Outlook | None) -> list[Matter]:
    """Return what is known of each parameter; those that matter come first."""
    by_name = _importance(stored)
    known = [by_name.get(name, Matter(name)) for name in stored.file.space]
    if outlook is not None:
        known = [replace(one, length_scale=outlook.length_scales.get(one.name)) for one in known]
    known = [replace(one, verdict=_verdict(one, len(known), len(stored.complete))) for one in known]

    def key(one: Matter) -> tuple[int, float, float]:
        return _VERDICTS.index(one.verdict), one.length_scale or 0.0, -(one.share or 0.0)

    return sorted(known, key=key)


def answer(stored: Stored, known: Sequence[Matter]) -> list[str]:
    """Return in sentences what matters: one answer, also where importance and the process differ."""
    lines = []
    by_verdict = {verdict: [one.name for one in known if one.verdict == verdict] for verdict in _VERDICTS}
    if names := by_verdict["matters"]:
        lines.append(f"{_listed(names)} {'matters' if len(names) == 1 else 'matter'}")
    else:
        lines.append(f"no parameter's effect can be told from chance yet, by {len(stored.complete)} complete trials")
    if names := by_verdict["no effect seen"]:
        lines.append(f"no effect seen of {_listed(names)}")
    if names := by_verdict["unclear"]:
        lines.append(f"unclear: {_listed(names)}")
    text = "; ".join(lines)
    difference = _difference(stored, known)
    return [text, difference] if difference else [text]


def _difference(stored: Stored, known: Sequence[Matter]) -> str:
    """Return which of importance and process to follow where another parameter comes first; "" if they agree."""
    shares = {one.name: one for one in known if one.share is not None}
    scales = {one.name: one.length_scale for one in known if one.length_scale is not None}
    if not shares or not scales:
        return ""
    by_share = max(shares, key=lambda name: shares[name].share or 0.0)
    by_scale = min(scales, key=lambda name: scales[name])
    if by_share == by_scale:
        return ""
    first, count = shares[by_share].first or 0.0, len(stored.complete)
    epochs = sum(len(trial.curve) for trial in stored.trials)
    both = f"importance puts {by_share} first, the process {by_scale}"
    if first < _SETTLED:
        return (
            f"{both}: go by {by_scale}. Importance rests on {count} complete trials, and {by_share} comes first in "
            f"{first:.0%} of their resamples only; the process has learned from {epochs:,} epochs of all "
            f"{len(stored.trials)} trials"
        )
    if _is_narrowed(stored, by_scale):
        return (
            f"{both}: {by_scale} matters more, and {by_share} decides among good configs. Importance can't see "
            f"{by_scale}'s whole effect: the {count} complete trials cover a part of its range only, as the search "
            "left or pruned the rest"
        )
    return (
        f"{both}; both hold: {by_share} tells the best tenth of the complete trials from the others (first in {first:.0%} of "
        f"resamples), and scores change fastest along {by_scale}"
    )


def _is_narrowed(stored: Stored, name: str) -> bool:
    """Return whether the complete trials cover much less of a parameter's range than all trials."""
    from search.policies.samplers.encoding import Encoding

    encoding, column = Encoding(stored.file.space), list(stored.file.space).index(name)

    def middle_half(trials: Sequence[Trial]) -> float:
        points = [encoding.point(trial.params)[column] for trial in trials if name in trial.params]
        return float(np.subtract(*np.quantile(points, (0.75, 0.25)))) if points else 0.0

    return middle_half(stored.complete) < _NARROW * middle_half(stored.trials)


def _verdict(one: Matter, count: int, complete: int) -> Verdict:
    by_process = _matters_to_process(one.length_scale, count)
    is_above_chance = None if one.chance is None else one.chance <= _CHANCE
    if by_process:
        return "matters"
    if by_process is False:
        return "unclear" if is_above_chance else "no effect seen"
    if is_above_chance:
        return "matters"
    is_small = one.high is not None and one.high < 1 / count
    return "no effect seen" if is_above_chance is False and is_small and complete >= _ENOUGH else "unclear"


def _matters_to_process(length_scale: float | None, count: int) -> bool | None:
    """Return whether the process has found an effect; None if it can't say, as near the mode of its prior."""
    from search.policies.samplers.gaussian_process import Hyperparameters

    if length_scale is None:
        return None
    prior = float(Hyperparameters.prior(count).length_scales[0])
    if length_scale <= min(_SHORT, 0.9 * prior):
        return True
    return False if length_scale >= min(max(_LONG, 1.3 * prior), _LONGEST) else None


def _importance(stored: Stored) -> dict[str, Matter]:
    complete, rng = stored.complete, np.random.default_rng(_SEED)
    if len(complete) > _MOST:
        complete = [complete[k] for k in sorted(rng.choice(len(complete), _MOST, replace=False))]
    shares = learned.importance_of(stored, complete)
    if not shares:
        return {}
    with warnings.catch_warnings(action="ignore"):
        resampled = _resampled(stored, complete, rng)
        chances = _chances(stored, complete, rng)
    by_name = {}
    for name, share in shares.items():
        others = [one.get(name, 0.0) for one in resampled]
        low, high = np.quantile(others, (0.05, 0.95)) if others else (share, share)
        firsts = [max(one, key=lambda key, one=one: one[key]) == name for one in resampled]  # type: ignore[misc]
        by_name[name] = Matter(
            name,
            share=share,
            low=float(min(low, share)),
            high=float(max(high, share)),
            first=float(np.mean(firsts)) if firsts else None,
            chance=chances.get(name),
        )
    return by_name


def _resampled(stored: Stored, trials: Sequence[Trial], rng: np.random.Generator) -> list[dict[str, float]]:
    """Return the shares in resamples of the trials, drawn with replacement."""
    samples = []
    for _ in range(_RESAMPLES):
        sample = [trials[k] for k in rng.integers(len(trials), size=len(trials))]
        values = learned.importance_of(stored, sample)
        if values:
            samples.append(values)
    return samples


def _chances(stored: Stored, trials: Sequence[Trial], rng: np.random.Generator) -> dict[str, float]:
    """Return how often each parameter has as much importance as it has when the trials' values are shuffled."""
    from optuna.importance import PedAnovaImportanceEvaluator

    from search.views.optuna_study import study_of

    study, evaluator = study_of(stored, trials), PedAnovaImportanceEvaluator()
    sign = Objective.of(stored.file).sign
    losses = np.array([-sign * (trial.value or 0.0) for trial in trials])

    def importance(values: Any) -> Mapping[str, float]:
        return evaluator.evaluate(study, target=lambda trial: float(values[trial.number]))

    actual = importance(losses)
    above = dict.fromkeys(actual, 0)
    for _ in range(_SHUFFLES):
        for name, value in importance(rng.permutation(losses)).items():
            above[name] += value >= actual[name]
    return {name: (count + 1) / (_SHUFFLES + 1) for name, count in above.items()}


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def text_of(one: Matter) -> str:
    """Return a parameter's importance with its interval; "-" if it is not known."""
    if one.share is None:
        return "-"
    return f"{one.share:.2g} ({one.low:.2g} to {one.high:.2g})"
