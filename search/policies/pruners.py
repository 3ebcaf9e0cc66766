"""Name -> pruner: decides which running trials end before their last epoch.

Optuna's pruners compare with complete trials only, so they prune nothing while many trials train side by side. These
compare with all curves, running ones included (docs/decisions/0003). Nothing here imports storage or engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search.errors import OptionError
from search.registry import PRUNERS, SAMPLERS
from search.spec.vocabulary import closest, closest_of_kinds
from search.trials.objective import Objective
from search.trials.trial import Trial
from spaces import is_number, shown

# The default of `Patient`.
PATIENCE = 3


class Standings:
    """The best score so far of every trial at every epoch. Higher scores are better whatever the objective's direction.

    `_scores[trial, epoch]` is nan at epochs that a running trial has not reached. An ended trial keeps its last score at all
    later epochs, so that pruned trials still count as worse ones. A trial that diverged or failed has the score -inf at every
    epoch. Row 0 is trial 0; column 0 (epoch 0) is unused. There are columns up to the highest epoch so far, because a study
    may allow many more epochs than early stopping lets a trial train; `_later[trial]` is the score at all later ones.
    """

    def __init__(self) -> None:
        self._scores: NDArray[np.float64] = np.full((64, 64), math.nan)
        self._later: NDArray[np.float64] = np.full(64, math.nan)
        self._reached: NDArray[np.int64] = np.zeros(64, dtype=np.int64)

    def update(self, trial: Trial, objective: Objective) -> None:
        """Read the epochs and the end of `trial` that are new since its last update."""
        number = trial.number
        self._grow(number)
        reached = int(self._reached[number])
        best = self._scores[number, reached] if reached else -math.inf
        for epoch, value in objective.by_epoch(trial, reached).items():
            best = max(best, objective.sign * value)
            self.record(number, epoch, best)
        if trial.state == "FAIL" or trial.ended == "diverged":
            self.fail(number)
        elif trial.is_ended:
            self.close(number)

    def record(self, trial: int, epoch: int, best: float) -> None:
        """Record the best score of `trial` up to `epoch`."""
        self._grow(trial, epoch)
        self._scores[trial, epoch] = best
        self._reached[trial] = epoch

    def close(self, trial: int) -> None:
        """Record that `trial` has ended: it keeps its last score at all later epochs."""
        if trial < len(self._reached) and (last := self._reached[trial]):
            self._later[trial] = self._scores[trial, last + 1 :] = self._scores[trial, last]

    def fail(self, trial: int) -> None:
        """Record that `trial` has diverged or failed: it gets the worst score at all epochs, even at those it trained."""
        self._grow(trial)
        self._later[trial] = self._scores[trial, 1:] = -math.inf

    def score(self, trial: int, epoch: int) -> float:
        """Return the best score of `trial` up to `epoch`."""
        self._grow(trial, epoch)
        return float(self._scores[trial, epoch])

    def at(self, epoch: int, *, reached: bool) -> NDArray[np.float64]:
        """Return the scores at `epoch`, nan for trials without one, and with `reached` for those that ended before it."""
        self._grow(0, epoch)
        scores = self._scores[:, epoch]
        return np.where(self._reached >= epoch, scores, math.nan) if reached else scores

    def _grow(self, trial: int, epoch: int = 0) -> None:
        while trial >= len(self._reached):
            self._scores = np.concatenate([self._scores, np.full_like(self._scores, math.nan)])
            self._later = np.concatenate([self._later, np.full_like(self._later, math.nan)])
            self._reached = np.concatenate([self._reached, np.zeros_like(self._reached)])
        while epoch >= self._scores.shape[1]:
            later = np.repeat(self._later[:, None], self._scores.shape[1], axis=1)
            self._scores = np.concatenate([self._scores, later], axis=1)


def _check(holds: bool, option: str, rule: str, received: object) -> None:
    if not holds:
        raise OptionError(f"{option} must {rule}; received {received}", option)


class Pruner(Protocol):
    """Decides whether a trial that has just finished an epoch is pruned."""

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        """Return why `trial` is pruned at `epoch`, or None to let it go on.

        `share`: the trial's epochs as a share of the most that a trial may have; below 1 only if the study searches `epochs`.
        """


@dataclass(frozen=True, slots=True)
class Nothing:
    """Prunes nothing."""

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:  # noqa: ARG002
        return None


@dataclass(frozen=True, slots=True)
class Halving:
    """Asynchronous successive halving: at epoch first_rung * eta^k only the best 1/eta of the trials that reached it go on.

    While fewer than `eta` trials reached a rung, all go on. Equal scores share a rank. Source: ASHA (Li et al., 2020,
    arXiv:1810.05934), its stopping variant (Syne Tune's "stopping" type), with the best score so far instead of the last
    one. If a study does not set `first_rung`, `make` uses a ninth of its epochs (docs/search.md has the reason).

    `first_rung` is that of a trial with the most epochs. A trial with half as many epochs has its rungs at half the epoch. It
    is compared at its own rungs with all trials that reached that epoch (docs/decisions/0014).
    """

    first_rung: int = 1
    eta: int = 4

    def __post_init__(self) -> None:
        _check(self.first_rung >= 1, "first_rung", "be at least 1", self.first_rung)
        _check(self.eta >= 2, "eta", "be at least 2", self.eta)

    def is_rung(self, epoch: int, share: float = 1.0) -> bool:
        """Return whether `epoch` is a rung of trials with this share of the most epochs."""
        rung = max(1, round(self.first_rung * share))
        while rung < epoch:
            rung *= self.eta
        return rung == epoch

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        return self.reason_among(standings.at(epoch, reached=True), trial, epoch, share)

    def reason_among(self, scores: NDArray[np.float64], trial: int, epoch: int, share: float) -> str | None:
        """Return why `trial` is pruned among the trials whose `scores` are not nan, or None."""
        if not self.is_rung(epoch, share):
            return None
        count = int(np.count_nonzero(~np.isnan(scores)))
        rank = 1 + int(np.count_nonzero(scores > scores[trial]))
        if count < self.eta or rank <= math.ceil(count / self.eta):
            return None
        return f"rung {epoch}: rank {rank} of {count}"


@dataclass(frozen=True, slots=True)
class Hyperband:
    """Several halvings side by side, each with a later first rung; a trial's number decides its bracket.

    Bracket s has its first rung at first_rung * eta^s and gets eta times fewer trials than bracket s - 1, so that all
    brackets cost about the same. Source: Hyperband (Li et al., 2018, arXiv:1603.06560), as asynchronous brackets.
    """

    first_rung: int = 1
    eta: int = 3
    brackets: int = 3

    def __post_init__(self) -> None:
        Halving(self.first_rung, self.eta)
        _check(1 <= self.brackets <= 10, "brackets", "be in 1..10", self.brackets)

    def bracket(self, trials: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each trial's bracket: of every 1 + eta + eta^2 ... trials, most are in bracket 0."""
        sizes = [self.eta ** (self.brackets - 1 - s) for s in range(self.brackets)]
        positions = trials % sum(sizes)
        brackets: NDArray[np.int64] = np.searchsorted(np.cumsum(sizes), positions, side="right").astype(np.int64)
        return brackets

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        scores = standings.at(epoch, reached=True)
        brackets = self.bracket(np.arange(len(scores)))
        bracket = int(brackets[trial])
        halving = Halving(self.first_rung * self.eta**bracket, self.eta)
        scores_in_bracket = np.where(brackets == bracket, scores, math.nan)
        why = halving.reason_among(scores_in_bracket, trial, epoch, share)
        return f"bracket {bracket}, {why}" if why else None


@dataclass(frozen=True, slots=True)
class Percentile:
    """Prunes trials outside the best `percentile` % of all trials at the same epoch; ended ones count with their last score.

    Attributes:
        startup_trials: how many other trials must have reached the epoch (or ended) before one is pruned.
        warmup_epochs: up to this epoch no trial is pruned.
    """

    percentile: float = 25.0
    startup_trials: int = 5
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        _check(0 < self.percentile < 100, "percentile", "lie between 0 and 100", self.percentile)
        _check(self.startup_trials >= 1, "startup_trials", "be at least 1", self.startup_trials)
        _check(self.warmup_epochs >= 0, "warmup_epochs", "be at least 0", self.warmup_epochs)

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:  # noqa: ARG002
        if epoch <= self.warmup_epochs:
            return None
        scores = standings.at(epoch, reached=False)
        others = np.delete(scores, trial)
        others = others[~np.isnan(others)]
        if len(others) < self.startup_trials or not scores[trial] < self._bound(others):
            return None
        better = int(np.count_nonzero(others > scores[trial]))
        return f"epoch {epoch}: rank {better + 1} of {len(others) + 1}"

    def _bound(self, others: NDArray[np.float64]) -> float:
        """Return the lowest score that is not pruned."""
        # Interpolation between -inf and a number may give nan; then no score is below the bound, and no trial is pruned.
        with np.errstate(invalid="ignore"):
            return float(np.percentile(others, 100 - self.percentile))


@dataclass(frozen=True, slots=True)
class Median(Percentile):
    """Prunes trials below the median of all trials at the same epoch (Vizier's median rule, KDD 2017)."""

    percentile: float = field(default=50.0, init=False)


@dataclass(frozen=True, slots=True)
class Patient:
    """Lets another pruner act only on trials that have not improved for more than `patience` epochs."""

    wrapped: Pruner = Median()
    patience: int = PATIENCE

    def __post_init__(self) -> None:
        _check(self.patience >= 0, "patience", "be at least 0", self.patience)

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        earlier = epoch - self.patience - 1
        if earlier < 1 or standings.score(trial, epoch) > standings.score(trial, earlier):
            return None
        why = self.wrapped.reason(standings, trial, epoch, share)
        return f"{why}, no better for {self.patience + 1} epochs" if why else None


@dataclass(frozen=True, slots=True)
class WithVeto:
    """Another pruner, whose decision to prune is dropped if `vetoes(trial, epoch)` returns True."""

    wrapped: Pruner
    vetoes: Callable[[int, int], bool]

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        why = self.wrapped.reason(standings, trial, epoch, share)
        return None if why and self.vetoes(trial, epoch) else why


def first_rung(epochs: int) -> int:
    """Return the default first rung of halving in a study of so many epochs: a ninth of them."""
    return max(1, round(epochs / 9))


def make(name: str, options: Mapping[str, Any], *, epochs: int) -> Pruner:
    """Make the pruner `name` for a study of so many epochs; OptionError with an option that is unknown or out of range."""
    if name not in PRUNERS:
        hint = closest_of_kinds(name, PRUNERS, "sampler", SAMPLERS)
        raise OptionError(f"no such pruner: {name!r}{hint}; there are {', '.join(PRUNERS)}")
    pruner, arguments = PRUNERS.get(name), dict(options)
    if pruner is Halving:
        arguments.setdefault("first_rung", first_rung(epochs))
    defaults = {option.name: option.default for option in fields(pruner) if option.init}
    for key, value in arguments.items():
        if key not in defaults:
            has = f"it has {', '.join(defaults) or 'none'}"
            raise OptionError(f"the pruner {name} has no option {key!r}{closest(key, defaults)}; {has}", key)
        if key == "wrapped":
            arguments[key] = _wrapped(value, epochs)
            continue
        is_whole = isinstance(defaults[key], int)
        if not is_number(value) or (is_whole and not isinstance(value, int)):
            raise OptionError(f"{key} must be a {'whole ' if is_whole else ''}number; received {shown(value)}", key)
    return pruner(**arguments)  # type: ignore[no-any-return]


def _wrapped(value: Any, epochs: int) -> Pruner:
    inner = {"name": value} if isinstance(value, str) else value
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise OptionError(f"wrapped must be a pruner's name or a table with one; received {shown(value)}", "wrapped")
    try:
        return make(inner["name"], {key: option for key, option in inner.items() if key != "name"}, epochs=epochs)
    except OptionError as error:
        raise OptionError(str(error), f"wrapped.{error.option}".rstrip(".")) from None
