"""The default: draws where a Gaussian process over configs and epochs expects the best last epochs (docs/search.md).

It learns from every trial, pruned and running ones included, as far as each has come. What it has learned of length scales,
warps and noise is kept with the trial that was drawn when it was learned, so that a new process goes on from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from search.policies.samplers import Searched
from search.policies.samplers.encoding import Array, Encoding
from search.policies.samplers.gaussian_process import Beliefs, Process, learn, log_improvement
from search.spec.settings import DEFAULT_EPOCHS
from search.trials.objective import Objective
from search.trials.streams import stream
from search.trials.trial import Trial, Trials
from spaces import Choice

KEY = "manyfit:bayes"
# So many quasi-random configs come first: that many must have a score before anything is learned.
STARTUP = 16
# Scores are read at the last epoch, at half of it, a quarter ...: five levels, the lowest a sixteenth. At the same epochs for
# all trials, so that what is compared is configs and not how long they have trained.
LEVELS = 5
# So many levels down is a quarter of the epochs.
QUARTER = 2
# A score further below the median than so many times what the best tenth is above it counts as just that bad: how bad is
# not worth a process's while. Both are of the first trials' scores at the first level, which come from the whole space.
FLOOR, FLOOR_TRIALS = 3.0, 32
# Rows of the process, of which each trial has two at most, and of those that beliefs are learned from.
ROWS, LEARNED_ROWS = 400, 300
# Beliefs are learned anew when there is so much more to learn from.
GROWTH = 1.15
# What halving would end goes on if an epoch more of it promises at least this share of what one of a new config does, times
# the trials under way: with many at a time, those that go on are late to tell anything, and new ones look around.
SPARED = 1 / 3
# Beside stream 0, which draws are made of: what they are compared with.
_COMPARED = 3
# The search for the best config: of some drawn evenly and some around the best, the most promising of either kind each begin
# a local search of their own. Its steps go to the best of a few configs around, less far each time; the less promising half
# of all searches is given up before some of the steps.
EVEN, BEST, AROUND = 512, 5, 32
SEARCHES, STEPS, EACH, HALVED = 8, 12, 16, (3, 6)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the process believes.

    Attributes:
        length_scales: by parameter, in shares of its range as it is warped: over how much of it scores change. One with a
            large one matters little.
        middles: the value in the middle of each range as it is warped: where scores change faster below it, it lies low.
        noise: standard deviation of what config and epoch do not explain, in the objective's unit.
        trial: the one of which the most is expected after all epochs; `value` of it, give or take `deviation`.
    """

    length_scales: Mapping[str, float]
    middles: Mapping[str, Any]
    noise: float
    trial: int
    value: float
    deviation: float


class BayesSampler:
    """Bayesian optimization of the last epoch's score, from the scores at all epochs."""

    def __init__(self, searched: Searched) -> None:
        self._space, self._seed, self._epochs = searched.space, searched.seed, searched.epochs
        self._objective = searched.objective
        self.encoding = Encoding(searched.space)
        self._d = len(self.encoding)
        self._seen = _Seen(self._epochs, self._d)
        self._log = 0
        self._beliefs: Beliefs | None = None
        self._learned_from = 0
        # The trial that is drawn when something is learned, and what is kept with it.
        self._learned: tuple[int, dict[str, Any]] = (-1, {})
        self._threads = ThreadpoolController()

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        number = len(trials)
        self._look(trials)
        rng = np.random.default_rng(stream(self._seed, 0, number, attempt))
        # Sums in one thread come out the same whatever else the machine does, and leave its cores to the training.
        with self._threads.limit(limits=1, user_api="blas"):
            point = self._point(number, attempt, rng)[0]
        if given:  # with other parents, parameters may be active that are not in what was drawn
            point = np.where(point == 0, rng.random(self._d), point)
        learned_at, attrs = self._learned
        return self.encoding.params(point, given), attrs if learned_at == number else {}

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        return {}  # all that it keeps, it keeps with trials

    def _look(self, trials: Trials) -> None:
        """Take in what has become of trials since the last look."""
        changed, self._log = trials.since(self._log)
        for trial in changed:
            if trial.number >= len(self._seen):
                self._seen.place(trial.number, self.encoding.point(trial.params))
                if learned := trial.attrs.get(KEY):
                    self._beliefs, self._learned_from = Beliefs.read(learned["beliefs"], self._d), learned["trials"]
            self._seen.see(trial, self._objective)

    def spares(self, trials: Trials, number: int, epoch: int) -> bool:
        """Tell whether a trial that halving would end after `epoch` is to go on.

        Where a late bloomer was drawn because it is expected to be one, a bad beginning is no news. So the improvement that
        is expected of the trial, over the best that is expected of any other and for each epoch left, is compared with that
        of the best new config, for each of its epochs.
        """
        self._look(trials)
        if self._beliefs is None or not self._seen.known(len(trials)):
            return False
        rng = np.random.default_rng(stream(self._seed, _COMPARED, number, epoch))
        with self._threads.limit(limits=1, user_api="blas"):
            view = self._view(len(trials), self._beliefs, without=number)
            trial = self._seen.points[number]
            mine = view.promise(trial[None])[0] - np.log(self._epochs_of(trial) - epoch)
            point, promised = self._most_promising(view, rng)
            new = promised - np.log(self._epochs_of(point[0]))
        return bool(mine >= new + np.log(SPARED * self._seen.running(len(trials))))

    def outlook(self, trials: Trials) -> Outlook | None:
        """Return what the process believes of trials; None before it has learned anything."""
        self._look(trials)
        if self._beliefs is None or not self._seen.known(len(trials)):
            return None
        with self._threads.limit(limits=1, user_api="blas"):
            view = self._view(len(trials), self._beliefs)
            best = int(view.trials[np.argmax(view.expected)])
            mean, deviation = view.predict(self._seen.points[[best]])
        middles = self.encoding.params(self._beliefs.middles)
        ranges = [name for k, name in enumerate(self._space) if k in self.encoding.layout.ranges]
        return Outlook(
            length_scales=dict(zip(self._space, map(float, self._beliefs.length_scales), strict=True)),
            middles={name: middles[name] for name in ranges if not isinstance(self._space[name], Choice)},
            noise=view.process.noise,
            trial=best,
            value=self._objective.sign * float(mean[0]),
            deviation=float(deviation[0]),
        )

    def _epochs_of(self, point: Array) -> int:
        """Return the epochs of a config, which may be one of its parameters."""
        otherwise = DEFAULT_EPOCHS if "epochs" in self._space else self._epochs
        return int(self.encoding.params(point).get("epochs", otherwise))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def _point(self, number: int, attempt: int, rng: np.random.Generator) -> Array:
        """Return the point for a trial, of shape (1, d)."""
        known = self._seen.known(number)
        if known < STARTUP:
            return self._spread_out(number) if attempt == 0 else self.encoding.snapped(rng.random((1, self._d)))
        if self._beliefs is None or known >= GROWTH * self._learned_from:
            rows = self._seen.rows(number, LEARNED_ROWS)
            features = self.encoding.features(self._seen.points[rows.trials])
            written = learn(features, self.encoding.layout, rows.epochs, rows.scores, self._beliefs).written()
            # As a new process will read them, to the last bit.
            self._beliefs, self._learned_from = Beliefs.read(written, self._d), known
            self._learned = number, {KEY: {"beliefs": written, "trials": known}}
        return self._most_promising(self._view(number, self._beliefs), rng)[0]

    def _spread_out(self, number: int) -> Array:
        from scipy.stats import qmc  # a third of a second, which a study that goes on may never need

        sequence = qmc.Sobol(self._d, scramble=True, rng=stream(self._seed, 0))
        if number:  # it can't be forwarded by nothing
            sequence.fast_forward(number)
        return self.encoding.snapped(sequence.random(1))

    def _view(self, number: int, beliefs: Beliefs, *, without: int | None = None) -> _View:
        """Return what is believed after the trials before `number`; the best of them is the best of all but `without`."""
        rows = self._seen.rows(number, ROWS)
        features = self.encoding.features(self._seen.points[rows.trials])
        process = Process(beliefs, features, self.encoding.layout, rows.epochs, rows.scores)
        others = rows.running[rows.running != without]
        if len(others):
            process.suppose(self.encoding.features(self._seen.points[others]), self._epochs)
        trials = np.union1d(rows.trials, others)
        trials = trials[trials != without]
        return _View(process, self.encoding, self._epochs, trials, self._seen.points[trials])

    def _most_promising(self, view: _View, rng: np.random.Generator) -> tuple[Array, float]:
        """Return the point of the most promising new config, of shape (1, d), and the logarithm of what it promises."""

        def promise(points: Array) -> Array:
            promises = view.promise(points)
            promises[self._seen.has(points)] = -np.inf
            return promises

        leaders = view.points[np.argsort(-view.expected, kind="stable")[:BEST]]
        near = np.concatenate([self._around(leaders, AROUND, reach, rng) for reach in (0.2, 0.05)])
        kinds = [self.encoding.snapped(points) for points in (rng.random((EVEN, self._d)), near)]
        points = np.concatenate([kind[np.argsort(-promise(kind), kind="stable")[:SEARCHES]] for kind in kinds])
        promises, reach = promise(points), 0.3
        for step in range(STEPS):
            if step in HALVED:
                kept = np.argsort(-promises, kind="stable")[: len(points) // 2]
                points, promises = points[kept], promises[kept]
            more = self.encoding.snapped(self._around(points, EACH, reach, rng))
            tried = np.concatenate([points[:, None], more.reshape(len(points), EACH, -1)], axis=1)
            promised = np.concatenate([promises[:, None], promise(more).reshape(len(points), EACH)], axis=1)
            best, of_each = promised.argmax(axis=1), np.arange(len(points))
            points, promises = tried[of_each, best], promised[of_each, best]
            reach *= 0.75
        most = int(np.argmax(promises))
        return points[[most]], float(promises[most])

    def _around(self, points: Array, each: int, reach: float, rng: np.random.Generator) -> Array:
        """Return points near others: half of the numbers of each moved a little, choices drawn anew."""
        near = np.repeat(points, each, axis=0)
        moved = np.clip(near + rng.normal(0, reach, near.shape), 0, 1)
        for k in self.encoding.unordered:
            moved[:, k] = rng.random(len(near))
        return np.where(rng.random(near.shape) < 0.5, moved, near)


class _View:
    """What a process expects after all epochs.

    Attributes:
        trials: those it has seen, of shape (n,); `points`, of shape (n, d), are theirs.
        expected: what it expects of each, of shape (n,).
    """

    def __init__(
        self, process: Process, encoding: Encoding, epochs: int, trials: NDArray[np.intp], points: Array
    ) -> None:
        self.process, self.trials, self.points = process, trials, points
        self._encoding, self._epochs = encoding, epochs
        self.expected = self.predict(points)[0]
        self._best = float(self.expected.max())

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the scores at points of shape (n, d)."""
        return self.process.predict(self._encoding.features(points), self._epochs)

    def promise(self, points: Array) -> Array:
        """Return the logarithm of the improvement that is expected over the best, at points of shape (n, d)."""
        return log_improvement(*self.predict(points), self._best)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a process is to see: `scores[i]` of `trials[i]` after `epochs[i]`, and the trials that are under way."""

    trials: NDArray[np.intp]
    epochs: Array
    scores: Array
    running: NDArray[np.intp]


_RUNNING, _ENDED, _BAD = range(3)
_MOST = 1e100


class _Seen:
    """All trials as arrays, a row each. Scores grow with quality; that of an epoch is the best up to it."""

    def __init__(self, epochs: int, parameters: int) -> None:
        self._epochs = epochs
        self._trials = 0
        self._levels = sorted({max(1, round(epochs / 2**k)) for k in range(LEVELS)})
        self.points = np.zeros((64, parameters))
        self._at_level = np.full((64, len(self._levels)), np.nan)
        self._best = np.full(64, -np.inf)
        self._state = np.zeros(64, np.intp)
        self._epoch = np.zeros(64, np.intp)
        self._places: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return self._trials

    def place(self, trial: int, point: Array) -> None:
        """Let the next trial be at a point."""
        if trial >= len(self.points):
            for name, empty in (("points", 0), ("_at_level", np.nan), ("_best", -np.inf), ("_state", 0), ("_epoch", 0)):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.full_like(array, empty)]))
        self._trials = trial + 1
        self.points[trial] = point
        self._places[_places(point[None])[0]] += 1

    def see(self, trial: Trial, objective: Objective) -> None:
        """Take in what has become of a trial; one that diverged or failed stands for the worst score there is."""
        number = trial.number
        for epoch, value in objective.by_epoch(trial, int(self._epoch[number])).items():
            # Clip, so that sums of squares stay finite in float64.
            self.report(number, epoch, min(max(objective.sign * value, -_MOST), _MOST))
        if trial.is_ended and self._state[number] == _RUNNING:
            is_bad = trial.ended == "diverged" or trial.state == "FAIL"
            self.end(number, is_bad=is_bad, is_complete=trial.state == "COMPLETE")

    def has(self, points: Array) -> list[bool]:
        """Tell at which points, of shape (n, d), there is a trial."""
        return [self._places[place] > 0 for place in _places(points)]

    def report(self, trial: int, epoch: int, score: float) -> None:
        """Note the score of one epoch."""
        self._best[trial], self._epoch[trial] = max(self._best[trial], score), epoch
        for k, level in enumerate(self._levels):
            if level <= epoch and np.isnan(self._at_level[trial, k]):
                self._at_level[trial, k] = self._best[trial]

    def end(self, trial: int, *, is_bad: bool, is_complete: bool) -> None:
        """Note how a trial ended: what is complete keeps its score for all epochs to come."""
        self._state[trial] = _BAD if is_bad else _ENDED
        if is_bad or self._best[trial] == -np.inf:
            return
        later = np.isnan(self._at_level[trial])
        if not is_complete:  # one that was pruned before the first level is counted there, with what it had
            later[1:] = False
        self._at_level[trial, later] = self._best[trial]

    def running(self, number: int) -> int:
        """Return how many of the trials before `number` are under way."""
        return int(np.count_nonzero(self._state[:number] == _RUNNING))

    def known(self, number: int) -> int:
        """Return how many of the trials before `number` have come to the first level or will not; 0 if all of them failed."""
        ended_or_there = (self._reached(number) > 0) | (self._state[:number] != _RUNNING)
        return int(np.count_nonzero(ended_or_there)) if self._reached(number).any() else 0

    def rows(self, number: int, limit: int) -> _Rows:
        """Return about `limit` rows of the trials before `number`, and those of them that are under way.

        A trial has a row at the highest level that it has reached and one at a quarter of that: from the two a process learns
        how early scores foretell late ones. Of very many trials, half of those chosen are the best, for that is where the
        next config is looked for, and half come evenly from the whole study.
        """
        reached, is_bad = self._reached(number), self._state[:number] == _BAD
        scores = self._at_level[np.arange(number), reached - 1]
        chosen = _chosen(np.flatnonzero((reached > 0) | is_bad), np.where(is_bad, -np.inf, scores), limit // 2)
        late, bad = chosen[~is_bad[chosen]], chosen[is_bad[chosen]]
        early = late[reached[late] > QUARTER]
        middle, high = np.quantile(self._at_level[:number, 0][reached > 0][:FLOOR_TRIALS], [0.5, 0.9])
        floor = middle - FLOOR * (high - middle)
        seen = np.maximum(np.concatenate([scores[late], self._at_level[early, reached[early] - 1 - QUARTER]]), floor)
        levels = np.array(self._levels, float)
        return _Rows(
            trials=np.concatenate([late, early, bad]),
            epochs=np.concatenate(
                [levels[reached[late] - 1], levels[reached[early] - 1 - QUARTER], np.full(len(bad), self._epochs)]
            ),
            scores=np.concatenate([seen, np.full(len(bad), seen.min())]),
            running=np.flatnonzero((self._state[:number] == _RUNNING) & (reached < len(levels))),
        )

    def _reached(self, number: int) -> NDArray[np.intp]:
        """Return how many levels each of the trials before `number` has reached; 0 for those that went wrong."""
        there = np.count_nonzero(~np.isnan(self._at_level[:number]), axis=1)
        return np.where(self._state[:number] == _BAD, 0, there)


def _places(points: Array) -> list[bytes]:
    # The same config may come to numbers that differ in their last digits.
    return [row.tobytes() for row in np.round(points, 9)]


def _chosen(trials: NDArray[np.intp], scores: Array, limit: int) -> NDArray[np.intp]:
    """Return all trials or, of more than `limit`, those with the best scores and as many of the others, evenly, in order."""
    if len(trials) <= limit:
        return trials
    order = trials[np.argsort(-scores[trials], kind="stable")]
    best, others = order[: limit // 2], np.sort(order[limit // 2 :])
    evenly = others[np.linspace(0, len(others) - 1, limit - limit // 2).round().astype(np.intp)]
    return np.sort(np.concatenate([best, evenly]))
