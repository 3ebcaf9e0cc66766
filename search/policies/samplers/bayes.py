"""The default sampler: Bayesian optimization by a Gaussian process over configs and epochs (docs/search.md).

It fits the Gaussian process to all epochs of all trials, pruned and running ones included. The hyperparameters are stored
with the trial that was drawn when they were learned, so that a restarted command draws the same configs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from search.policies.samplers import SearchProblem
from search.policies.samplers.candidates import squared_distances
from search.policies.samplers.encoding import Array, Encoding
from search.policies.samplers.gaussian_process import GaussianProcess, Hyperparameters, learn, log_expected_improvement
from search.policies.samplers.observations import Observations
from search.spec.settings import DEFAULT_EPOCHS
from search.trials.streams import stream
from search.trials.trial import Trials
from spaces import Choice

KEY = "manyfit:bayes"
# The first configs are quasi-random, until this many trials have a score to learn from.
STARTUP = 16
# The most rows of the Gaussian process (a trial has at most two), and the most that hyperparameters are learned from.
ROWS, LEARNED_ROWS = 400, 300
# The hyperparameters are learned again when the number of trials with a score has grown by this factor.
GROWTH = 1.15
# The sampler vetoes pruning if the trial's expected improvement per epoch is at least VETO_SHARE * running trials of that of
# a new config. With many lanes a continued trial informs few other draws, while new configs explore.
VETO_SHARE = 1 / 3
# The random stream of the new config that a veto compares with; stream 0 is for draws.
_VETO_STREAM = 3
# The acquisition is maximized from EVEN uniform points and AROUND * 2 points near each of the BEST trials. The SEARCHES best
# of either set each start a local search of STEPS steps. A step tries EACH neighbours, nearer each time. Before the steps
# HALVED, the worse half of the local searches is dropped.
EVEN, BEST, AROUND = 512, 5, 32
SEARCHES, STEPS, EACH, HALVED = 8, 12, 16, (3, 6)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the Gaussian process has learned, for people and programs.

    Attributes:
        length_scales: by parameter, as a share of its warped range. A parameter with a large one matters little.
        middles: the value in the middle of each warped range. It lies low where scores change most at low values.
        noise: standard deviation of what config and epoch do not explain, in the objective's unit.
        trial: number of the trial with the best posterior mean after all epochs, which is `value`, with standard deviation
            `deviation`.
    """

    length_scales: Mapping[str, float]
    middles: Mapping[str, Any]
    noise: float
    trial: int
    value: float
    deviation: float


class BayesSampler:
    """Bayesian optimization of the last epoch's score, from the scores at all epochs."""

    @staticmethod
    def prepare() -> None:
        """Import SciPy."""
        import scipy.linalg
        import scipy.optimize
        import scipy.special  # noqa: F401
        from scipy.stats import qmc  # noqa: F401

    def __init__(self, problem: SearchProblem) -> None:
        import scipy.linalg  # noqa: F401 (loads SciPy's own BLAS, which the controller of threads must find)

        self._space, self._seed, self._epochs = problem.space, problem.seed, problem.epochs
        self._objective = problem.objective
        self.encoding = Encoding(problem.space)
        self._d = len(self.encoding)
        self._candidates = [dict(candidate) for candidate in problem.candidates]
        self._choices = np.array([self.encoding.point(candidate) for candidate in self._candidates])
        self._observed = Observations(self._epochs, self._d)
        self._log_position = 0
        self._hyperparameters: Hyperparameters | None = None
        self._learned_from = 0
        # The last trial at which hyperparameters were learned, and the attributes to store with it.
        self._learned: tuple[int, dict[str, Any]] = (-1, {})
        self._threads = ThreadpoolController()

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        number = len(trials)
        self._update(trials)
        rng = np.random.default_rng(stream(self._seed, 0, number, attempt))
        # One BLAS thread: sums are reproducible bit for bit, and the other cores stay free for training.
        with self._threads.limit(limits=1, user_api="blas"):
            point = self._point(number, attempt, rng, self._open(given))[0]
        if self._candidates:
            place = int((np.abs(self._choices - point).sum(axis=1)).argmin())
            learned_at, attrs = self._learned
            return dict(self._candidates[place]), attrs if learned_at == number else {}
        if given:  # given parents may activate parameters that are inactive (0) in the drawn point
            point = np.where(point == 0, rng.random(self._d), point)
        learned_at, attrs = self._learned
        return self.encoding.params(point, given), attrs if learned_at == number else {}

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        return {}  # this sampler stores everything with trials

    def _update(self, trials: Trials) -> None:
        """Read the trials that changed since the last update."""
        changed, self._log_position = trials.since(self._log_position)
        for trial in changed:
            if trial.number >= len(self._observed):
                self._observed.add(trial.number, self.encoding.point(trial.params))
                if learned := trial.attrs.get(KEY):
                    # "beliefs" are the hyperparameters: databases and JSON output made before have this key.
                    stored, self._learned_from = learned["beliefs"], learned["trials"]
                    self._hyperparameters = Hyperparameters.read(stored, self._d)
            self._observed.update(trial, self._objective)

    def vetoes_pruning(self, trials: Trials, number: int, epoch: int) -> bool:
        """Return whether a trial that halving would prune after `epoch` goes on.

        A config may be drawn because its scores are expected to rise late; then low early scores are no reason to prune it.
        So the trial's expected improvement over the best other trial, divided by the epochs it has left, is compared with
        that of the best new config, divided by all of its epochs.
        """
        self._update(trials)
        if self._hyperparameters is None or not self._observed.count_informative(len(trials)):
            return False
        rng = np.random.default_rng(stream(self._seed, _VETO_STREAM, number, epoch))
        with self._threads.limit(limits=1, user_api="blas"):
            posterior = self._posterior(len(trials), self._hyperparameters, without=number)
            trial = self._observed.points[number]
            per_epoch = posterior.acquisition(trial[None])[0] - np.log(self._epochs_of(trial) - epoch)
            margin = np.log(VETO_SHARE * self._observed.count_running(len(trials)))

            def refuses(acquisition: float, epochs: int) -> bool:
                return not per_epoch >= acquisition - np.log(epochs) + margin

            # Where all configs train equally long, a new one that refuses the veto decides: the best one refuses it, too.
            is_enough = None if "epochs" in self._space else lambda value: refuses(value, self._epochs)
            point, acquisition = self._maximize_acquisition(posterior, rng, self._open({}), is_enough)
            return not refuses(acquisition, self._epochs_of(point[0]))

    def outlook(self, trials: Trials, first: int = 0) -> Outlook | None:
        """Return what the Gaussian process has learned from `trials`; None before it has learned anything.

        The best trial is looked for among those from number `first` on: the ones before it are another study's.
        """
        self._update(trials)
        if self._hyperparameters is None or not self._observed.count_informative(len(trials)):
            return None
        own = self._observed.with_score(first, len(trials))
        if not len(own):
            return None
        with self._threads.limit(limits=1, user_api="blas"):
            posterior = self._posterior(len(trials), self._hyperparameters)
            best = int(own[np.argmax(posterior.predict(self._observed.points[own])[0])])
            mean, deviation = posterior.predict(self._observed.points[[best]])
        middles = self.encoding.params(self._hyperparameters.middles)
        ranges = [name for k, name in enumerate(self._space) if k in self.encoding.layout.ranges]
        return Outlook(
            length_scales=dict(zip(self._space, map(float, self._hyperparameters.length_scales), strict=True)),
            middles={name: middles[name] for name in ranges if not isinstance(self._space[name], Choice)},
            noise=posterior.process.noise,
            trial=best - first,
            value=self._objective.sign * float(mean[0]),
            deviation=float(deviation[0]),
        )

    def _epochs_of(self, point: Array) -> int:
        """Return how many epochs the config at `point` trains; the space may have a parameter "epochs"."""
        default = DEFAULT_EPOCHS if "epochs" in self._space else self._epochs
        return int(self.encoding.params(point).get("epochs", default))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def _open(self, given: Mapping[str, Any]) -> Array:
        """Return the points of the candidates that hold `given` and that no trial has; all of them if there is none."""
        if not self._candidates:
            return self._choices
        fits = np.array([given.items() <= candidate.items() for candidate in self._candidates])
        is_open = fits & ~np.array(self._observed.has(self._choices))
        return self._choices[is_open if is_open.any() else slice(None)]

    def _point(self, number: int, attempt: int, rng: np.random.Generator, choices: Array) -> Array:
        """Return the point to try as trial `number`, of shape (1, d): one of `choices`, unless these are empty."""
        informative = self._observed.count_informative(number)
        if informative < STARTUP:
            drawn = self._quasi_random(number) if attempt == 0 else self.encoding.snapped(rng.random((1, self._d)))
            return self._nearest(choices, drawn) if len(choices) else drawn
        if self._hyperparameters is None or informative >= GROWTH * self._learned_from:
            rows = self._observed.rows(number, LEARNED_ROWS)
            features = self.encoding.features(self._observed.points[rows.trials])
            written = learn(features, self.encoding.layout, rows.epochs, rows.scores, self._hyperparameters).written()
            # Read back what is stored: a restarted command then has the same hyperparameters, to the last bit.
            self._hyperparameters, self._learned_from = Hyperparameters.read(written, self._d), informative
            self._learned = number, {KEY: {"beliefs": written, "trials": informative}}
        return self._maximize_acquisition(self._posterior(number, self._hyperparameters), rng, choices)[0]

    def _nearest(self, choices: Array, point: Array) -> Array:
        return choices[[int(squared_distances(self.encoding, choices, point[0]).argmin())]]

    def _quasi_random(self, number: int) -> Array:
        from scipy.stats import qmc  # a resumed study may not need it

        sequence = qmc.Sobol(self._d, scramble=True, rng=stream(self._seed, 0))
        if number:  # fast_forward(0) raises
            sequence.fast_forward(number)
        return self.encoding.snapped(sequence.random(1))

    def _posterior(self, number: int, hyperparameters: Hyperparameters, *, without: int | None = None) -> _Posterior:
        """Return the posterior after the trials before `number`. Improvement counts over the best of them but `without`."""
        rows = self._observed.rows(number, ROWS)
        features = self.encoding.features(self._observed.points[rows.trials])
        process = GaussianProcess(hyperparameters, features, self.encoding.layout, rows.epochs, rows.scores)
        others = rows.running[rows.running != without]
        if len(others):
            process.fantasize(self.encoding.features(self._observed.points[others]), self._epochs)
        trials = np.union1d(rows.trials, others)
        trials = trials[trials != without]
        return _Posterior(process, self.encoding, self._epochs, trials, self._observed.points[trials])

    def _maximize_acquisition(
        self,
        posterior: _Posterior,
        rng: np.random.Generator,
        choices: Array | None = None,
        is_enough: Callable[[float], bool] | None = None,
    ) -> tuple[Array, float]:
        """Return the new point with the highest acquisition, of shape (1, d), and that acquisition.

        If there are `choices`, it is one of them. The search ends at an acquisition that `is_enough`; it never falls.
        """
        if choices is not None and len(choices):
            values = posterior.acquisition(choices)
            best = int(values.argmax())
            return choices[[best]], float(values[best])

        def acquisition(points: Array) -> Array:
            values = posterior.acquisition(points)
            values[self._observed.has(points)] = -np.inf
            return values

        leaders = posterior.points[np.argsort(-posterior.means, kind="stable")[:BEST]]
        near = np.concatenate([self._neighbours(leaders, AROUND, reach, rng) for reach in (0.2, 0.05)])
        pools = [self.encoding.snapped(points) for points in (rng.random((EVEN, self._d)), near)]
        points = np.concatenate([pool[np.argsort(-acquisition(pool), kind="stable")[:SEARCHES]] for pool in pools])
        values, reach = acquisition(points), 0.3
        for step in range(STEPS):
            if is_enough is not None and is_enough(float(values.max())):
                break
            if step in HALVED:
                kept = np.argsort(-values, kind="stable")[: len(points) // 2]
                points, values = points[kept], values[kept]
            more = self.encoding.snapped(self._neighbours(points, EACH, reach, rng))
            tried = np.concatenate([points[:, None], more.reshape(len(points), EACH, -1)], axis=1)
            tried_values = np.concatenate([values[:, None], acquisition(more).reshape(len(points), EACH)], axis=1)
            best, rows = tried_values.argmax(axis=1), np.arange(len(points))
            points, values = tried[rows, best], tried_values[rows, best]
            reach *= 0.75
        best_row = int(np.argmax(values))
        return points[[best_row]], float(values[best_row])

    def _neighbours(self, points: Array, each: int, reach: float, rng: np.random.Generator) -> Array:
        """Return `each` neighbours of every point: half of the coordinates move by about `reach`, choices are redrawn."""
        near = np.repeat(points, each, axis=0)
        moved = np.clip(near + rng.normal(0, reach, near.shape), 0, 1)
        for k in self.encoding.unordered:
            moved[:, k] = rng.random(len(near))
        return np.where(rng.random(near.shape) < 0.5, moved, near)


class _Posterior:
    """The posterior of the scores after all epochs.

    Attributes:
        trials: numbers of the trials it is conditioned on, of shape (n,); `points`, of shape (n, d), are theirs.
        means: the posterior means of their scores, of shape (n,).
    """

    def __init__(
        self, process: GaussianProcess, encoding: Encoding, epochs: int, trials: NDArray[np.intp], points: Array
    ) -> None:
        self.process, self.trials, self.points = process, trials, points
        self._encoding, self._epochs = encoding, epochs
        self.means = self.predict(points)[0]
        self._best = float(self.means.max())

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return the mean and standard deviation of the scores at points of shape (n, d)."""
        return self.process.predict(self._encoding.features(points), self._epochs)

    def acquisition(self, points: Array) -> Array:
        """Return the logarithm of the expected improvement over the best mean, at points of shape (n, d)."""
        return log_expected_improvement(*self.predict(points), self._best)
