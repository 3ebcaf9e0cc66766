"""Columns that alone predict the target (nearly) perfectly: they probably became known only with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.table import Table

# A tree of this depth, trained on a column alone, is tested on rows that it has not seen, in folds of a sample.
_DEPTH, _FOLDS, _SAMPLE = 10, 3, 3000
# Share of the errors of the best constant prediction (squared errors of a regression) that the tree avoids.
_SUSPICIOUS = 0.99
_FEWEST_ROWS = 60
_MOST_COLUMNS = 300


def warnings_of(columns: Mapping[str, Array], y: Array, rows: Array, *, is_regression: bool) -> Iterator[str]:
    """Yield a warning for each column that alone predicts `y`; only rows of the index `rows`, for training, are used.

    `columns` are numbers, NaN where missing, of the rows `sample_of(rows)`. Needs at least two columns and 60 rows.
    """
    import numpy as np

    if len(rows) < _FEWEST_ROWS or not 2 <= len(columns) <= _MOST_COLUMNS or y.ndim != 1:
        return
    sample = sample_of(rows)
    for name, values in columns.items():
        share = _explained(values.astype(np.float32).reshape(-1, 1), y[sample], is_regression=is_regression)
        if share >= _SUSPICIOUS:
            what = (
                f"{share:.1%} of the target's variance" if is_regression else f"all but {1 - share:.1%} of the labels"
            )
            yield (
                f"column {name!r} alone predicts {what} (a decision tree, cross-validated on {len(sample)} training rows); "
                "if it is known only after the target, drop it"
            )


def sample_of(rows: Array) -> Array:
    """Return the rows that columns are judged by."""
    import numpy as np

    return np.random.default_rng(0).permutation(rows)[:_SAMPLE]


def columns_of(table: Table, rows: Array) -> dict[str, Array]:
    """Return rows of a table as numbers: categories as their rank, dates as seconds; long texts are left out."""
    import numpy as np

    values_of = {}
    for column in table.columns:
        if column.kind == "date":
            values_of[column.name] = column.seconds[column.values[rows]]
        elif column.texts is None:
            values_of[column.name] = column.values[rows]
        elif column.kind == "category":
            values_of[column.name] = np.unique(column.raw(rows).astype(str), return_inverse=True)[1]
    return values_of


def _explained(x: Array, y: Array, *, is_regression: bool) -> float:
    """Return the share of errors that a tree avoids on rows it was not trained on; 0 if all targets are equal."""
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    folds = np.arange(len(y)) % _FOLDS
    errors = usual = 0.0
    for fold in range(_FOLDS):
        train, test = folds != fold, folds == fold
        tree = (DecisionTreeRegressor if is_regression else DecisionTreeClassifier)(max_depth=_DEPTH, random_state=0)
        predicted = tree.fit(x[train], y[train]).predict(x[test])
        if is_regression:
            errors += float(((predicted - y[test]) ** 2).sum())
            usual += float(((y[train].mean() - y[test]) ** 2).sum())
        else:
            labels, counts = np.unique(y[train], return_counts=True)
            errors += float((predicted != y[test]).sum())
            usual += float((labels[counts.argmax()] != y[test]).sum())
    return 1 - errors / usual if usual else 0.0
