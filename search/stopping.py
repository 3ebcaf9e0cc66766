"""When a trial stops by itself, and when a study is done: pure functions of what has happened."""

from __future__ import annotations

from collections.abc import Sequence

from search.settings import EarlyStopping


def stops_early(rule: EarlyStopping, scores: Sequence[float]) -> bool:
    """Tell whether training should stop after the last of `scores` (one an epoch; higher is better).

    As Keras's EarlyStopping counts: an epoch improves only if it beats the best before it by more than `min_delta`; after
    `patience` epochs in a row that do not, training stops. The first `start_from_epoch` epochs are not looked at.
    """
    best: float | None = None
    waited = 0
    for score in scores[rule.start_from_epoch :]:
        if best is None or score - rule.min_delta > best:
            best, waited = score, 0
        else:
            waited += 1
    return waited >= rule.patience


def stagnates(values: Sequence[float | None], stop_after: int) -> bool:
    """Tell whether the last `stop_after` of the ended trials' scores (None without one) brought nothing better."""
    best: float | None = None
    since = 0
    for value in values:
        if value is not None and (best is None or value > best):
            best, since = value, 0
        elif best is not None:
            since += 1
    return since >= stop_after
