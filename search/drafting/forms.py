"""What the rows of an input are: features, images, sequences of numbers, or ids of words; and how to scale them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# Pixels in bytes end at 255: a larger whole number among columns that are all alike is an id.
_PIXELS = 255
_FEWEST_IDS = 8
_SAMPLE = 2000
_SMALLEST_IMAGE = 8
# Numbers within this distance of 0 need no scaling.
_SMALL = 3.0
# With more features than this, one mean and one spread stand for all of them.
_MOST_SCALED = 32
# A spread below this share of the numbers comes from arithmetic on equal ones.
_ROUNDING_NOISE = 1e-12


@dataclass(frozen=True)
class Rows:
    """The rows of one input.

    Attributes:
        kind: "dense", "image", "sequence" or "ids".
        shape: of one row.
        dtype: as a model gets them.
        mean, spread: for (x - mean) / spread in the model, a number or one for each feature; None if it needs no scaling.
        vocabulary: of ids: the largest id, and 1.
        is_text: whether they are ids of the words of texts, below the vocabulary that a study has of them.
        is_channels_first: whether the colours of an image come before its height and width.
        may_be_ids: whether small whole numbers may be ids of letters, say, and were not taken for such.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    mean: Any = None
    spread: Any = None
    vocabulary: int = 0
    is_text: bool = False
    is_channels_first: bool = False
    may_be_ids: bool = False

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and colours of an image: those of a flat row are of a square."""
        if len(self.shape) == 1:
            return math.isqrt(self.shape[0]), math.isqrt(self.shape[0]), 1
        if len(self.shape) == 2:
            return self.shape[0], self.shape[1], 1
        first, second, third = self.shape
        return (second, third, first) if self.is_channels_first else (first, second, third)

    @property
    def may_be_image(self) -> bool:
        """Whether a flat row may hold the pixels of a square image."""
        side = math.isqrt(self.shape[0]) if len(self.shape) == 1 else 0
        return self.kind == "dense" and side >= _SMALLEST_IMAGE and side * side == self.shape[0]

    @property
    def misfit(self) -> str:
        """Why rows of this shape can't be of this kind; "" if they can."""
        depth = len(self.shape)
        if self.kind == "image" and depth == 1 and math.isqrt(self.shape[0]) ** 2 != self.shape[0]:
            return f"a row of {self.shape[0]} numbers is no square image"
        if (self.kind == "image" and depth > 3) or (self.kind == "sequence" and depth > 2):
            return f"rows have the shape {self.shape}"
        if self.kind == "ids" and (depth != 1 or not self.vocabulary):
            return "ids are rows of whole numbers from 0"
        return ""


def rows_of(x: Any, wanted: str = "", *, validation: Any = None, is_scaled: bool = False) -> Rows:
    """Return what the training rows `x` are, (rows, ...); `wanted` is a kind that is asked for.

    `is_scaled`: whether manyfit scales them itself, or has.
    """
    shape, dtype = tuple(x.shape[1:]), str(x.dtype)
    sample = np.asarray(x[np.linspace(0, len(x) - 1, min(len(x), _SAMPLE)).astype(int)])
    kind = wanted or _kind(sample, is_scaled=is_scaled)
    if kind == "ids":
        is_whole = sample.min() >= 0 and bool((sample == np.floor(sample)).all())
        largest = max(int(np.max(part)) for part in (x, validation) if part is not None)
        return Rows(kind, shape, dtype, vocabulary=largest + 1 if is_whole else 0)
    mean, spread = (None, None) if is_scaled else _scaling(sample, kind)
    return Rows(
        kind,
        shape,
        dtype,
        mean,
        spread,
        is_channels_first=kind == "image" and len(shape) == 3 and shape[0] in (1, 3) and shape[2] > 4,
        may_be_ids=kind == "dense" and not is_scaled and _are_ids(sample, 0),
    )


def _kind(sample: Any, *, is_scaled: bool) -> str:
    """Return the kind that the shape and the numbers of some rows imply."""
    shape = sample.shape[1:]
    if len(shape) == 1:
        return "ids" if not is_scaled and _are_ids(sample, _PIXELS) else "dense"
    if len(shape) == 2:
        is_square = shape[0] == shape[1] >= _SMALLEST_IMAGE
        is_wide = min(shape) >= _SMALLEST_IMAGE and max(shape) <= 3 * min(shape) and sample.min() >= 0
        return "image" if is_square or (is_wide and _are_bytes(sample)) else "sequence"
    return "image" if len(shape) == 3 and max(shape) >= _SMALLEST_IMAGE else "dense"


def _are_ids(sample: Any, above: int) -> bool:
    """Return whether rows may be ids: whole numbers from 0 to more than `above`, in columns that are all alike."""
    if sample.ndim != 2 or sample.shape[1] < _FEWEST_IDS or sample.min() < 0 or (sample != np.floor(sample)).any():
        return False
    largest = sample.max(axis=0)
    return bool(largest.max() > max(above, 1) and np.median(largest) > largest.max() / 2)


def _are_bytes(sample: Any) -> bool:
    """Return whether rows are bytes, or bytes that were scaled to 0..1."""
    steps = sample if sample.max() > 1 else sample * _PIXELS
    return bool(steps.max() <= _PIXELS and np.allclose(steps, np.round(steps), atol=1e-3))


def _scaling(sample: Any, kind: str) -> tuple[Any, Any]:
    """Return (mean, spread) to scale rows by in the model, one for each feature if they are few; None for no scaling."""
    sample = sample.astype(np.float64)
    if np.abs(sample).max() <= (1.0 if kind == "image" else _SMALL) and sample.std() > 0.05:
        return None, None
    is_each = kind != "image" and sample.shape[-1] <= _MOST_SCALED
    axes = tuple(range(sample.ndim - 1)) if is_each else None
    mean, spread = np.atleast_1d(sample.mean(axis=axes)), np.atleast_1d(sample.std(axis=axes))
    means, spreads = written(mean, spread)
    return (means, spreads) if is_each and len(means) > 1 else (means[0], spreads[0])


def written(mean: Any, spread: Any) -> tuple[list[float], list[float]]:
    """Return means and spreads with few digits: an error is below 1e-5 spreads. The spread of equal numbers is 1."""
    means, spreads = np.atleast_1d(mean).astype(np.float64), np.atleast_1d(spread).astype(np.float64)
    # Arithmetic on equal numbers may leave a spread of some 1e-16 of them.
    spreads = np.where(spreads > _ROUNDING_NOISE * np.abs(means), spreads, 1.0)
    pairs = zip(means.tolist(), spreads.tolist(), strict=True)
    return [to_steps(value, spread) for value, spread in pairs], [float(f"{value:.6g}") for value in spreads]


def to_steps(value: float, spread: float) -> float:
    """Return a number rounded to less than 1e-5 of the spread."""
    return round(value, 5 - math.floor(math.log10(spread)))
