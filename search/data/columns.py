"""The columns of a table: their kinds, guessed or set in the study file, and all that is wrong with them, told at once.

A column is a number, a boolean, a category, a text or a date. `search.data.table_encoding` turns columns into features.
"""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.data.cells import (
    FLOAT32_WHOLE,
    SHOWN,
    ColumnFault,
    factorized,
    first_infinite,
    is_plain_cell,
    merged,
    not_finite,
    quoted,
    types_of,
)
from search.data.column_remarks import remarks
from search.data.dates import Order
from search.data.exact import exact_cells
from search.data.table import Column, Table
from search.data.text_columns import TextColumn, with_missing
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array
    from search.spec.settings import Columns

_FEW = 20
_WHY_NOT = {
    "target": "the target is no feature",
    "split": "the split is no feature",
    "order": "an order is a feature only as a date or number",
    "group": "validation rows are of other groups, so it is no feature, but as a category or number in windows with an order",
}


@dataclass
class Findings:
    """What is wrong with columns, and what may be. A fault names a column and, if possible, a row."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def check(self, name: str) -> None:
        """Raise DataError with all faults."""
        if len(self.faults) == 1:
            raise DataError(self.faults[0])
        if self.faults:
            lines = "".join(f"\n  {fault}" for fault in self.faults[:SHOWN])
            more = f"\n  and {len(self.faults) - SHOWN} more" if len(self.faults) > SHOWN else ""
            raise DataError(f"{name}: {len(self.faults)} columns can't be read:{lines}{more}")


def without_dropped(frame: pd.DataFrame, settings: Columns | None, name: str) -> pd.DataFrame:
    """Return a table without the columns that the study drops; DataError for names in `columns` that it does not have."""
    if settings is None:
        return frame
    check_names(settings, [str(column) for column in frame.columns], name)
    keep = [index for index, column in enumerate(frame.columns) if str(column) not in settings.drop]
    if not keep:
        raise DataError(f"{name}: columns.drop leaves no column of features; drop fewer", key="data.columns")
    return frame.iloc[:, keep]


def check_names(settings: Columns, names: list[str], source: str, taken: Mapping[str, str] = {}) -> None:
    """Raise DataError for columns that a table does not have, and for those that are `taken`: what by -> the column."""
    for kind, listed in settings.by_kind().items():
        for column in listed:
            if role := next((role for role, other in taken.items() if other == column), ""):
                raise DataError(
                    f"{source}: columns.{kind} and {role} both name {column!r}, and {_WHY_NOT[role]}; remove it from columns",
                    key="data.columns",
                )
            if column not in names:
                shown = ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
                raise DataError(
                    f"{source}: columns.{kind} names {column!r}, and there is no such column{closest(column, names)}; "
                    f"it has {shown}",
                    key="data.columns",
                )


def is_plain(frame: pd.DataFrame, settings: Columns | None) -> bool:
    """Return whether a table is numbers, true and false without blanks, which need no encoding."""
    if settings is not None and (settings.category or settings.text or settings.date):
        return False
    import pandas as pd

    is_numeric = frame.dtypes.map(pd.api.types.is_numeric_dtype).to_numpy(bool)  # for pandas, booleans are numeric
    others = frame.iloc[:, ~is_numeric]
    if not all(_holds_numbers(others.iloc[:, index]) for index in range(others.shape[1])):
        return False
    return not bool(frame.iloc[:, is_numeric].isna().to_numpy().any())


def _holds_numbers(column: pd.Series[Any]) -> bool:
    """Return whether all cells are numbers, although the dtype does not show it: whole numbers beyond 64 bits, say."""
    import pandas as pd

    types = pd.api.types
    is_category = isinstance(column.dtype, pd.CategoricalDtype) and types.is_numeric_dtype(column.dtype.categories)
    if not (is_category or types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return False
    # The first cell decides for most columns, and quickly.
    return all(
        pd.to_numeric(cells.astype(object), errors="coerce").notna().all() for cells in (column.iloc[:1], column)
    )


def read_table(
    frame: pd.DataFrame, settings: Columns | None, place: Callable[[int], str], like: Table | None = None
) -> tuple[Table, Findings]:
    """Return the columns of a table and what is wrong with them; with `like`, their kinds are those of another split."""
    findings = Findings()
    wanted = {} if settings is None else settings.kind_of()
    orders: Mapping[str, Order] = {}
    if like is not None:
        wanted, orders = like.kinds, {column.name: column.order for column in like.columns}
    columns = []
    for index, name in enumerate(map(str, frame.columns)):
        reader = _Reader(name, frame.iloc[:, index], place, wanted.get(name), orders.get(name))
        try:
            columns.append(reader.column())
        except ColumnFault as fault:
            findings.faults.append(str(fault))
        if like is None:
            findings.warnings += [f"column {name!r}: {warning}" for warning in reader.warnings]
    if like is None and not findings.faults:
        findings.warnings += remarks(columns)
    return Table(tuple(columns)), findings


class _Reader:
    """Reads one column."""

    def __init__(
        self,
        name: str,
        series: pd.Series[Any],
        place: Callable[[int], str],
        wanted: str | None,
        order: Order | None,
    ) -> None:
        self.name, self.series, self.place, self.wanted, self.order = name, series, place, wanted, order
        self.warnings: list[str] = []

    def column(self) -> Column:
        """Return the column; ColumnFault with a line for people."""
        import pandas as pd

        dtype, types = self.series.dtype, pd.api.types
        if self.series.isna().all():
            raise ColumnFault(f"column {self.name!r} is empty; drop it: columns = {{ drop = [{quoted(self.name)}] }}")
        if isinstance(dtype, pd.CategoricalDtype):
            self.wanted = self.wanted or "category"
            self.series = self.series.astype(dtype.categories.dtype if not self.series.isna().any() else object)
            dtype = self.series.dtype
        if types.is_bool_dtype(dtype) and not types.is_object_dtype(dtype):
            return self._numeric(self._floats(), "boolean")
        if types.is_datetime64_any_dtype(dtype):
            return self._of_dates(self.series)
        if types.is_numeric_dtype(dtype) and dtype.kind != "c":
            return self._numeric(self._floats(), "number")
        if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
            return self._of_objects()
        raise ColumnFault(f"column {self.name!r} is of type {dtype}; give numbers, texts, true and false, or dates")

    def _floats(self) -> Array:
        import numpy as np

        return self.series.to_numpy(dtype=np.float64, na_value=np.nan)

    def _numeric(self, values: Array, guess: str) -> Column:
        """Return a column whose cells are numbers."""

        if (row := first_infinite(values)) is not None:
            raise ColumnFault(not_finite(self._at(row), values[row]))
        kind = self.wanted or guess
        if kind == "date":
            raise ColumnFault(
                f"column {self.name!r}: a date is a text such as 2024-03-01; received numbers: write such texts"
            )
        if kind == "boolean" or (kind == "number" and guess == "boolean"):
            kind = guess
        if kind == "text" or (kind == "category" and not self._are_small_whole(values)):
            return self._as_texts(kind)
        return Column(self.name, kind, values, exact=exact_cells(self.series, values))

    def _are_small_whole(self, values: Array) -> bool:
        import numpy as np

        known = values[~np.isnan(values)]
        return bool((known == np.floor(known)).all() and (np.abs(known) <= FLOAT32_WHOLE).all())

    def _as_texts(self, kind: str) -> Column:
        """Return numbers as texts, which is how models get categories that are not whole numbers."""
        codes, uniques = factorized(self.series)
        return with_missing(self.name, kind, codes, [str(value) for value in uniques])

    def _of_dates(self, series: pd.Series[Any]) -> Column:
        """Return dates of pandas as texts, in the form of ISO 8601."""
        import pandas as pd

        if self.wanted not in (None, "date"):
            raise ColumnFault(
                f"column {self.name!r} holds dates, and columns.{self.wanted} names it; name it under date, or drop it"
            )
        if series.dt.tz is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
            self.warnings.append("its dates have a time zone and become those of UTC")
        codes, uniques = factorized(series)
        written = [str(value) for value in pd.Series(uniques).dt.floor("s").astype(str)]
        return with_missing(self.name, "date", codes, written)

    def _of_objects(self) -> Column:
        import numpy as np

        codes, uniques = factorized(self.series)
        if all(isinstance(value, bool) for value in uniques):
            return self._numeric(self._floats_of(codes, uniques), "boolean")
        if all(isinstance(value, numbers.Real | decimal.Decimal) and not isinstance(value, bool) for value in uniques):
            return self._numeric(self._floats_of(codes, uniques), "number")
        if all(isinstance(value, datetime.date) for value in uniques):
            import pandas as pd

            are_aware = {getattr(value, "tzinfo", None) is not None for value in uniques}
            if len(are_aware) > 1:
                raise ColumnFault(
                    f"column {self.name!r} holds dates with a time zone and dates without; write all in one time zone"
                )
            # Cells of several time zones have no type of pandas in common but UTC.
            return self._of_dates(pd.to_datetime(self.series, utc=are_aware.pop()))
        odd = [value for value in uniques if not isinstance(value, str)]
        if odd and not (self.wanted in ("category", "text") and all(map(is_plain_cell, odd))):
            are_texts = np.array([isinstance(value, str) for value in uniques])[codes[codes >= 0]]
            # Name a cell of the rarer kind.
            are_rare = 0 < 2 * are_texts.sum() < len(are_texts)
            index = next(i for i, value in enumerate(uniques) if isinstance(value, str) == are_rare)
            raise ColumnFault(
                f"{self._at(int((codes == index).argmax()))}: {str(uniques[index])[:SHOWN]!r} "
                f"({type(uniques[index]).__name__}) in a column of {types_of(uniques)}; make them alike"
            )
        codes, texts = merged(codes, [str(value) for value in uniques])
        reader = TextColumn(self.name, codes, texts, self._at, self.wanted, self.order)
        self.warnings = reader.warnings
        return reader.column()

    def _floats_of(self, codes: Array, uniques: list[Any]) -> Array:
        import numpy as np

        # Codes of missing cells are -1, the last one.
        values: Array = np.array([*map(float, uniques), np.nan])[codes]
        return values

    def _at(self, row: int) -> str:
        return f"{self.place(row)}, column {self.name!r}"
