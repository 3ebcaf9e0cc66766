"""A Gaussian process over configs and epochs: any config's score after any number of epochs, and how sure that is.

The kernel is k(x, x') k(t, t') + m(t, t'): a Matern 5/2 over features x with a length scale a parameter, times one over the
logarithm t of the epoch, and a mean that moves with t and that all configs share. Length scales, warps and noise maximize the
marginal likelihood under weak priors; the amplitude follows from them. Sources: Rasmussen & Williams 2006, chapters 2, 4
and 5; Swersky et al. 2013 (NeurIPS) for fidelities as inputs of the kernel; Hvarfner et al. 2024 (arXiv:2402.02229) for a
prior of the length scales that grows with the root of the number of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize

from search.policies.samplers.encoding import Array, Layout

# Of the mean that all configs share, in units of the scores' spread: its variance at one epoch, and that of its level. It
# changes over about so many e-folds of epochs.
_MEAN, _LEVEL, _MEAN_SCALE = 4.0, 4.0, 1.5
# Added to the noise so that two nearly equal rows can be told apart in 64 bits.
_JITTER = 1e-8
# Weight of the prior of the amplitude, in rows.
_AMPLITUDE_ROWS = 2.0
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What a process has learned.

    Attributes:
        warps: of shape (d, 2), a and b by parameter, whose u on [0, 1] counts as 1 - (1 - u^a)^b. 1 and 1, which leave u as
            it is, for what is no range.
        length_scales: by parameter, in shares of its warped range.
        epoch_scale: in e-folds of epochs.
        noise: its variance as a share of that of the scores.
    """

    warps: Array
    length_scales: Array
    epoch_scale: float
    noise: float

    @classmethod
    def prior(cls, parameters: int) -> Beliefs:
        """Return what is believed before anything is known."""
        lengths = np.full(parameters, 0.5 * math.sqrt(parameters))
        return cls(np.ones((parameters, 2)), lengths, 2.0, math.exp(-8.0))

    @classmethod
    def read(cls, numbers: Sequence[float], parameters: int) -> Beliefs:
        """Read what `written` returned of so many parameters; older databases have numbers without warps."""
        warps, rest = np.split(np.exp(numbers), [len(numbers) - parameters - 2])
        warps = warps.reshape(-1, 2) if len(warps) else np.ones((parameters, 2))
        return cls(warps, rest[:-2], float(rest[-2]), float(rest[-1]))

    @property
    def middles(self) -> Array:
        """The u of each parameter that counts as half of its range, of shape (d,)."""
        a, b = self.warps.T
        middles: Array = (1 - 0.5 ** (1 / b)) ** (1 / a)
        return middles

    def written(self) -> list[float]:
        """Return plain numbers, the same bit for bit in any process that reads them."""
        return [float(number) for number in self._vector()]

    def _vector(self) -> Array:
        return np.log([*self.warps.ravel(), *self.length_scales, self.epoch_scale, self.noise])


_SPREAD_OF_PRIOR = {"warp": 0.5, "length": 1.0, "epoch": 1.0, "noise": 3.0}
# A warp goes as far as three times its prior's spread. A length scale of three ranges still leaves a doubt: no parameter is
# ever taken not to matter at all.
_BOUNDS = {"warp": (0.22, 4.5), "length": (0.03, 3.0), "epoch": (0.3, 30.0), "noise": (1e-6, math.e)}


def learn(features: Array, layout: Layout, epochs: Array, scores: Array, before: Beliefs | None = None) -> Beliefs:
    """Return the beliefs under which the scores are likeliest, searched from those of `before` and from the prior's.

    Args:
        features: of shape (n, f).
        layout: what their columns are.
        epochs: of shape (n,), from 1.
        scores: of shape (n,).
    """
    groups, ranges, columns = layout.groups, layout.ranges, layout.columns
    parameters, rows, t = int(groups.max()) + 1, len(scores), np.log(epochs)
    y = _standardized(scores)[0]
    apart = np.stack([_squares(features[:, groups == k], features[:, groups == k]) for k in range(parameters)])
    for k, column in zip(layout.unordered, layout.unordered_columns, strict=True):
        apart[k] = _differences(features[:, column], features[:, column])
    apart_t, shared = np.square(t[:, None] - t), _shared(t, t)
    center = Beliefs.prior(parameters)._vector()
    kinds = ["warp", "warp"] * parameters + ["length"] * parameters + ["epoch", "noise"]
    spread = np.array([_SPREAD_OF_PRIOR[kind] for kind in kinds])

    def unlikeliness(vector: Array) -> tuple[float, Array]:
        warps, lengths = np.exp(vector[: 2 * parameters].reshape(-1, 2)), vector[2 * parameters : -2]
        inverse, inverse_t, noise = np.exp(-2 * lengths), math.exp(-2 * vector[-2]), math.exp(vector[-1])
        warped, slopes_warped = _warped_and_slopes(features[:, columns], warps[ranges])
        apart[ranges] = np.square(warped.T[:, :, None] - warped.T[:, None, :])
        of_x, slope_x = _matern_and_slope(np.tensordot(inverse, apart, 1))
        of_t, slope_t = _matern_and_slope(inverse_t * apart_t)
        kernel = of_x * of_t + shared
        kernel[np.diag_indices(rows)] += noise + _JITTER
        factor, failed = lapack.dpotrf(kernel, lower=1)
        if failed:
            return 1e10, np.zeros_like(vector)
        half = np.tril(lapack.dpotri(factor, lower=1)[0])
        precision = half + np.tril(half, -1).T
        alpha = precision @ y
        amplitude = (y @ alpha + _AMPLITUDE_ROWS) / (rows + _AMPLITUDE_ROWS)
        value = 0.5 * (rows + _AMPLITUDE_ROWS) * math.log(amplitude) + np.log(np.diag(factor)).sum()
        outer = precision - np.outer(alpha, alpha) / amplitude
        by_square = outer * of_t * slope_x
        by_warped = by_square.sum(axis=1)[:, None] * warped - by_square @ warped
        of_warps = np.zeros((parameters, 2))
        of_warps[ranges] = -2 * (inverse[ranges] * (by_warped * slopes_warped).sum(axis=1)).T
        gradient = np.empty_like(vector)
        gradient[: 2 * parameters] = of_warps.ravel()
        gradient[2 * parameters : -2] = inverse * np.tensordot(apart, by_square, ([1, 2], [0, 1]))
        gradient[-2] = inverse_t * np.sum(apart_t * outer * of_x * slope_t)
        gradient[-1] = 0.5 * noise * np.trace(outer)
        away = (vector - center) / spread
        return value + 0.5 * away @ away, gradient + away / spread

    def searched(start: Array) -> Any:
        return minimize(
            unlikeliness,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[tuple(math.log(end) for end in _BOUNDS[kind]) for kind in kinds],
            options={"maxiter": _STEPS},
        )

    # What was the best explanation of fewer scores may no longer be one, and no slope leads away from it.
    starts = [center] if before is None else [before._vector(), center]
    return Beliefs.read(min(map(searched, starts), key=lambda found: float(found.fun)).x, parameters)


class Process:
    """A Gaussian process that has seen scores: row i is a config's `features[i]` after `epochs[i]` epochs."""

    def __init__(self, beliefs: Beliefs, features: Array, layout: Layout, epochs: Array, scores: Array) -> None:
        self._beliefs, self._layout = beliefs, layout
        weights = 1 / beliefs.length_scales
        self._weights = weights[layout.groups]
        self._of_unordered = np.square(weights[layout.unordered])
        self._y, self._mean, self._spread = _standardized(scores)
        self._x, self._t = self._scaled(features), np.log(epochs)
        kernel = self._kernel(self._x, self._t, self._x, self._t)
        kernel[np.diag_indices(len(scores))] += beliefs.noise + _JITTER
        self._factor = np.linalg.cholesky(kernel)
        self._alpha = self._solved()
        self._amplitude = (self._y @ self._alpha + _AMPLITUDE_ROWS) / (len(scores) + _AMPLITUDE_ROWS)

    def predict(self, features: Array, epochs: float) -> tuple[Array, Array]:
        """Return mean and standard deviation of the scores of configs of shape (n, f) after so many epochs, without noise."""
        # One epoch for all: what depends on it alone is a column, not a matrix.
        kernel = self._kernel(self._x, self._t, self._scaled(features), np.array([math.log(epochs)]))
        known = np.square(solve_triangular(self._factor, kernel, lower=True, check_finite=False)).sum(axis=0)
        variance = self._amplitude * np.maximum(1 + _MEAN + _LEVEL - known, 1e-12)
        return self._mean + self._spread * (self._alpha @ kernel), self._spread * np.sqrt(variance)

    def suppose(self, features: Array, epochs: float) -> None:
        """Take it that configs of shape (n, f) get the scores that are expected of them after so many epochs.

        What is under way then draws no further config to itself. Source: Ginsbourger et al. 2010 ("kriging believer").
        """
        x, t = self._scaled(features), np.array([math.log(epochs)])
        kernel = self._kernel(self._x, self._t, x, t)
        below = solve_triangular(self._factor, kernel, lower=True, check_finite=False)
        corner = self._kernel(x, t, x, t)
        corner[np.diag_indices(len(x))] += self._beliefs.noise + _JITTER
        rows, total = len(self._y), len(self._y) + len(x)
        factor = np.zeros((total, total))
        factor[:rows, :rows], factor[rows:, :rows] = self._factor, below.T
        factor[rows:, rows:] = np.linalg.cholesky(corner - below.T @ below)
        self._y = np.concatenate([self._y, self._alpha @ kernel])
        self._x, self._t = np.concatenate([self._x, x]), np.concatenate([self._t, np.repeat(t, len(x))])
        self._factor = factor
        self._alpha = self._solved()

    @property
    def noise(self) -> float:
        """Standard deviation of what can't be told from config and epoch, in the unit of the scores."""
        return float(self._spread * math.sqrt(self._amplitude * self._beliefs.noise))

    def _scaled(self, features: Array) -> Array:
        scaled, columns, unordered = features.copy(), self._layout.columns, self._layout.unordered_columns
        scaled[:, columns] = _warped(features[:, columns], self._beliefs.warps[self._layout.ranges])
        scaled *= self._weights
        scaled[:, unordered] = features[:, unordered]
        return scaled

    def _kernel(self, x: Array, t: Array, other_x: Array, other_t: Array) -> Array:
        of_t = _matern(np.square(t[:, None] - other_t) / self._beliefs.epoch_scale**2)
        squares = squared_distances(x, other_x, self._layout, self._of_unordered)
        return _matern(squares) * of_t + _shared(t, other_t)

    def _solved(self) -> Array:
        half = solve_triangular(self._factor, self._y, lower=True, check_finite=False)
        return solve_triangular(self._factor, half, lower=True, trans="T", check_finite=False)  # type: ignore[no-any-return]


def log_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the logarithm of the expected improvement over `best`, finite however hopeless it is.

    Source: Ament et al. 2023 (arXiv:2310.20708).
    """
    from scipy.special import erfcx, ndtr

    z = (mean - best) / deviation
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi)
    of_near = np.log(density + near * ndtr(near))
    far = np.minimum(z, -1.0)
    # 1 - |z| times Mills' ratio; beyond a thousand its limit, for there nothing is left of the difference.
    rest = np.where(far < -1e3, far**-2.0, 1 + far * math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2)))
    of_far = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(rest, 1e-300))
    return np.where(z > -1, of_near, of_far) + np.log(deviation)


def squared_distances(a: Array, b: Array, layout: Layout, weights: Array | None = None) -> Array:
    """Return those between rows of features, of shape (n, m); `weights` are what a difference of each choice counts."""
    unordered = layout.unordered_columns
    if not len(unordered):
        return _squares(a, b)
    ordered = np.setdiff1d(np.arange(a.shape[1]), unordered)
    squares = _squares(a[:, ordered], b[:, ordered])
    for k, column in enumerate(unordered):
        squares += _differences(a[:, column], b[:, column]) * (1.0 if weights is None else weights[k])
    return squares


def _differences(a: Array, b: Array) -> Array:
    """Return 1 where two values of a choice differ, and a half where one of two configs has none."""
    differences: Array = (a[:, None] != b).astype(np.float64)
    is_lacking = (a < 0)[:, None] | (b < 0)
    if is_lacking.any():
        differences[is_lacking] *= 0.5
    return differences


def _standardized(scores: Array) -> tuple[Array, float, float]:
    mean, spread = float(scores.mean()), float(scores.std())
    spread = spread if spread > 0 else 1.0
    return (scores - mean) / spread, mean, spread


def _warped(u: Array, warps: Array) -> Array:
    a, b = warps.T
    warped: Array = 1 - (1 - u**a) ** b
    return warped


def _warped_and_slopes(u: Array, warps: Array) -> tuple[Array, Array]:
    """Return the warped columns of u, of shape (n, m), and their derivatives by the logarithms of a and b, of (2, n, m)."""
    a, b = warps.T
    is_inside = (u > 0) & (u < 1)  # the ends stay where they are
    inside = np.where(is_inside, u, 0.5)
    of_a = inside**a
    rest = 1 - of_a
    by_a = a * b * rest ** (b - 1) * of_a * np.log(inside)
    by_b = -b * rest**b * np.log(rest)
    return _warped(u, warps), np.stack([by_a, by_b]) * is_inside


def _shared(t: Array, other: Array) -> Array:
    shared: Array = _MEAN * np.exp(-0.5 * np.square((t[:, None] - other) / _MEAN_SCALE)) + _LEVEL
    return shared


def _squares(a: Array, b: Array) -> Array:
    squares: Array = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0.0)


def _matern(squares: Array) -> Array:
    r = np.sqrt(5 * squares)
    matern: Array = (1 + r + r * r / 3) * np.exp(-r)
    return matern


def _matern_and_slope(squares: Array) -> tuple[Array, Array]:
    """Return the kernel, and minus its derivative by the squared distance, which is half of that by a log length scale's."""
    r = np.sqrt(5 * squares)
    decay: Any = np.exp(-r)
    return (1 + r + r * r / 3) * decay, 5 / 6 * (1 + r) * decay
