"""A table of pandas as rows of a source: an array if it is all numbers, else its columns, which are encoded later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search.data import column_remarks
from search.data.cells import quoted
from search.data.columns import Findings, is_plain, read_table, without_dropped
from search.data.labels import clean_labels
from search.data.parts import Part, Parts
from search.data.roles import take_columns
from search.data.table import Table, Texts
from search.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array
    from search.spec.settings import Columns


def parts_of_table(
    frame: pd.DataFrame,
    target: str | None,
    columns: Columns | None,
    place: Callable[[int], str],
    name: str,
    roles: Mapping[str, str] = {},
    *,
    is_series: bool = False,
) -> Parts:
    """Return the rows of a table; DataError for missing targets, and for all columns that can't be read, at once.

    In a series the target is a feature, too, if it is a number: its past is known.
    """
    frame, given = take_columns(frame, roles, columns, place)
    position = [str(column) for column in frame.columns].index(str(target))
    learnt: pd.Series[Any] = frame.iloc[:, position]
    _check_targets(learnt, place)
    y = _target_values(learnt)
    has_past = is_series and y.dtype.kind != "U"
    features = frame.iloc[:, [column for column in range(frame.shape[1]) if column != position or has_past]]
    if not features.shape[1]:
        raise DataError(f"{name}: the target is the only column, and texts are not features; add columns of numbers")
    part, warned = part_of(features, y, place, columns, name)
    return clean_labels(Parts(name, {"train": replace(part, roles=given)}, warnings=tuple(warned)), target)


def refuse_series(table: Table | Texts, name: str) -> None:
    """Raise DataError for windows over texts, or over a table with a column of texts."""
    if not isinstance(table, Table):
        raise DataError(f"{name}: window is for rows of numbers, and x is texts; remove window", key="data.window")
    if texts := [column.name for column in table.columns if column.kind == "text"]:
        raise DataError(
            f"{name}: a window has no words, and column {texts[0]!r} holds texts; drop it, or, if it is a category: "
            f"columns = {{ category = [{quoted(texts[0])}] }}",
            key="data.window",
        )


def part_of(
    frame: pd.DataFrame,
    y: Array,
    place: Callable[[int], str],
    columns: Columns | None,
    name: str,
    *,
    like: Table | None = None,
    is_encoded: bool = False,
) -> tuple[Part, list[str]]:
    """Return the rows of a table and warnings: its numbers as an array, or, if it is not all numbers, its columns.

    With `is_encoded`, another split is not all numbers; `like` are the columns of the training rows.
    """
    import numpy as np

    from search.data.frames import matrix_of

    frame = without_dropped(frame, columns, name)
    if not is_encoded and is_plain(frame, columns):
        values, rounded = matrix_of(frame, place)
        remarks = column_remarks.of_numbers(frame) if like is None else ()
        names = tuple(str(column) for column in frame.columns)
        return Part(values, y, place, names, rounded), [f"{name}, {remark}" for remark in remarks]
    findings = Findings() if like is None else _unlike(frame, like, name)
    findings.check(name)
    table, findings = read_table(frame, columns, place, like)
    findings.check(name)
    x = np.arange(len(frame), dtype=np.int64).reshape(-1, 1)
    return Part(x, y, place, encodable=table), [f"{name}, {warning}" for warning in findings.warnings]


def _unlike(frame: pd.DataFrame, like: Table, name: str) -> Findings:
    """Return a fault for each column that only one of two splits has."""
    names, expected = [str(column) for column in frame.columns], [column.name for column in like.columns]
    faults = [
        f"{name}: a split has no column {column!r}, and the training rows have"
        for column in expected
        if column not in names
    ]
    faults += [
        f"{name}: a split has a column {column!r}, and the training rows have not"
        for column in names
        if column not in expected
    ]
    if not faults and names != expected:
        faults = [
            f"{name}: the columns of the splits are in different orders; give all in the order {', '.join(expected[:20])}"
        ]
    return Findings(faults)


def _check_targets(target: pd.Series[Any], place: Callable[[int], str]) -> None:
    """Refuse missing targets. Lines with fewer cells than the header have some, because pandas fills them up."""
    import numpy as np

    rows = np.flatnonzero(target.isna().to_numpy())
    if len(rows):
        others = f" (and so are {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise DataError(
            f"{place(int(rows[0]))}, column {str(target.name)!r}: the cell is empty{others}; the target must be there: fill "
            "it in, or remove the row"
        )


def _target_values(column: pd.Series[Any]) -> Array:
    import numpy as np
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):  # for pandas, booleans are numeric
        return column.to_numpy()
    return np.array([str(value) for value in column], dtype=str)
