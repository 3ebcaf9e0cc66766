"""Tables of pandas as arrays: every column a number, whole numbers kept whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search.data.exact import refusal
from search.data.labels import DECIMAL_COMMA, is_missing
from search.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array

_INT64_MAX = 2**63 - 1
_FLOAT64_WHOLE = 2**53


def matrix_of(frame: pd.DataFrame, place: Callable[[int], str]) -> Array:
    """Return a table's columns as one array: int64 or uint64 where all are whole, else float64.

    Columns of one dtype are converted together, so that the time is linear in the number of columns.
    Raises DataError naming row and column: text, or a whole number that float64 can't hold beside real ones.
    """
    import numpy as np

    dtypes = frame.dtypes.to_numpy()
    groups = {dtype: np.flatnonzero(dtypes == dtype) for dtype in dict.fromkeys(dtypes)}
    parts = [(index, _numbers(frame.iloc[:, index], place)) for index in groups.values()]
    kinds = {part.dtype.kind for _, part in parts}
    if kinds <= set("biu"):
        dtype = _whole_dtype(frame, parts, place)
    else:
        dtype = np.dtype(np.float64)
        for index, part in parts:
            _check_float64(part, [str(frame.columns[column]) for column in index.tolist()], place)
    values = np.empty(frame.shape, dtype)
    for index, part in parts:
        values[:, index] = part
    return values


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
    if values.dtype.kind == "f":
        for row, cell in enumerate(column):
            if isinstance(cell, int) and abs(cell) > _FLOAT64_WHOLE and int(values[row]) != cell:
                raise DataError(refusal(f"{place(row)}, column {str(column.name)!r}", cell))
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


def _whole_dtype(frame: pd.DataFrame, parts: list[tuple[Array, Array]], place: Callable[[int], str]) -> Any:
    """Return int64, or uint64 for values beyond it; a table that needs both is refused."""
    import numpy as np

    if not any(part.dtype == np.uint64 and part.size and int(part.max()) > _INT64_MAX for _, part in parts):
        return np.dtype(np.int64)
    if all(part.dtype.kind in "bu" or not part.size or int(part.min()) >= 0 for _, part in parts):
        return np.dtype(np.uint64)
    index, part = next((i, p) for i, p in parts if p.dtype == np.uint64 and int(p.max()) > _INT64_MAX)
    row, column = np.argwhere(part > _INT64_MAX)[0].tolist()
    name = str(frame.columns[index[column]])
    raise DataError(refusal(f"{place(row)}, column {name!r}", int(part[row, column])))


def _check_float64(part: Array, names: list[str], place: Callable[[int], str]) -> None:
    """Refuse whole numbers that would change on their way into a table of float64."""
    import numpy as np

    if part.dtype.kind not in "iu" or not part.size:
        return
    if max(abs(int(part.min())), abs(int(part.max()))) <= _FLOAT64_WHOLE:
        return
    for row, column in np.argwhere((part > _FLOAT64_WHOLE) | (part < -_FLOAT64_WHOLE)).tolist():
        value = int(part[row, column])
        if int(float(value)) != value:
            raise DataError(refusal(f"{place(row)}, column {names[column]!r}", value))
