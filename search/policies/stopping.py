"""When a trial stops by itself, and when a study is done: pure functions of what has happened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.spec.settings import EarlyStopping


def stops_early(rule: EarlyStopping, scores: Sequence[float]) -> bool:
    """Tell whether training should stop after the last of `scores` (one an epoch; higher is better).

    As Keras's EarlyStopping counts, bit for bit: an epoch improves only if it beats the best before it by more than
    `min_delta`; after `patience` epochs in a row that do not, training stops. The first `start_from_epoch` epochs are not
    looked at. Keras's logs are float32 values as 64-bit floats, from which it takes `min_delta` in 64 bits, and compares in
    32. Scores are these values as the shortest decimals, of either sign (keras/src/callbacks/monitor_callback.py).
    """
    looked_at = np.array(scores[rule.start_from_epoch :], np.float32)
    with np.errstate(over="ignore"):
        needed = (looked_at.astype(np.float64) - rule.min_delta).astype(np.float32)
    best: np.float32 | None = None
    waited = 0
    for score, reduced in zip(looked_at, needed, strict=True):
        if best is None or reduced > best:
            best, waited = score, 0
        else:
            waited += 1
    return waited >= rule.patience


def stagnates(values: Sequence[float | None], stop_after: int) -> bool:
    """Tell whether the last `stop_after` of the ended trials' scores brought nothing better.

    `values` are in the order in which the trials ended; None stands for one that can't be the best: it was pruned, or failed.
    """
    best: float | None = None
    since = 0
    for value in values:
        if value is not None and (best is None or value > best):
            best, since = value, 0
        elif best is not None:
            since += 1
    return since >= stop_after
