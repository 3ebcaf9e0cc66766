"""A Gaussian process over configs and epochs: predicts the score of a config after a number of epochs, with its deviation.

The kernel is k(x, x') k(t, t') + m(t, t'): a Matern 5/2 over the features x with one length scale per parameter, times a
Matern 5/2 over the logarithm t of the epoch, plus a mean curve over t that all configs share. The hyperparameters maximize
the posterior under weak priors; the amplitude follows from them. Sources: Rasmussen & Williams 2006, chapters 2, 4
and 5; Swersky et al. 2013 (NeurIPS) for fidelities as inputs of the kernel; Hvarfner et al. 2024 (arXiv:2402.02229) for a
prior of the length scales that grows with the root of the number of parameters.

SciPy is imported by the functions that need it: that takes half a second, and a study file is checked without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.policies.samplers.encoding import Array, Layout

# The shared mean curve: variance of its shape and of its level, relative to the amplitude, and the length scale of its
# shape in e-folds of epochs.
_MEAN, _LEVEL, _MEAN_SCALE = 4.0, 4.0, 1.5
# Added to the noise, so that the kernel of two nearly equal rows has a Cholesky factor in float64.
_JITTER = 1e-8
# Weight of the prior of the amplitude, in rows.
_AMPLITUDE_ROWS = 2.0
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The hyperparameters of a Gaussian process.

    Attributes:
        warps: of shape (d, 2): a and b of each parameter, which warp u on [0, 1] to 1 - (1 - u^a)^b. Parameters that are not
            ranges keep 1 and 1, which leave u as it is.
        length_scales: by parameter, as a share of its warped range.
        epoch_scale: in e-folds of epochs.
        noise: variance of the noise as a share of the amplitude.
    """

    warps: Array
    length_scales: Array
    epoch_scale: float
    noise: float

    @classmethod
    def prior(cls, parameters: int) -> Hyperparameters:
        """Return the mode of the prior."""
        lengths = np.full(parameters, 0.5 * math.sqrt(parameters))
        return cls(np.ones((parameters, 2)), lengths, 2.0, math.exp(-8.0))

    @classmethod
    def read(cls, numbers: Sequence[float], parameters: int) -> Hyperparameters:
        """Read numbers that `written` returned, of so many parameters; older databases have numbers without warps."""
        warps, rest = np.split(np.exp(numbers), [len(numbers) - parameters - 2])
        warps = warps.reshape(-1, 2) if len(warps) else np.ones((parameters, 2))
        return cls(warps, rest[:-2], float(rest[-2]), float(rest[-1]))

    @property
    def middles(self) -> Array:
        """The u of each parameter that is warped to 0.5, of shape (d,)."""
        a, b = self.warps.T
        middles: Array = (1 - 0.5 ** (1 / b)) ** (1 / a)
        return middles

    def written(self) -> list[float]:
        """Return plain numbers; `read` makes the same hyperparameters of them, bit for bit."""
        return [float(number) for number in self._vector()]

    def _vector(self) -> Array:
        return np.log([*self.warps.ravel(), *self.length_scales, self.epoch_scale, self.noise])


_SPREAD_OF_PRIOR = {"warp": 0.5, "length": 1.0, "epoch": 1.0, "noise": 3.0}
# Warps are bounded at three standard deviations of their prior. Length scales are at most three ranges, so that no parameter
# is ever ignored.
_BOUNDS = {"warp": (0.22, 4.5), "length": (0.03, 3.0), "epoch": (0.3, 30.0), "noise": (1e-6, math.e)}


def learn(
    features: Array, layout: Layout, epochs: Array, scores: Array, before: Hyperparameters | None = None
) -> Hyperparameters:
    """Return the hyperparameters of the highest posterior density, searched from `before` and from the mode of the prior.

    Shapes: `features` (n, f), with columns as in `layout`; `epochs` (n,), counted from 1; `scores` (n,).
    """
    from scipy.linalg import lapack
    from scipy.optimize import minimize

    groups, ranges, columns = layout.groups, layout.ranges, layout.columns
    parameters, rows, t = int(groups.max()) + 1, len(scores), np.log(epochs)
    y = _standardized(scores)[0]
    squares = np.stack([_squares(features[:, groups == k], features[:, groups == k]) for k in range(parameters)])
    for k, column in zip(layout.unordered, layout.unordered_columns, strict=True):
        squares[k] = _differences(features[:, column], features[:, column])
    squares_t, shared = np.square(t[:, None] - t), _shared(t, t)
    center = Hyperparameters.prior(parameters)._vector()
    kinds = ["warp", "warp"] * parameters + ["length"] * parameters + ["epoch", "noise"]
    spread = np.array([_SPREAD_OF_PRIOR[kind] for kind in kinds])

    def negative_log_posterior(vector: Array) -> tuple[float, Array]:
        warps, lengths = np.exp(vector[: 2 * parameters].reshape(-1, 2)), vector[2 * parameters : -2]
        inverse, inverse_t, noise = np.exp(-2 * lengths), math.exp(-2 * vector[-2]), math.exp(vector[-1])
        warped, slopes_warped = _warped_and_slopes(features[:, columns], warps[ranges])
        squares[ranges] = np.square(warped.T[:, :, None] - warped.T[:, None, :])
        of_x, slope_x = _matern_and_slope(np.tensordot(inverse, squares, 1))
        of_t, slope_t = _matern_and_slope(inverse_t * squares_t)
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
        gradient[2 * parameters : -2] = inverse * np.tensordot(squares, by_square, ([1, 2], [0, 1]))
        gradient[-2] = inverse_t * np.sum(squares_t * outer * of_x * slope_t)
        gradient[-1] = 0.5 * noise * np.trace(outer)
        offset = (vector - center) / spread
        return value + 0.5 * offset @ offset, gradient + offset / spread

    def optimize(start: Array) -> Any:
        return minimize(
            negative_log_posterior,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[tuple(math.log(end) for end in _BOUNDS[kind]) for kind in kinds],
            options={"maxiter": _STEPS},
        )

    # `before` may now be in a poor local optimum that gradients do not leave. So the search starts from the prior, too.
    starts = [center] if before is None else [before._vector(), center]
    return Hyperparameters.read(min(map(optimize, starts), key=lambda optimum: float(optimum.fun)).x, parameters)


class GaussianProcess:
    """A Gaussian process conditioned on scores: row i is the config of `features[i]` after `epochs[i]` epochs."""

    def __init__(
        self, hyperparameters: Hyperparameters, features: Array, layout: Layout, epochs: Array, scores: Array
    ) -> None:
        self._hyperparameters, self._layout = hyperparameters, layout
        weights = 1 / hyperparameters.length_scales
        self._weights = weights[layout.groups]
        self._of_unordered = np.square(weights[layout.unordered])
        self._y, self._mean, self._spread = _standardized(scores)
        self._x, self._t = self._scaled(features), np.log(epochs)
        kernel = self._kernel(self._x, self._t, self._x, self._t)
        kernel[np.diag_indices(len(scores))] += hyperparameters.noise + _JITTER
        self._factor = np.linalg.cholesky(kernel)
        self._alpha = self._solved()
        self._amplitude = (self._y @ self._alpha + _AMPLITUDE_ROWS) / (len(scores) + _AMPLITUDE_ROWS)

    def predict(self, features: Array, epochs: float) -> tuple[Array, Array]:
        """Return the mean and standard deviation, without noise, of the scores of features (n, f) after so many epochs."""
        from scipy.linalg import solve_triangular

        # All rows have the same epoch, so the kernel over epochs is a column that broadcasts.
        kernel = self._kernel(self._x, self._t, self._scaled(features), np.array([math.log(epochs)]))
        explained = np.square(solve_triangular(self._factor, kernel, lower=True, check_finite=False)).sum(axis=0)
        variance = self._amplitude * np.maximum(1 + _MEAN + _LEVEL - explained, 1e-12)
        return self._mean + self._spread * (self._alpha @ kernel), self._spread * np.sqrt(variance)

    def fantasize(self, features: Array, epochs: float) -> None:
        """Add rows of features (n, f) after so many epochs, with their posterior means as scores.

        Running trials then don't attract further configs. Source: Ginsbourger et al. 2010 ("kriging believer").
        """
        from scipy.linalg import solve_triangular

        x, t = self._scaled(features), np.array([math.log(epochs)])
        kernel = self._kernel(self._x, self._t, x, t)
        below = solve_triangular(self._factor, kernel, lower=True, check_finite=False)
        corner = self._kernel(x, t, x, t)
        corner[np.diag_indices(len(x))] += self._hyperparameters.noise + _JITTER
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
        """Standard deviation of what config and epoch do not explain, in the unit of the scores."""
        return float(self._spread * math.sqrt(self._amplitude * self._hyperparameters.noise))

    def _scaled(self, features: Array) -> Array:
        scaled, columns, unordered = features.copy(), self._layout.columns, self._layout.unordered_columns
        scaled[:, columns] = _warped(features[:, columns], self._hyperparameters.warps[self._layout.ranges])
        scaled *= self._weights
        scaled[:, unordered] = features[:, unordered]
        return scaled

    def _kernel(self, x: Array, t: Array, other_x: Array, other_t: Array) -> Array:
        of_t = _matern(np.square(t[:, None] - other_t) / self._hyperparameters.epoch_scale**2)
        squares = squared_distances(x, other_x, self._layout, self._of_unordered)
        return _matern(squares) * of_t + _shared(t, other_t)

    def _solved(self) -> Array:
        from scipy.linalg import solve_triangular

        half = solve_triangular(self._factor, self._y, lower=True, check_finite=False)
        return solve_triangular(self._factor, half, lower=True, trans="T", check_finite=False)  # type: ignore[no-any-return]


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the logarithm of the expected improvement over `best`; it stays finite for means far below `best`.

    Source: Ament et al. 2023 (arXiv:2310.20708).
    """
    from scipy.special import erfcx, ndtr

    z = (mean - best) / deviation
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi)
    of_near = np.log(density + near * ndtr(near))
    far = np.minimum(z, -1.0)
    # 1 - |z| times Mills' ratio. Beyond |z| = 1000 the difference cancels in float64, so take its limit.
    rest = np.where(far < -1e3, far**-2.0, 1 + far * math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2)))
    of_far = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(rest, 1e-300))
    return np.where(z > -1, of_near, of_far) + np.log(deviation)


def squared_distances(a: Array, b: Array, layout: Layout, weights: Array | None = None) -> Array:
    """Return squared distances between rows of features, of shape (n, m); `weights` are those of the unordered columns."""
    unordered = layout.unordered_columns
    if not len(unordered):
        return _squares(a, b)
    ordered = np.setdiff1d(np.arange(a.shape[1]), unordered)
    squares = _squares(a[:, ordered], b[:, ordered])
    for k, column in enumerate(unordered):
        squares += _differences(a[:, column], b[:, column]) * (1.0 if weights is None else weights[k])
    return squares


def _differences(a: Array, b: Array) -> Array:
    """Return 1 where two values of a choice differ, and 0.5 where exactly one of the two configs lacks the choice."""
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
    """Return the warped columns of u, of shape (n, m), and their derivatives by log a and log b, of shape (2, n, m)."""
    a, b = warps.T
    is_inside = (u > 0) & (u < 1)  # warping does not move 0 and 1
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
    """Return the kernel, and minus its derivative by the squared distance."""
    r = np.sqrt(5 * squares)
    decay: Any = np.exp(-r)
    return (1 + r + r * r / 3) * decay, 5 / 6 * (1 + r) * decay
