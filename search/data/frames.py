"""Tables of pandas as arrays: every column a number, whole numbers kept whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search.data.exact import refusal
from search.data.labels import DECIMAL_COMMA, is_missing
from search.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from search.data.parts import Array

_INT64_MAX = 2**63 - 1
_FLOAT64_WHOLE = 2**53


def matrix_of(frame: pd.DataFrame, place: Callable[[int], str]) -> tuple[Array, str]:
    """Return a table's columns as one array, int64 or uint64 where all are whole, else float64; and what that changed.

    The text is a refusal of the first whole number that float64 can't hold; "" if there is none. Columns of one dtype are
    converted together, so that the time is linear in the number of columns. Raises DataError naming row and column: text.
    """
    import numpy as np

    dtypes = frame.dtypes.to_numpy()
    groups = {dtype: np.flatnonzero(dtypes == dtype) for dtype in dict.fromkeys(dtypes)}
    parts = [(index, _numbers(frame.iloc[:, index], place)) for index in groups.values()]
    dtype = _dtype([part for _, part in parts])
    values = np.empty(frame.shape, dtype)
    rounded = ""
    for index, part in parts:
        values[:, index] = part
        if dtype == np.float64 and not rounded:
            rounded = _rounded(part, frame.iloc[:, index], place)
    return values, rounded


def _dtype(parts: list[Array]) -> np.dtype[Any]:
    """Return int64, or uint64 for values beyond it, where all are whole and one type holds them; else float64."""
    import numpy as np

    if not {part.dtype.kind for part in parts} <= set("biu"):
        return np.dtype(np.float64)
    if not any(part.dtype == np.uint64 and part.size and int(part.max()) > _INT64_MAX for part in parts):
        return np.dtype(np.int64)
    is_positive = all(part.dtype.kind in "bu" or not part.size or int(part.min()) >= 0 for part in parts)
    return np.dtype(np.uint64 if is_positive else np.float64)


def _numbers(frame: pd.DataFrame, place: Callable[[int], str]) -> Array:
    """Convert columns of one dtype; NaN stands where a nullable column has no value."""
    import numpy as np
    import pandas as pd

    dtype: Any = frame.dtypes.iloc[0]
    types = pd.api.types
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return frame.to_numpy()
    if types.is_bool_dtype(dtype) or types.is_integer_dtype(dtype) or types.is_float_dtype(dtype):
        columns = [_nullable(frame.iloc[:, column]) for column in range(frame.shape[1])]
    else:
        columns = [_text_numbers(frame.iloc[:, column], place) for column in range(frame.shape[1])]
    return np.column_stack(columns)


def _nullable(column: pd.Series[Any]) -> Array:
    """Convert a column of pandas's own dtypes (Int64, boolean, Float64, Sparse, pyarrow's)."""
    import numpy as np
    import pandas as pd

    if column.isna().any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=np.bool_)
    kind = np.float64 if pd.api.types.is_float_dtype(column.dtype) else np.int64
    is_unsigned = pd.api.types.is_unsigned_integer_dtype(column.dtype)
    return column.to_numpy(dtype=np.uint64 if is_unsigned else kind)


def _text_numbers(column: pd.Series[Any], place: Callable[[int], str]) -> Array:
    """Convert a column of objects or text whose cells are all numbers."""
    import pandas as pd

    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    missing = numbers.isna().to_numpy()
    values = numbers.to_numpy()
    if missing.any() or values.dtype.kind not in "biuf":
        raise DataError(_no_number(column, missing, place))
    return values


def _no_number(column: pd.Series[Any], missing: Array, place: Callable[[int], str]) -> str:
    """Say which cell is no number, and what would mend it."""
    # In a column of true and false, the culprit is the cell that is neither.
    odd = missing & ~column.astype(str).str.lower().isin(["true", "false"]).to_numpy()
    row = int((odd if odd.any() else missing).argmax())
    cell = column.iloc[row]
    text = str(cell)
    kind = "" if isinstance(cell, str) else f" ({type(cell).__name__})"
    where = f"{place(row)}, column {str(column.name)!r}: {text[:80]!r}{kind}"
    if is_missing(text):
        return f"{where} stands for a missing value; fill it in, or remove the row or the column"
    if DECIMAL_COMMA.fullmatch(text.strip()):
        return f"{where} is written with a comma; write numbers with a decimal point (and without thousands separators)"
    return (
        f"{where} is no number; features are numbers (or true and false): encode the column as numbers "
        "(pandas: get_dummies), or remove it"
    )


def _rounded(part: Array, columns: pd.DataFrame, place: Callable[[int], str]) -> str:
    """Refuse the first whole number of some columns, as they stood in the table, that float64 can't hold."""
    import numpy as np
    import pandas as pd

    if part.dtype.kind in "iu":
        with np.errstate(invalid="ignore"):  # the top of int64 is rounded out of it, which is a change
            changed = np.argwhere(part.astype(np.float64).astype(part.dtype) != part)
    elif pd.api.types.is_object_dtype(columns.dtypes.iloc[0]):
        changed = np.argwhere(np.abs(part) > _FLOAT64_WHOLE)
    else:
        return ""
    for row, column in changed.tolist():
        cell = columns.iat[row, column]
        if isinstance(cell, int | np.integer) and int(float(cell)) != int(cell):
            return refusal(f"{place(row)}, column {str(columns.columns[column])!r}", int(cell))
    return ""
