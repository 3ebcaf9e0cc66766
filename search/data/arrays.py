"""One array of what a data function returns, from any library: numpy, pandas, SciPy, TensorFlow, lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from search.data.exact import FLOAT64_WHOLE, rounding_message, whole_number
from search.data.parts import rows_of
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array

FORMS = (
    "return (x, y), (x, y, weights), ((x_train, y_train), (x_test, y_test)) or a dictionary with x_train, y_train, "
    "x_validation, y_validation, x_test, y_test"
)
_LARGEST_DENSE = 4 * 2**30


def advice_on(value: Any) -> str:
    """Return what to return instead of an object that yields batches, or of None; "" for anything else."""
    names = {cls.__name__ for cls in type(value).__mro__}
    modules = {cls.__module__.partition(".")[0] for cls in type(value).__mro__}
    if value is None:
        return f"the function has no return, or an array is missing: {FORMS}"
    if hasattr(value, "as_numpy_iterator"):
        return (
            "return arrays: x, y = map(np.array, zip(*dataset.unbatch().as_numpy_iterator())) for a batched dataset of "
            "(features, labels); then return x, y"
        )
    if names & {"PyDataset", "Sequence"} and modules & {"keras", "tensorflow", "tf_keras"}:
        return "return arrays: x, y = map(np.concatenate, zip(*(dataset[i] for i in range(len(dataset))))); then return x, y"
    if isinstance(value, Iterator) or "DataLoader" in names:
        return (
            "return arrays, of as many batches as you mean: x, y = map(np.concatenate, zip(*itertools.islice(batches, "
            "100))); then return x, y"
        )
    return ""


def to_array(value: Any, name: str, key: str) -> tuple[Array, tuple[str, ...], str]:
    """Return an array and, for a pandas table, the names of its columns and `Part.rounded`."""
    import numpy as np

    if value is None or (advice := advice_on(value)):
        advice = "give one array for it" if value is None else advice
        raise DataError(f"{name}: {key} is {'None' if value is None else type(value).__name__}; {advice}")
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        return _from_sparse(value, name, key), (), ""
    if type(value).__module__.partition(".")[0] == "pandas":
        return _from_pandas(value, name, key)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0])
        raise DataError(
            f"{rows_of(name, key)(row)}: has masked values; fill them in (x.filled(0), say) or remove such rows"
        )
    try:
        array = np.asarray(value)
    except Exception as error:  # noqa: BLE001 (conversion of another library's array may raise anything)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{name}: {key} can't be made an array: {first}; return rows of equal length, and several inputs as a "
            "dictionary of arrays"
        ) from None
    if isinstance(value, list | tuple):
        _check_exact(array, value, name, key)
    return _typed(array, name, key), (), ""


def _check_exact(array: Array, value: Any, name: str, key: str) -> None:
    """Refuse whole numbers of Python that are beside reals and that float64 rounds."""
    import numpy as np

    if array.dtype.kind != "f":
        return
    is_large = np.abs(array) >= FLOAT64_WHOLE
    # An object takes many times the memory of a number, so make objects of one row at a time.
    for row in np.flatnonzero(is_large.any(axis=tuple(range(1, array.ndim)))).tolist():
        for item in np.asarray(value[row], dtype=object)[is_large[row]].flat:
            whole = whole_number(item)
            if whole is not None and int(float(whole)) != whole:
                raise DataError(rounding_message(rows_of(name, key)(row), whole))


def _typed(array: Array, name: str, key: str) -> Array:
    """Return an array of Python objects as an array of texts, or of numbers and booleans."""
    import numpy as np

    if array.dtype.kind == "T":
        return array.astype(str)
    if array.dtype.kind != "O" or array.ndim == 0:
        return array
    types = {type(item) for item in array.flat}
    if all(issubclass(cls, str) for cls in types):
        return array.astype(str)
    if all(issubclass(cls, bool | int | float | np.bool_ | np.number) for cls in types):
        numbers = np.array(array.tolist())
        _check_exact(numbers, array, name, key)
        return numbers
    is_text = any(issubclass(cls, str) for cls in types)
    expected = str if is_text else (bool, int, float, np.generic)
    index = next(index for index, item in np.ndenumerate(array) if not isinstance(item, expected))
    item = array[index]
    what = "among texts" if is_text else "no number"
    if item is None or type(item).__name__ == "NAType" or (isinstance(item, float) and np.isnan(item)):
        what = "a missing value"
    raise DataError(
        f"{rows_of(name, key)(index[0])}: {str(item)[:80]!r} ({type(item).__name__}) is {what}; give plain arrays of numbers"
        + (", true/false or text" if key.startswith("y") else ": encode text as numbers (pandas: get_dummies)")
    )


def _from_sparse(value: Any, name: str, key: str) -> Array:
    """Convert a sparse matrix to a dense array; DataError if that is too large."""
    import numpy as np

    size = int(np.prod(value.shape)) * np.dtype(value.dtype).itemsize
    if size > _LARGEST_DENSE:
        raise DataError(
            f"{name}: {key} is a sparse matrix of shape {value.shape}, {size / 2**30:.0f} GiB when written out; models see "
            "dense rows: use fewer columns (sklearn.decomposition.TruncatedSVD), or return x.toarray() if that fits"
        )
    return np.asarray(value.toarray())


def _from_pandas(value: Any, name: str, key: str) -> tuple[Array, tuple[str, ...], str]:
    """Convert a table or a column of pandas, of any dtypes; only labels may be texts."""
    import numpy as np
    import pandas as pd

    from search.data.frames import matrix_of

    if isinstance(value, pd.DataFrame):
        dtypes = set(value.dtypes)
        columns = tuple(str(column) for column in value.columns)
        if len(dtypes) == 1 and isinstance(next(iter(dtypes)), np.dtype) and next(iter(dtypes)).kind in "biuf":
            return value.to_numpy(), columns, ""
        if key.startswith("y") and not any(pd.api.types.is_numeric_dtype(dtype) for dtype in dtypes):
            return _typed(value.to_numpy(dtype=object), name, key), columns, ""
        values, rounded = matrix_of(value, rows_of(name, key))
        return values, columns, rounded
    if (
        isinstance(value, pd.Series)
        and not isinstance(value.dtype, np.dtype)
        and pd.api.types.is_numeric_dtype(value.dtype)
    ):
        values, rounded = matrix_of(value.to_frame(), rows_of(name, key))
        is_truth = pd.api.types.is_bool_dtype(value.dtype) and values.dtype.kind != "f"
        return values[:, 0] == 1 if is_truth else values[:, 0], (), rounded
    return _typed(np.asarray(value), name, key), (), ""
