"""Tables of pandas as arrays: all columns are numbers, and whole numbers stay exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search.data.exact import FLOAT64_WHOLE, rounding_message, whole_number
from search.data.labels import DECIMAL_COMMA, is_missing
from search.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from search.data.parts import Array

_INT64_MAX = 2**63 - 1


def matrix_of(frame: pd.DataFrame, place: Callable[[int], str]) -> tuple[Array, str]:
    """Return a table as one array, int64 or uint64 if all columns are whole, else float64; and an error text.

    The text is for the first whole number that float64 can't hold; "" if there is none. Columns of one dtype are converted
    together, so that the time is linear in the number of columns. Raises DataError that names row and column of a text.
    """
    import numpy as np

    dtypes = frame.dtypes.to_numpy()
    groups = {dtype: np.flatnonzero(dtypes == dtype) for dtype in dict.fromkeys(dtypes)}
    blocks = [(index, _numbers(frame.iloc[:, index], place)) for index in groups.values()]
    dtype = _dtype([block for _, block in blocks])
    values = np.empty(frame.shape, dtype)
    rounding_error = ""
    for index, block in blocks:
        values[:, index] = block
        if dtype == np.float64 and not rounding_error:
            rounding_error = _rounding_error(block, frame.iloc[:, index], place)
    return values, rounding_error


def _dtype(blocks: list[Array]) -> np.dtype[Any]:
    """Return int64, or uint64 for values beyond it, if all are whole and one type holds them; else float64."""
    import numpy as np

    if not {block.dtype.kind for block in blocks} <= set("biu"):
        return np.dtype(np.float64)
    if not any(block.dtype == np.uint64 and block.size and int(block.max()) > _INT64_MAX for block in blocks):
        return np.dtype(np.int64)
    is_positive = all(block.dtype.kind in "bu" or not block.size or int(block.min()) >= 0 for block in blocks)
    return np.dtype(np.uint64 if is_positive else np.float64)


def _numbers(frame: pd.DataFrame, place: Callable[[int], str]) -> Array:
    """Convert columns of one dtype; missing values of a nullable column become NaN."""
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
    signed = np.float64 if pd.api.types.is_float_dtype(column.dtype) else np.int64
    is_unsigned = pd.api.types.is_unsigned_integer_dtype(column.dtype)
    return column.to_numpy(dtype=np.uint64 if is_unsigned else signed)


def _text_numbers(column: pd.Series[Any], place: Callable[[int], str]) -> Array:
    """Convert a column of objects or text whose cells are all numbers."""
    import pandas as pd

    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    missing = numbers.isna().to_numpy()
    values = numbers.to_numpy()
    if missing.any() or values.dtype.kind not in "biuf":
        raise DataError(_no_number_message(column, missing, place))
    return values


def _no_number_message(column: pd.Series[Any], missing: Array, place: Callable[[int], str]) -> str:
    """Return the error text for the first cell that is not a number, with its remedy."""
    # In a column of booleans, name the cell that is not a boolean.
    not_boolean = missing & ~column.astype(str).str.lower().isin(["true", "false"]).to_numpy()
    row = int((not_boolean if not_boolean.any() else missing).argmax())
    cell = column.iloc[row]
    text = str(cell)
    type_note = "" if isinstance(cell, str) else f" ({type(cell).__name__})"
    where = f"{place(row)}, column {str(column.name)!r}: {text[:80]!r}{type_note}"
    if is_missing(text):
        return f"{where} stands for a missing value; fill it in, or remove the row or the column"
    if DECIMAL_COMMA.fullmatch(text.strip()):
        return f"{where} is written with a comma; write numbers with a decimal point (and without thousands separators)"
    return (
        f"{where} is no number; features are numbers (or true and false): encode the column as numbers "
        "(pandas: get_dummies), or remove it"
    )


def _rounding_error(block: Array, columns: pd.DataFrame, place: Callable[[int], str]) -> str:
    """Return the error text for the first whole number of these columns that float64 can't hold; "" if there is none."""
    import numpy as np
    import pandas as pd

    if block.dtype.kind in "iu":
        with np.errstate(invalid="ignore"):  # int64's largest numbers overflow, which is a change
            changed = np.argwhere(block.astype(np.float64).astype(block.dtype) != block)
    elif not pd.api.types.is_numeric_dtype(columns.dtypes.iloc[0]):
        changed = np.argwhere(np.abs(block) >= FLOAT64_WHOLE)
    else:
        return ""
    for row, column in changed.tolist():
        cell = columns.iat[row, column]
        if (whole := whole_number(cell)) is not None and int(float(whole)) != whole:
            return rounding_message(f"{place(row)}, column {str(columns.columns[column])!r}", whole)
    return ""
