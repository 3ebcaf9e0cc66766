"""Numbers that float32 can't hold: whole ones stay integers or are refused, real ones that lose much give a warning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from search.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from search.data.parts import Array, Part, Parts
    from search.data.table import Table

# float32 holds every whole number up to here; above, it holds only every second one, and later fewer.
_EXACT = 2.0**24
# float64 holds every whole number up to here.
FLOAT64_WHOLE = 2**53
# Real numbers above this can't be ids, because no integer type holds them.
_LARGEST = 2.0**64
# A spread below this, relative to the numbers, comes from rounding in arithmetic on equal numbers, not from data.
_ROUNDING_NOISE = 1e-10
_FEWEST_STEPS = 1000


def rounding_message(where: str, value: int) -> str:
    """Return the error text for a whole number that real numbers beside it force into float32."""
    return (
        f"{where}: {value} is a whole number that would be rounded ({_rounded(value)} as float32) beside real numbers; "
        "number ids 0, 1, 2, ... (below 16777217), or leave the column out; for a quantity divide it, or, if x is one array, "
        'use scale = "standard"'
    )


def whole_number(cell: Any) -> int | None:
    """Return a cell that is written as a whole number, exactly; None for anything else. Floats are rounded already."""
    import numpy as np

    if isinstance(cell, float | np.floating):
        return None
    try:
        whole = int(cell)
        return whole if isinstance(cell, str) or whole == cell else None
    except (TypeError, ValueError, OverflowError):
        return None


def exact_cells(cells: Iterable[Any], values: Array) -> Array | None:
    """Return cells as whole numbers and floats of Python; None if each whole number is its float64."""
    import numpy as np

    if not (np.abs(values) >= FLOAT64_WHOLE).any():
        return None
    exact = np.empty(len(values), dtype=object)
    is_changed = False
    for row, (cell, value) in enumerate(zip(cells, values.tolist(), strict=True)):
        whole = whole_number(cell)
        is_changed = is_changed or (whole is not None and whole != value)
        exact[row] = value if whole is None else whole
    return exact if is_changed else None


def _rounded(value: int) -> int:
    import numpy as np

    return int(np.float32(value))


def integer_dtype(parts: Parts, scale: str) -> np.dtype[Any] | None:
    """Return the integer dtype that keeps all whole numbers of the features exact; None if float32 keeps them.

    int32 if it holds them all, else int64. Scaling needs none: it treats numbers as quantities and computes in float64.
    Raises DataError that names the row: whole numbers stored as reals, or beside reals, or beyond int64.
    """
    import numpy as np

    if scale != "none":
        return None
    if rounded := [part.rounded for part in parts.splits.values() if part.rounded]:
        raise DataError(rounded[0], fault="rounded")
    inexact = ((part, _first_inexact(part.x)) for part in parts.splits.values())
    part, index = next(((part, index) for part, index in inexact if index is not None), (parts.splits["train"], None))
    if index is None:
        return None
    if any(part.x.dtype.kind == "f" for part in parts.splits.values()):
        raise DataError(_kept_as_real(part, index), fault="rounded")
    low = min(int(part.x.min()) for part in parts.splits.values())
    high = max(int(part.x.max()) for part in parts.splits.values())
    for part in parts.splits.values():
        if int(part.x.max()) > np.iinfo(np.int64).max:
            row = int(np.argwhere(part.x > np.iinfo(np.int64).max)[0][0])
            raise DataError(
                f"{part.place(row)}: {int(part.x[row].max())} is beyond int64, the widest integers that models take; "
                "number ids 0, 1, 2, ..."
            )
    is_narrow = low >= np.iinfo(np.int32).min and high <= np.iinfo(np.int32).max
    return np.dtype(np.int32) if is_narrow else np.dtype(np.int64)


def _kept_as_real(part: Part, index: tuple[int, ...]) -> str:
    column = part.columns[index[-1]] if part.columns else None
    where = part.place(index[0]) + (f", column {column!r}" if column is not None else "")
    value = int(part.x[index])
    if column is not None:
        return rounding_message(where, value)
    return (
        f"{where}: {value} is a whole number of type {part.x.dtype} that float32 would round to {_rounded(value)}; "
        "give ids as integers (all of x of an integer type); divide quantities, or, if x is one array, use "
        'scale = "standard"'
    )


def _first_inexact(values: Array) -> tuple[int, ...] | None:
    """Return the index of the first whole number that float32 would change; None if it would change none.

    A column of reals (the last axis) counts if all its numbers are whole: fractions mean quantities, which may be rounded.
    """
    import numpy as np

    if values.dtype.kind not in "iuf" or values.dtype.itemsize < 4 or values.dtype == np.float32:
        return None
    if abs(float(values.min())) <= _EXACT and abs(float(values.max())) <= _EXACT:
        return None
    if values.dtype.kind != "f":
        changed = _changed(values)
    else:
        flat = values.reshape(len(values), -1, values.shape[-1])
        wide = np.abs(flat).max(axis=(0, 1))
        for column in np.flatnonzero((wide > _EXACT) & (wide < _LARGEST)):
            numbers = flat[:, :, column]
            if (numbers == np.floor(numbers)).all() and (changed := _changed(numbers)).any():
                row, inner = np.argwhere(changed)[0]
                position = np.unravel_index(inner * flat.shape[2] + column, values.shape[1:])
                return (int(row), *(int(axis) for axis in position))
        return None
    return tuple(int(axis) for axis in np.argwhere(changed)[0]) if changed.any() else None


def _changed(values: Array) -> Array:
    import numpy as np

    with np.errstate(invalid="ignore", over="ignore"):  # int64's largest numbers overflow, which is a change
        changed: Array = values.astype(np.float32).astype(values.dtype) != values
        return changed


def precision_warnings(parts: Parts, scale: str, *, is_regression: bool) -> list[str]:
    """Return warnings on numbers that lose much as float32; DataError for whole targets that float32 makes equal."""
    train = parts.splits["train"]
    warnings: list[str] = []
    if scale == "none":
        warnings += _close_columns(train, train.x, "features")
    if is_regression:
        y = train.y.reshape(len(train.y), -1)
        warnings += _rounded_targets(train, y)
        warnings += _close_columns(train, y, "targets")
    return warnings


def table_warnings(table: Table, scale: str, name: str) -> Iterator[str]:
    """Yield warnings on columns of an encoded table of which float32 keeps few differences.

    DataError for whole numbers that float32 changes, unless scaling shows that they are quantities.
    """
    import numpy as np

    for column in table.columns:
        if column.kind != "number":
            continue
        values = column.values[~np.isnan(column.values)]
        changed = _changed(values)
        if not changed.any():
            continue
        if scale == "none" and (values == np.floor(values)).all():
            raise DataError(
                f"{name}, column {column.name!r}: {int(values[changed.argmax()])} is a whole number that float32 would "
                f'round; name it under columns.category or columns.drop; for a quantity use scale = "standard"',
                fault="rounded",
            )
        size = max(abs(float(values.min())), abs(float(values.max())))
        if _steps(values) < _FEWEST_STEPS and values.max() - values.min() > _ROUNDING_NOISE * size:
            yield (
                f"{name}, column {column.name!r} lies between {values.min():.17g} and {values.max():.17g}, where float32 has "
                f"only {round(_steps(values))} steps; subtract its smallest value, or drop it"
            )


def _rounded_targets(part: Part, y: Array) -> Iterator[str]:
    import numpy as np

    index = _first_inexact(y)
    if index is None:
        return
    value = int(y[index])
    column = y[:, index[-1]].astype(np.float64)
    if _steps(column) < _FEWEST_STEPS:
        raise DataError(
            f"{part.place(index[0])}: the target {value} becomes {_rounded(value)} as float32, which tells few of the "
            f"targets between {column.min():.17g} and {column.max():.17g} apart; subtract the smallest one from all, or "
            'use task = "classification" if they are classes'
        )
    yield (
        f"{part.place(index[0])}: the target {value} becomes {_rounded(value)} as float32, in which models compute; divide "
        "all targets (by 1000, say) if the last digits matter"
    )


def _close_columns(part: Part, values: Array, what: str) -> Iterator[str]:
    """Yield warnings on columns of reals so close together that float32 keeps few of their differences."""
    import numpy as np

    if values.dtype.kind != "f" or values.dtype.itemsize <= 4:
        return
    flat = values.reshape(-1, values.shape[-1])
    low, high = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    size = np.maximum(np.abs(low), np.abs(high))
    close = (high - low < _FEWEST_STEPS * np.spacing(size.astype(np.float32))) & (high - low > _ROUNDING_NOISE * size)
    columns = [column for column in np.flatnonzero(close) if _changed(flat[:, column]).any()]
    if columns:
        first = columns[0]
        name = repr(part.columns[first]) if part.columns and what == "features" else str(first)
        yield (
            f"{what}: column {name} lies between {low[first]:.17g} and {high[first]:.17g}, where float32 has only "
            f"{round(_steps(flat[:, first]))} steps"
            + (f" ({len(columns) - 1} more columns are like it)" if len(columns) > 1 else "")
            + (
                "; subtract its smallest value"
                if what == "targets"
                else '; subtract its smallest value, or use scale = "standard"'
            )
        )


def _steps(column: Array) -> float:
    """Return the number of float32 steps between a column's smallest and largest number."""
    import numpy as np

    low, high = float(column.min()), float(column.max())
    return (high - low) / float(np.spacing(np.float32(max(abs(low), abs(high)))))


def to_integers(arrays: dict[str, Array], dtype: np.dtype[Any]) -> None:
    """Convert all features to integers of `dtype` in place, as `scale` converts them to float32."""
    import numpy as np

    for key in [key for key in arrays if key.startswith("x_")]:
        arrays[key] = np.ascontiguousarray(arrays[key], dtype)
