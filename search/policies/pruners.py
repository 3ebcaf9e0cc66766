"""Name -> pruner: which running trials are not worth their next epoch.

Optuna's own pruners compare with complete trials only, so that with many trials in step they prune nothing; ours compare
with all curves, running ones included (docs/decisions/0003). Nothing here knows of storage or engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search.errors import OptionError
from search.registry import PRUNERS
from search.spec.vocabulary import closest
from search.trials.objective import Objective
from search.trials.trial import Trial
from spaces import is_number


class Standings:
    """The best score so far of every trial at every epoch. Scores grow with quality whatever the objective's direction.

    `scores[trial, epoch]` is nan where a running trial has not come yet; that of an ended one stays what it was, so that
    a trial that was pruned keeps counting among those that are worse. A trial that diverged or failed has the worst score of
    all, -inf, at every epoch. Row and column 0 are trial 0 and epoch 0 (unused).
    """

    def __init__(self, epochs: int) -> None:
        self._scores: NDArray[np.float64] = np.full((64, epochs + 1), math.nan)
        self._reached: NDArray[np.int64] = np.zeros(64, dtype=np.int64)

    def see(self, trial: Trial, objective: Objective) -> None:
        """Take in what has become of a trial since it was seen last."""
        number = trial.number
        self._make_room(number)
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
        """Note the best score of `trial` up to `epoch`."""
        self._make_room(trial)
        self._scores[trial, epoch] = best
        self._reached[trial] = epoch

    def close(self, trial: int) -> None:
        """Note that `trial` has ended: its last score stands for all later epochs."""
        if trial < len(self._reached) and (last := self._reached[trial]):
            self._scores[trial, last + 1 :] = self._scores[trial, last]

    def fail(self, trial: int) -> None:
        """Note that `trial` has diverged or failed: however good it was at first, it is worse than all others."""
        self._make_room(trial)
        self._scores[trial, 1:] = -math.inf

    def score(self, trial: int, epoch: int) -> float:
        """Return the best score of `trial` up to `epoch`."""
        return float(self._scores[trial, epoch])

    def at(self, epoch: int, *, reached: bool) -> NDArray[np.float64]:
        """Return the scores at `epoch`, nan for trials without one; `reached` leaves out those that ended before it."""
        scores = self._scores[:, epoch]
        return np.where(self._reached >= epoch, scores, math.nan) if reached else scores

    def _make_room(self, trial: int) -> None:
        while trial >= len(self._reached):
            self._scores = np.concatenate([self._scores, np.full_like(self._scores, math.nan)])
            self._reached = np.concatenate([self._reached, np.zeros_like(self._reached)])


def _check(holds: bool, option: str, rule: str, received: object) -> None:
    if not holds:
        raise OptionError(f"{option} must {rule}; received {received}", option)


class Pruner(Protocol):
    """Judges one trial that has just ended an epoch."""

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        """Return why `trial` is to be pruned at `epoch`, or None to let it go on.

        `share`: its epochs as a share of the most that a trial of the study may have; below 1 where `epochs` is searched.
        """


@dataclass(frozen=True, slots=True)
class Nothing:
    """Prunes nothing."""

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:  # noqa: ARG002
        return None


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving without waiting: at epoch first_rung * eta^k only the best 1/eta of those that reached it go on.

    With fewer than `eta` there, all go on. Equal scores share a rank. Source: ASHA (Li et al., 2020, arXiv:1810.05934),
    its stopping variant (Syne Tune's "stopping" type), with the best score so far instead of the last one. Where a study
    does not say `first_rung`, `make` takes a ninth of its epochs (docs/search.md tells why).

    `first_rung` is that of a trial with the most epochs. One with fewer has its rungs as much earlier, so that trials of any
    length are compared, each at its own rungs with all that have come as far (docs/decisions/0014).
    """

    first_rung: int = 1
    eta: int = 4

    def __post_init__(self) -> None:
        _check(self.first_rung >= 1, "first_rung", "be at least 1", self.first_rung)
        _check(self.eta >= 2, "eta", "be at least 2", self.eta)

    def is_rung(self, epoch: int, share: float = 1.0) -> bool:
        """Whether trials of so large a share of the most epochs are compared at `epoch`."""
        rung = max(1, round(self.first_rung * share))
        while rung < epoch:
            rung *= self.eta
        return rung == epoch

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        return self.reason_among(standings.at(epoch, reached=True), trial, epoch, share)

    def reason_among(self, scores: NDArray[np.float64], trial: int, epoch: int, share: float) -> str | None:
        """Judge `trial` among those trials whose `scores` are numbers."""
        if not self.is_rung(epoch, share):
            return None
        there = int(np.count_nonzero(~np.isnan(scores)))
        rank = 1 + int(np.count_nonzero(scores > scores[trial]))
        if there < self.eta or rank <= math.ceil(there / self.eta):
            return None
        return f"rung {epoch}: rank {rank} of {there}"


@dataclass(frozen=True, slots=True)
class Hyperband:
    """Several halvings side by side, each with a later first rung, trials dealt out by their number.

    Bracket s has its first rung at first_rung * eta^s and gets eta times fewer trials than bracket s - 1, so that all
    brackets cost about alike. Source: Hyperband (Li et al., 2018, arXiv:1603.06560), as asynchronous brackets.
    """

    first_rung: int = 1
    eta: int = 3
    brackets: int = 3

    def __post_init__(self) -> None:
        Halving(self.first_rung, self.eta)
        _check(1 <= self.brackets <= 10, "brackets", "be in 1..10", self.brackets)

    def bracket(self, trials: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each trial's bracket: of every 1 + eta + eta^2 ... trials, most go to bracket 0."""
        sizes = [self.eta ** (self.brackets - 1 - s) for s in range(self.brackets)]
        places: NDArray[np.int64] = np.searchsorted(np.cumsum(sizes), trials % sum(sizes), side="right").astype(
            np.int64
        )
        return places

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        scores = standings.at(epoch, reached=True)
        brackets = self.bracket(np.arange(len(scores)))
        mine = int(brackets[trial])
        halving = Halving(self.first_rung * self.eta**mine, self.eta)
        among = np.where(brackets == mine, scores, math.nan)
        why = halving.reason_among(among, trial, epoch, share)
        return f"bracket {mine}, {why}" if why else None


@dataclass(frozen=True, slots=True)
class Percentile:
    """Prunes what is not among the best `percentile` % of all trials at the same epoch, ended ones with their last score.

    Attributes:
        startup_trials: how many others must have come as far (or have ended) before anything is pruned.
        warmup_epochs: up to this epoch nothing is pruned.
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
        """Return the score that a trial needs."""
        # Between -inf and a number numpy finds no number, and every score is as good as that.
        with np.errstate(invalid="ignore"):
            return float(np.percentile(others, 100 - self.percentile))


@dataclass(frozen=True, slots=True)
class Median(Percentile):
    """Prunes what is worse than the median of all trials at the same epoch (Vizier's median rule, KDD 2017)."""

    percentile: float = field(default=50.0, init=False)


@dataclass(frozen=True, slots=True)
class Patient:
    """Lets another pruner act only on a trial that has not got better for more than `patience` epochs."""

    wrapped: Pruner = Median()
    patience: int = 3

    def __post_init__(self) -> None:
        _check(self.patience >= 0, "patience", "be at least 0", self.patience)

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        earlier = epoch - self.patience - 1
        if earlier < 1 or standings.score(trial, epoch) > standings.score(trial, earlier):
            return None
        why = self.wrapped.reason(standings, trial, epoch, share)
        return f"{why}, no better for {self.patience + 1} epochs" if why else None


@dataclass(frozen=True, slots=True)
class Sparing:
    """Another pruner whose word is not the last: what `spares`, asked for (trial, epoch), still expects much of goes on."""

    wrapped: Pruner
    spares: Callable[[int, int], bool]

    def reason(self, standings: Standings, trial: int, epoch: int, share: float = 1.0) -> str | None:
        why = self.wrapped.reason(standings, trial, epoch, share)
        return None if why and self.spares(trial, epoch) else why


def first_rung(epochs: int) -> int:
    """Return the first rung of a halving in a study of so many epochs that does not say one: a ninth of them."""
    return max(1, round(epochs / 9))


def make(name: str, options: Mapping[str, Any], *, epochs: int) -> Pruner:
    """Make the pruner `name` for a study of so many epochs; OptionError naming the option that is unknown or out of range."""
    if name not in PRUNERS:
        raise OptionError(f"no such pruner: {name!r}{closest(name, PRUNERS)}; there are {', '.join(PRUNERS)}")
    kind, given = PRUNERS.get(name), dict(options)
    if kind is Halving:
        given.setdefault("first_rung", first_rung(epochs))
    known = {option.name: option.default for option in fields(kind) if option.init}
    for key, value in given.items():
        if key not in known:
            has = f"it has {', '.join(known) or 'none'}"
            raise OptionError(f"the pruner {name} has no option {key!r}{closest(key, known)}; {has}", key)
        if key == "wrapped":
            given[key] = _wrapped(value, epochs)
            continue
        whole = isinstance(known[key], int)
        if not is_number(value) or (whole and not isinstance(value, int)):
            raise OptionError(f"{key} must be a {'whole ' if whole else ''}number; received {value!r}", key)
    return kind(**given)  # type: ignore[no-any-return]


def _wrapped(value: Any, epochs: int) -> Pruner:
    inner = {"name": value} if isinstance(value, str) else value
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise OptionError(f"wrapped must be a pruner's name or a table with one; received {value!r}", "wrapped")
    try:
        return make(inner["name"], {key: option for key, option in inner.items() if key != "name"}, epochs=epochs)
    except OptionError as error:
        raise OptionError(str(error), f"wrapped.{error.option}".rstrip(".")) from None
