"""The rows of all folds, once on the device: each lane trains and judges by row numbers of its own fold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from search.data import Data
from search.engines.lanes.lifting import NotLiftable
from search.engines.lanes.program import Rows
from search.engines.training import Trainer


def rows_of(trainer: Trainer) -> Rows:
    """Put the rows of a study with folds on the device; NotLiftable if its folds differ in more than their row numbers."""
    folds = trainer.data.folds
    first = folds[0]
    if len({tuple(map(len, _numbers(fold))) for fold in folds}) > 1:
        raise NotLiftable("its folds are not equally large (groups stay whole), and lanes share a program")
    if trainer.settings.train.class_weight == "balanced":
        raise NotLiftable('train.class_weight = "balanced" gives each fold weights of its own, and lanes share them')
    # The first fold has every row: those that no fold judges by train in all of them.
    numbers = np.concatenate(_numbers(first))
    places = np.zeros(numbers.max() + 1, np.int32)
    places[numbers] = np.arange(len(numbers), dtype=np.int32)
    trained, judged = (np.stack([places[_numbers(fold)[part]] for fold in folds]) for part in (0, 1))
    x, y, w = jax.tree.map(lambda a, b: np.concatenate([a, b]), _training(first), _judging(first))
    for fold, of_training, of_judging in zip(folds, trained, judged, strict=True):
        is_same = fold.info == first.info and _are_rows((x, y, w), of_training, _training(fold))
        if not (is_same and _are_rows((x, y, w), of_judging, _judging(fold))):
            raise NotLiftable("each of its folds is scaled or encoded by itself, and lanes share their rows")
    # With weights of classes, too.
    weights = replace(trainer, data=replace(first, folds=(), x_train=x, y_train=y, w_train=w)).arrays()[2:]
    rows = jax.tree.map(jnp.asarray, (x, y))
    return Rows(
        (*rows, *jax.tree.map(jnp.asarray, weights)),
        rows if w is None else (*rows, jax.tree.map(jnp.asarray, w)),
        *trainer.objective,
        folds=(trained, judged),
    )


def _numbers(fold: Data) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    assert fold.rows is not None  # noqa: S101 (loaded as a fold)
    return fold.rows


def _training(fold: Data) -> tuple[Any, Any, Any]:
    return fold.x_train, fold.y_train, fold.w_train


def _judging(fold: Data) -> tuple[Any, Any, Any]:
    return fold.x_validation, fold.y_validation, fold.w_validation


def _are_rows(pool: Any, places: NDArray[np.int32], arrays: Any) -> bool:
    """Return whether `arrays` are the rows of `pool` at these places."""
    same = jax.tree.map(lambda whole, part: np.array_equal(whole[places], part), pool, arrays)
    return all(jax.tree.leaves(same))
