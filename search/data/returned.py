"""Convert what a data function returns, or a file of arrays holds, to `Parts`; explain forms that are not supported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from search.data.exact import FLOAT64_WHOLE, rounding_message, whole_number
from search.data.labels import clean_labels
from search.data.parts import NO_WEIGHTS, Part, Parts, pairs_of, rows_of
from search.data.roles import of_arrays, without_keys
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array

_FORMS = (
    "return (x, y), ((x_train, y_train), (x_test, y_test)) or a dictionary with x_train, y_train, x_validation, "
    "y_validation, x_test, y_test"
)
_LARGEST_DENSE = 4 * 2**30
_MOST_INPUTS = 8


def parts_of(result: Any, name: str, task: str | None = None, roles: Mapping[str, str] = {}) -> Parts:
    """Convert (x, y), ((x_train, y_train), (x_test, y_test)) or a mapping with such keys.

    `roles`: role -> the name of its arrays beside x and y, or of a column of x.
    """
    if isinstance(result, tuple | list) and not hasattr(result, "shape"):
        result = _mapping_of(result, name)
    if not isinstance(result, Mapping):
        raise DataError(f"{name}: received {type(result).__name__}; {_advice(result) or _FORMS}")
    splits = {}
    for split, (x, y) in pairs_of(without_keys(map(str, result), roles, name), name).items():
        _check_single(result[x], result[y], name, x)
        _check_single(result[y], result[x], name, y)
        given = of_arrays(result, x, result[x], roles, name)
        taken = [column for column in roles.values() if column in getattr(result[x], "columns", ())]
        features, columns, rounded = _to_array(result[x].drop(columns=taken) if taken else result[x], name, x)
        targets, _, _ = _to_array(result[y], name, y)
        splits[split] = Part(features, targets, rows_of(name, x), columns, rounded, given)
    return clean_labels(Parts(name, splits, task))


def _mapping_of(result: tuple[Any, ...] | list[Any], name: str) -> dict[str, Any]:
    """Return the arrays of a tuple by their keys."""
    pairs = [item for item in result if isinstance(item, tuple)]
    if any(len(pair) == 3 for pair in pairs) and len(pairs) == len(result):
        raise DataError(f"{name}: received tuples (x, y, weights); {NO_WEIGHTS}: return (x, y) for each split")
    if len(result) == 2:
        train, test = result
        if isinstance(train, tuple) and isinstance(test, tuple) and len(train) == len(test) == 2:
            return {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
        return {"x": train, "y": test}
    if len(result) == 3 and len(pairs) == 3:
        raise DataError(
            f"{name}: received three pairs; say which is which: return {{'x_train': ..., 'y_train': ..., 'x_validation': "
            "..., 'y_validation': ..., 'x_test': ..., 'y_test': ...}"
        )
    if len(result) == 3:
        raise DataError(
            f"{name}: received 3 values; if they are (x, y, weights): {NO_WEIGHTS}: return (x, y); with more splits "
            "return a dictionary with x_train, y_train, x_validation, y_validation, x_test, y_test"
        )
    raise DataError(f"{name}: received a {type(result).__name__} of {len(result)} values; {_FORMS}")


def _check_single(value: Any, other: Any, name: str, key: str) -> None:
    """Refuse several inputs or outputs: a mapping, or a list of arrays that each hold every row."""
    if isinstance(value, Mapping):
        raise DataError(f"{name}: {key} is a {type(value).__name__} of several arrays; {_several(key)}")
    if not _is_list_of_arrays(value):
        return
    lengths = {item.shape[0] for item in value}
    rows = len(other) if hasattr(other, "__len__") and getattr(other, "shape", None) != () else -1
    is_by_rows = len(value) == rows
    if is_by_rows and _is_list_of_arrays(other) and len(value) <= _MOST_INPUTS:
        is_by_rows = not (lengths == {item.shape[0] for item in other} and min(lengths) > len(value))
    if not is_by_rows and (len(lengths) > 1 or lengths == {rows} or _is_list_of_arrays(other)):
        raise DataError(f"{name}: {key} is a {type(value).__name__} of {len(value)} arrays; {_several(key)}")


def _is_list_of_arrays(value: Any) -> bool:
    return (
        isinstance(value, tuple | list) and bool(value) and all(len(getattr(item, "shape", ())) > 0 for item in value)
    )


def _several(key: str) -> str:
    if key.startswith("x"):
        return (
            "models with several inputs are not supported: join them into one array (numpy.concatenate(..., axis=1)) and "
            "take it apart in the model"
        )
    return (
        "models with several outputs are not supported: give one array, (rows,) or (rows, targets) (numpy.column_stack), "
        "for a model with one output"
    )


def _advice(value: Any) -> str:
    """Return what to return instead of an object that yields batches, or of None; "" for anything else."""
    names = {cls.__name__ for cls in type(value).__mro__}
    modules = {cls.__module__.partition(".")[0] for cls in type(value).__mro__}
    if value is None:
        return f"the function has no return, or an array is missing: {_FORMS}"
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


def _to_array(value: Any, name: str, key: str) -> tuple[Array, tuple[str, ...], str]:
    """Return an array and, for a pandas table, the names of its columns and `Part.rounded`."""
    import numpy as np

    if value is None or (advice := _advice(value)):
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
        raise DataError(f"{name}: {key} can't be made an array: {first}; return rows of equal length") from None
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
