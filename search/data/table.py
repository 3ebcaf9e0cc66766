"""What is encoded later: a table as columns, or texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from search.data.dates import Order, seconds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table.

    Attributes:
        kind: "number", "boolean", "category", "text" or "date".
        values: float64 (rows,), NaN where missing; with `texts` int32 (rows,), the index of each cell's text.
        texts: the distinct cells as written, "" for an empty one; None for numbers, booleans and categories that are numbers.
        order: of the parts of a date.
        exact: the cells as objects, where float64 has changed a whole number; else None.
    """

    name: str
    kind: str
    values: Array
    texts: tuple[str, ...] | None = None
    order: Order = Order.YMD
    exact: Array | None = None

    def raw(self, rows: Array) -> Array:
        """Return cells as an exported model takes them: float32, NaN where missing; or texts, "" where empty."""
        import numpy as np

        if self.texts is None:
            return self.values[rows].astype(np.float32)
        return np.array(self.texts, dtype=object)[self.values[rows]]

    @cached_property
    def seconds(self) -> Array:
        """Of a column of dates: the seconds since 1970 of each distinct text, NaN for those that are not dates."""
        import numpy as np

        parsed = [seconds_of(text, self.order) for text in self.texts or ()]
        return np.array([np.nan if value is None else value for value in parsed])


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a split's rows."""

    columns: tuple[Column, ...]

    def raw(self, rows: Array) -> dict[str, Array]:
        """Return rows as an exported model takes them: column name -> (rows,)."""
        return {column.name: column.raw(rows) for column in self.columns}

    @property
    def kinds(self) -> dict[str, str]:
        return {column.name: column.kind for column in self.columns}


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts of a split's rows: `values` are Python strings, (rows,)."""

    values: Array

    def raw(self, rows: Array) -> Array:
        """Return texts as an exported model takes them, (rows,)."""
        values: Array = self.values[rows]
        return values
