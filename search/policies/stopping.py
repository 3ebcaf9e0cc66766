"""The stopping rules: early stopping of a trial, and `stop_after` of a study. Both are pure functions of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.spec.settings import EarlyStopping


def stops_early(rule: EarlyStopping, scores: Sequence[float]) -> bool:
    """Return whether training stops after the last of `scores` (one per epoch; higher is better).

    Counts as Keras's EarlyStopping does, bit for bit: an epoch improves only if it beats the best before it by more than
    `min_delta`; after `patience` epochs in a row that do not improve, training stops. The first `start_from_epoch` epochs
    are ignored. Keras's logs are float32 values in 64-bit floats: Keras subtracts `min_delta` in 64 bits and compares in 32.
    Scores are these values as shortest decimals, of either sign (keras/src/callbacks/monitor_callback.py).
    """
    considered = np.array(scores[rule.start_from_epoch :], np.float32)
    with np.errstate(over="ignore"):
        reduced_scores = (considered.astype(np.float64) - rule.min_delta).astype(np.float32)
    best: np.float32 | None = None
    waited = 0
    for score, reduced in zip(considered, reduced_scores, strict=True):
        if best is None or reduced > best:
            best, waited = score, 0
        else:
            waited += 1
    return waited >= rule.patience


def stagnates(values: Sequence[float | None], stop_after: int) -> bool:
    """Return whether the last `stop_after` ended trials brought no better score.

    `values` are in the order in which the trials ended. None is a trial that can't be the best: it was pruned, or it failed.
    """
    best: float | None = None
    since = 0
    for value in values:
        if value is not None and (best is None or value > best):
            best, since = value, 0
        elif best is not None:
            since += 1
    return since >= stop_after
