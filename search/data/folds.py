"""Folds: each of them judges once, and the rows of the others train. The test rows are taken out before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.data.windows import POSITION
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array, Parts
    from search.data.several import Bundle
    from search.data.targets import Targets
    from search.spec.settings import DataSection

_KEY = "study.folds"


@dataclass(frozen=True, slots=True)
class Fold:
    """Fold `number`, counted from 0, of `count`."""

    number: int
    count: int


def check(bundle: Bundle, section: DataSection) -> None:
    """Raise DataError for data whose rows can't judge by turns."""
    splits = next(iter(bundle.outputs.values())).splits
    roles = splits["train"].roles
    what = ""
    if bundle.stream is not None:
        what = "its training rows come in batches, and folds need them in memory"
    elif section.lazy:
        what = "lazy = true reads training images as they are needed, and each fold keeps the rows that judge in memory"
    elif section.window is not None or "order" in roles or POSITION in roles:
        what = "its rows are in order of time, and folds would train on the future of the rows that they judge by"
    elif "validation" in splits or "split" in roles:
        what = "it has validation rows of its own; give them as training rows, and folds make the others"
    if what:
        raise DataError(
            f"{bundle.name}: {what}; or remove folds (repeats = 5 trains each config several times)", key=_KEY
        )


def divide(parts: Parts, targets: Targets, rows: Array, fold: Fold, state: int) -> tuple[Array, Array]:
    """Return the rows that train in a fold, and those that judge.

    Folds are stratified by class; whole groups stay together. Without groups all folds judge equally many rows, so that one
    program trains them: up to `count` - 1 rows train in every fold and judge in none.

    Args:
        rows: of the source's training rows, those that are in no other split.
    """
    import numpy as np

    labels = targets.y["train"][rows] if targets.class_names else None
    groups = parts.splits["train"].roles.get("group")
    _check_enough(parts, targets, rows, labels, groups, fold)
    if groups is not None:
        judged = _whole_groups(rows, labels, groups[rows], state, fold, parts.name)
    else:
        folds = [np.sort(test) for test in _by_chance(rows, labels, state, fold)]
        size = min(map(len, folds))
        judged = folds[fold.number]
        if len(judged) > size:  # by one row
            judged = np.delete(judged, _most_common(judged, labels))
    is_judged = np.zeros(len(rows), bool)
    is_judged[judged] = True
    return rows[~is_judged], rows[is_judged]


def _by_chance(rows: Array, labels: Array | None, state: int, fold: Fold) -> list[Array]:
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = KFold if labels is None else StratifiedKFold
    return [test for _, test in kind(fold.count, shuffle=True, random_state=state).split(rows, labels)]


def _whole_groups(rows: Array, labels: Array | None, groups: Array, state: int, fold: Fold, name: str) -> Array:
    import numpy as np
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kind = GroupKFold if labels is None else StratifiedGroupKFold
    _, codes = np.unique(groups, return_inverse=True)
    folds = [test for _, test in kind(fold.count, shuffle=True, random_state=state).split(rows, labels, codes)]
    # StratifiedGroupKFold balances classes, and may give a fold nothing where groups are few.
    if not all(map(len, folds)):
        raise DataError(
            f"{name}: its {len(np.unique(codes))} groups leave no rows that judge in one of {fold.count} folds, as classes "
            "are balanced; use fewer folds, or remove group",
            key=_KEY,
        )
    judged: Array = folds[fold.number]
    return judged


def _most_common(judged: Array, labels: Array | None) -> int:
    """Return the place of the last row of the class that has the most rows."""
    import numpy as np

    if labels is None:
        return len(judged) - 1
    common = np.bincount(labels[judged]).argmax()
    return int(np.flatnonzero(labels[judged] == common)[-1])


def _check_enough(
    parts: Parts, targets: Targets, rows: Array, labels: Array | None, groups: Array | None, fold: Fold
) -> None:
    import numpy as np

    if groups is not None:
        count, what = len(np.unique(groups[rows])), "groups"
    else:
        count, what = len(rows), "rows"
    if count < fold.count:
        raise DataError(f"{parts.name}: {count} {what} are too few for {fold.count} folds; use fewer", key=_KEY)
    if labels is None or groups is not None:
        return
    counts = np.bincount(labels, minlength=len(targets.class_names))
    for label in np.flatnonzero(counts):
        # Of a fold with a row too many, the most common class gives one up.
        if counts[label] < fold.count:
            raise DataError(
                f"{parts.name}: class {targets.class_names[label]!r} has {counts[label]} of the {len(rows)} rows, and needs "
                f"{fold.count}, one for each fold; add rows, use fewer folds, or remove the class",
                key=_KEY,
            )
