"""Targets of many numbers a row: an autoencoder's, which equal its features, and arrays of more than two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.data.targets import Targets, targets_of
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array, Parts


class DenseTargets(Targets):
    """Targets of more than two dimensions; a model's output has a last axis as long as theirs."""

    @property
    def outputs(self) -> int:
        return int(self.y["train"].shape[-1])


def any_targets_of(parts: Parts, wanted: str | None, *, keeps_shape: bool = True) -> Targets:
    """Return dense targets as those of a regression, and all others as `targets_of` does."""
    is_autoencoder = targets_are_features(parts)
    if not is_autoencoder:
        _check_bytes(parts)
    if parts.splits["train"].y.ndim <= 2 or parts.splits["train"].y.dtype.kind not in "biuf":
        return targets_of(parts, wanted, keeps_shape=keeps_shape)
    _check_dense(parts, wanted, is_autoencoder=is_autoencoder)
    return _dense_targets(parts)


def targets_are_features(parts: Parts) -> bool:
    """Return whether the targets equal the features, in any shape and type; they are then scaled like the features."""
    import numpy as np

    for part in parts.splits.values():
        x, y = part.x, part.y
        if y.dtype.kind not in "iuf" or y.size != x.size or x.size == len(x):
            return False
        # Compare the first row first: it nearly always decides, and is cheap.
        if not all(np.array_equal(y[:rows].reshape(x[:rows].shape), x[:rows]) for rows in (1, len(x))):
            return False
    return True


def are_image_bytes(x: Array) -> bool:
    """Return whether features are images in bytes, which are scaled to 0..1."""
    return bool(x.dtype == "uint8" and x.ndim > 2)


def _check_bytes(parts: Parts) -> None:
    """Refuse targets in bytes for images in bytes if the targets may be images: images would need the scaling of x."""
    for split, part in parts.splits.items():
        x, y = part.x, part.y
        is_like_an_image = y.ndim > 2 or (y.ndim == 2 and y.shape[1] > 1 and y.size == x.size and y.max() > 1)
        if are_image_bytes(x) and y.dtype == "uint8" and is_like_an_image:
            raise DataError(
                f"{parts.name}: {split} targets are bytes (uint8) of shape {y.shape}, as the images are, which are scaled to "
                "0..1; whether they are images or classes of pixels can't be told: give images as (y / 255).astype("
                "'float32'), other numbers as float32 (classes of pixels are not supported)"
            )


def _check_dense(parts: Parts, wanted: str | None, *, is_autoencoder: bool) -> None:
    """Refuse targets of more than two dimensions that may be classes."""
    train = parts.splits["train"].y
    if wanted in ("classification", "binary"):
        raise DataError(
            f"{parts.name}: train labels have the shape {train.shape}; give one label a row (rows,) or one-hot rows (rows, "
            "classes); classes of pixels or of steps are not supported"
        )
    for split, part in parts.splits.items():
        if part.y.shape[1:] != train.shape[1:]:
            raise DataError(
                f"{parts.name}: targets have the shape {train.shape[1:]} a row in training and {part.y.shape[1:]} in "
                f"{split}; make them equal"
            )
    is_one_hot = train.shape[-1] > 1 and bool(((train == 0) | (train == 1)).all() and (train.sum(axis=-1) == 1).all())
    if wanted is None and not is_autoencoder and (train.dtype.kind != "f" or is_one_hot):
        raise DataError(
            f"{parts.name}: train labels are {train.dtype} of shape {train.shape}{', one-hot' if is_one_hot else ''}; give "
            "one label a row (rows,); classes of pixels or of steps are not supported; if these are numbers, add task = "
            '"regression"'
        )


def _dense_targets(parts: Parts) -> Targets:
    import numpy as np

    y = {split: np.ascontiguousarray(part.y, np.float32) for split, part in parts.splits.items()}
    return DenseTargets("regression", y, shaped=y)
