"""The form of what a data function returns: which values are x, y and weights, and which are one array or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.data.arrays import FORMS
from search.errors import DataError

_MOST_INPUTS = 8


def mapping_of(result: tuple[Any, ...] | list[Any], name: str) -> dict[str, Any]:
    """Return the arrays of a tuple by their keys."""
    pairs = [item for item in result if isinstance(item, tuple)]
    if (
        len(result) == len(pairs) == 2
        and len(pairs[0]) == len(pairs[1]) in (2, 3)
        and not _are_sides(pairs[0], pairs[1], name)
    ):
        keys = [f"{key}_{split}" for split in ("train", "test") for key in ("x", "y", "w")[: len(pairs[0])]]
        return dict(zip(keys, (item for pair in pairs for item in pair), strict=True))
    if len(result) == 2:
        return {"x": result[0], "y": result[1]}
    if len(result) == 3 and len(pairs) == 3:
        raise DataError(
            f"{name}: received three pairs; say which is which: return {{'x_train': ..., 'y_train': ..., 'x_validation': "
            "..., 'y_validation': ..., 'x_test': ..., 'y_test': ...}"
        )
    if len(result) == 3 and _are_weights(result[2], result[1]):
        return {"x": result[0], "y": result[1], "w": result[2]}
    if len(result) == 3:
        raise DataError(
            f"{name}: received 3 values, and the third is not one weight a row; return (x, y) or (x, y, weights); with more "
            "splits return a dictionary with x_train, y_train, x_validation, y_validation, x_test, y_test"
        )
    raise DataError(f"{name}: received a {type(result).__name__} of {len(result)} values; {FORMS}")


def _are_sides(one: tuple[Any, ...], other: tuple[Any, ...], name: str) -> bool:
    """Whether two tuples are several inputs and outputs, not training and test; DataError if they may be either."""
    shapes = [getattr(item, "shape", None) for item in (*one, *other)]
    if any(shape is None or not shape for shape in shapes) or len({shape[0] for shape in shapes if shape}) > 1:
        return False
    per_row = [tuple(shape[1:]) for shape in shapes if shape]
    if all(shape in ((), (1,)) for shape in per_row):
        raise DataError(
            f"{name}: received two tuples of {len(one)} arrays, all of as many rows with one number each: training and test, "
            "or several inputs and outputs? Return a dictionary with x_train, y_train, x_test and y_test, or dictionaries of "
            "arrays for x and y"
        )
    # The rows of training and test would be alike.
    return per_row[0] != per_row[len(one)]


def _are_weights(value: Any, y: Any) -> bool:
    """Whether the third of three values is one number a row, or such an array for every output."""
    import numpy as np

    if isinstance(value, Mapping):
        return isinstance(y, Mapping)
    try:
        array, rows = np.asarray(value), len(next(iter(y.values())) if isinstance(y, Mapping) else y)
    except (ValueError, TypeError, StopIteration):
        return False
    if isinstance(y, tuple | list) and is_list_of_arrays(y):
        rows = len(y[0])
    return array.dtype.kind in "biuf" and array.ndim == 1 and len(array) == rows


def is_several(value: Any, other: Any) -> bool:
    """Whether a value is several inputs or outputs: a mapping, or a list of arrays that each hold every row."""
    if isinstance(value, Mapping):
        return True
    if not is_list_of_arrays(value):
        return False
    lengths = {item.shape[0] for item in value}
    if isinstance(other, Mapping):
        other = next(iter(other.values()), None)
    rows = len(other) if hasattr(other, "__len__") and getattr(other, "shape", None) != () else -1
    is_by_rows = len(value) == rows
    if is_by_rows and is_list_of_arrays(other) and len(value) <= _MOST_INPUTS:
        is_by_rows = not (lengths == {item.shape[0] for item in other} and min(lengths) > len(value))
    return not is_by_rows and (len(lengths) > 1 or lengths == {rows} or is_list_of_arrays(other))


def is_list_of_arrays(value: Any) -> bool:
    return (
        isinstance(value, tuple | list) and bool(value) and all(len(getattr(item, "shape", ())) > 0 for item in value)
    )


def check_indices(values: Mapping[str, Any], name: str) -> None:
    """Refuse tables and series of pandas with the same index in another order: rows are paired by position.

    `values`: what stands beside each other, by key; each may be a dictionary or tuple of arrays.
    """
    indices = {
        label: item.index for key, value in values.items() for label, item in _leaves(key, value) if _is_pandas(item)
    }
    if not indices:
        return
    first, index = next(iter(indices.items()))
    for label, other in indices.items():
        if len(other) != len(index) or other.equals(index) or not (index.is_unique and other.is_unique):
            continue
        if index.isin(other).all():
            row = int((index != other).argmax())
            raise DataError(
                f"{name}: {first} and {label} have the same index in another order (row {row}: {index[row]} and "
                f"{other[row]}), and rows are paired by position; align them, {label}.loc[{first}.index], or drop the index: "
                "reset_index(drop=True)"
            )


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{key}[{name!r}]", item) for name, item in value.items())
    elif isinstance(value, tuple | list):
        yield from ((f"{key}[{number}]", item) for number, item in enumerate(value) if _is_pandas(item))
    else:
        yield key, value


def _is_pandas(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "index") and hasattr(value, "iloc")
