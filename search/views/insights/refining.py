"""From coarse to fine: the space in which to search next, and why.

Ranges close in on the best trials, or open where these sit at an end; choices that none of the best has are dropped where
chance does not explain that; parameters without an effect are fixed. What can't be told from chance stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from scipy.stats import hypergeom

from search.errors import UsageError
from search.trials.history import History
from search.trials.trial import Trial
from search.views.insights.edges import Edge, edges, may_have, position, rounded
from search.views.insights.importance import Matter
from search.views.text import short
from spaces import Choice, Float, Int, Space, SpaceError, is_number

# With fewer complete trials, where the best lie is chance.
ENOUGH = 10
# Use the best fifth of the complete trials, but at least MIN and at most MAX of them.
_FIFTH, _MIN, _MAX = 0.2, 5, 30
# A range closes in to where the best lie, and this share of its width on either side, but to no less than a quarter.
_MARGIN, _NARROWEST = 0.1, 0.25
# An end that would move by less stays.
_LITTLE = 0.05
# A choice is dropped if chance would leave it out of the best in fewer than one of 20 studies.
_CHANCE = 0.05
# How many of the best configs the next study starts from.
STARTS = 3


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a parameter.

    Attributes:
        entry: its entry in the new space as a study file has it; for "fixed", its value.
    """

    name: str
    kind: Literal["as it was", "narrower", "wider", "fixed"]
    entry: Any
    why: str


def refine(history: History, known: Sequence[Matter], *, may_fix: bool = True) -> list[Change]:
    """Return the changes of each parameter, in the order of the space.

    Args:
        known: what is known of each parameter's effect.
        may_fix: whether the builder takes fixed values for what it searches now.

    Raises UsageError with fewer than ENOUGH complete trials, and for a study of given configs.
    """
    complete, space = history.complete, history.file.space
    if history.file.settings.search.candidates:
        raise UsageError(
            f"{history.file.name!r} chooses among given configs, search.candidates, and searches no ranges that could be "
            "refined; give a new study a [space]"
        )
    if len(complete) < ENOUGH:
        raise UsageError(
            f"{history.file.name!r} has {len(complete)} trials that were trained fully; with fewer than {ENOUGH} it is "
            "chance where the best ones lie: run it further first"
        )
    best = complete[: min(max(math.ceil(_FIFTH * len(complete)), _MIN), _MAX)]
    at_edge = {edge.name: edge for edge in edges(history)}
    parents = {parent for parameter in space.values() for parent in parameter.when}
    without_effect = {matter.name for matter in known if matter.verdict == "no effect seen"}
    fixed = [
        name
        for name in space
        if may_fix and name in without_effect and not space[name].when and name not in parents | {"epochs"}
    ]
    changes = []
    for name, parameter in space.items():
        entry = space.describe()[name]
        if name == "epochs":
            changes.append(Change(name, "as it was", entry, "it is what a trial costs"))
        elif name in parents:
            changes.append(Change(name, "as it was", entry, "other parameters depend on it"))
        elif name in fixed:
            value = space.config(complete[0].params)[name]
            if isinstance(parameter, Float) and parameter.step is None:
                value = _brief(parameter, value)
            changes.append(Change(name, "fixed", value, "no effect was seen; the best trial's value"))
        elif isinstance(parameter, Choice):
            changes.append(_choice(name, parameter, entry, history, best, may_fix=may_fix))
        else:
            changes.append(_range(name, parameter, entry, best, at_edge.get(name)))
    if all(change.kind == "fixed" for change in changes):
        first = changes[0].name
        changes[0] = Change(first, "as it was", space.describe()[first], "something must be left to search")
    return changes


def starts(history: History, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return the best configs of the new space, without the values that are fixed, for the new study to begin with."""
    space = Space.parse({change.name: change.entry for change in changes if change.kind != "fixed"})
    configs: list[dict[str, Any]] = []
    for trial in history.complete:
        config = {name: value for name, value in history.file.space.config(trial.params).items() if name in space}
        if config not in configs and _is_in(space, config):
            configs.append(config)
        if len(configs) == STARTS:
            break
    return configs


def _is_in(space: Space, config: Mapping[str, Any]) -> bool:
    try:
        space.check(config)
    except SpaceError:
        return False
    return True


def _brief(parameter: Float, value: float) -> float:
    """Return a value of four digits, as it matters little and the file is for people; of more if that leaves the range."""
    shorter = (float(f"{value:.{digits}g}") for digits in range(4, 17))
    return next((brief for brief in shorter if parameter.low <= brief <= parameter.high), value)


def _range(
    name: str, parameter: Float | Int, entry: Mapping[str, Any], best: Sequence[Trial], edge: Edge | None
) -> Change:
    values = [trial.params[name] for trial in best if name in trial.params]
    if len(values) < _MIN:
        return Change(name, "as it was", entry, f"only {len(values)} of the best {len(best)} trials have it")
    positions = [position(parameter, value) for value in values]
    low, high = min(positions) - _MARGIN, max(positions) + _MARGIN
    lacking = max(0.0, _NARROWEST - (high - low)) / 2
    low, high = low - lacking, high + lacking
    bounds = {
        "low": parameter.low if low < _LITTLE else _inner(parameter, low, math.floor),
        "high": parameter.high if high > 1 - _LITTLE else _inner(parameter, high, math.ceil),
    }
    whole = f"{short(parameter.low)}..{short(parameter.high)}"
    if edge is not None and edge.further is not None:
        why = f"{edge.near} of the best {edge.among} sit at the {'upper' if edge.side == 'high' else 'lower'} end of {whole}"
        return Change(name, "wider", {**entry, **bounds, edge.side: edge.further}, why)
    where = f"the best {len(values)} lie in {short(min(values))}..{short(max(values))} of {whole}"
    if (bounds["low"], bounds["high"]) == (parameter.low, parameter.high):
        return Change(name, "as it was", entry, where)
    return Change(name, "narrower", {**entry, **bounds}, where)


def _inner(parameter: Float | Int, share: float, towards: Any) -> float:
    """Return a bound at a share of a range: on its steps, else of about two digits, rounded outwards by `towards`."""
    low, high, step = parameter.low, parameter.high, parameter.step
    if step is not None and not parameter.log:
        value = low + towards(share * (high - low) / step) * step
        return _like(parameter, value)
    value = low ** (1 - share) * high**share if parameter.log else low + share * (high - low)
    if isinstance(parameter, Int):
        value = towards(value)
    elif value:
        # Of a narrow range far from 0, two digits are too few.
        digit = 10.0 ** min(math.floor(math.log10(abs(value))) - 1, math.floor(math.log10((high - low) / 20)))
        value = towards(round(value / digit, 6)) * digit
    return _like(parameter, min(max(value, low), high))


def _like(parameter: Float | Int, value: float) -> float:
    return int(value) if isinstance(parameter, Int) else rounded(value)


def _choice(
    name: str, parameter: Choice, entry: Mapping[str, Any], history: History, best: Sequence[Trial], *, may_fix: bool
) -> Change:
    space = history.file.space
    judged = [trial for trial in history.trials if trial.state in ("COMPLETE", "PRUNED") and name in trial.params]
    among = [trial.params[name] for trial in best if name in trial.params]
    if len(among) < _MIN:
        return Change(name, "as it was", entry, f"only {len(among)} of the best {len(best)} trials have it")
    counts = {param: sum(trial.params[name] == param for trial in judged) for param in parameter.values()}
    poor = {
        param
        for param, count in counts.items()
        if param not in among and hypergeom.pmf(0, len(judged), count, len(among)) < _CHANCE
    }
    kept = [value for param, value in zip(parameter.values(), parameter.choices, strict=True) if param not in poor]
    further = _next_choice(name, parameter, [space.config({name: param})[name] for param in among])
    if poor:
        gone = ", ".join(
            short(value) for param, value in zip(parameter.values(), parameter.choices, strict=True) if param in poor
        )
        why = f"none of the best {len(among)} trials has {gone}"
        if len(kept) == 1 and further is None:
            is_fixed = may_fix and not parameter.when
            return Change(name, "fixed", kept[0], why) if is_fixed else Change(name, "as it was", entry, why)
    else:
        why = "each choice is among the best, or was tried too seldom to say"
    if further is not None:
        at = sum(param == parameter.values()[-1] for param in among)
        return Change(
            name,
            "wider",
            {**entry, "choices": [*kept, further]},
            f"{at} of the best {len(among)} have {short(kept[-1])}",
        )
    if not poor:
        return Change(name, "as it was", entry, why)
    return Change(name, "narrower", {**entry, "choices": kept}, why)


def _next_choice(name: str, parameter: Choice, among: Sequence[Any]) -> Any:
    """Return the next of numbers that rise by one factor or one difference, if most of the best have the last; else None."""
    choices = parameter.choices
    if len(choices) < 2 or not all(is_number(value) for value in choices):
        return None
    if sum(value == choices[-1] for value in among) <= len(among) / 2:
        return None
    pairs = list(pairwise(choices))
    ratios = {rounded(later / earlier) for earlier, later in pairs} if 0 not in choices else set()
    differences = {rounded(later - earlier) for earlier, later in pairs}
    last, kind = choices[-1], type(choices[-1])
    further = [last * ratio for ratio in ratios if len(ratios) == 1 and ratio > 1]
    further += [last + difference for difference in differences if len(differences) == 1 and difference > 0]
    valid = (kind(rounded(value)) for value in further if may_have(name, value, min(choices), max(choices)))
    return next(valid, None)
