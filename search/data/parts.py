"""What a source gives: rows of arrays, in splits if it has its own, put together and checked for soundness here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.errors import DataError
from search.vocabulary import closest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
_SPLIT_OF_KEY = {"": "train", **{f"_{name}": split for name, split in SPLITS.items()}}
_FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a source that stand together, and how an error names them.

    Attributes:
        x, y: the features and the labels, as the source has them.
        place: the source and the row of an index, such as "wine.csv, line 5".
        columns: the names of a table's features; empty for anything else.
    """

    x: Array
    y: Array
    place: Callable[[int], str]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Parts:
    """What a source holds: "train" (every row, where it has no splits), maybe "validation" and "test".

    Attributes:
        divisor: what the features were divided by when they were read.
    """

    name: str
    splits: dict[str, Part]
    task: str | None = None
    class_names: tuple[str, ...] = ()
    divisor: float = 1.0


def rows_of(name: str, key: str) -> Callable[[int], str]:
    """Return the function that names a row of the array `key`."""
    return lambda row: f"{name}, row {row} of {key} (counted from 0)"


def is_number(text: str) -> bool:
    """Tell whether a text can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def parts_of(result: Any, name: str, task: str | None = None) -> Parts:
    """Read (x, y), ((x_train, y_train), (x_test, y_test)) or a mapping with such keys."""
    if isinstance(result, tuple | list) and len(result) == 2:
        train, test = result
        if isinstance(train, tuple) and isinstance(test, tuple) and len(train) == len(test) == 2:
            result = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
        else:
            result = {"x": train, "y": test}
    if not isinstance(result, Mapping):
        raise DataError(
            f"{name}: received {type(result).__name__}; return (x, y), ((x_train, y_train), (x_test, "
            "y_test)) or a dictionary with x_train, y_train, x_validation, y_validation, x_test, y_test"
        )
    splits = {}
    for split, (x, y) in pairs_of((str(key) for key in result), name).items():
        splits[split] = Part(_array(result[x], name, x), _array(result[y], name, y), rows_of(name, x))
    return Parts(name, splits, task)


def pairs_of(keys: Iterable[str], name: str) -> dict[str, tuple[str, str]]:
    """Find the pairs of arrays among `keys`: split -> (key of x, key of y)."""
    known = [f"{letter}{ending}" for letter in "xy" for ending in _SPLIT_OF_KEY]
    keys = list(keys)
    pairs: dict[str, tuple[str, str]] = {}
    for key in keys:
        if key not in known:
            if hint := closest(key.lower(), known) if key[:2].lower() in ("x", "y", "x_", "y_") else "":
                raise DataError(f"{name}: unknown key {key!r}{hint}")
            continue
        other = ("y" if key[0] == "x" else "x") + key[1:]
        if other not in keys:
            raise DataError(f"{name}: has {key} but no {other}; there must be both")
        split, pair = _SPLIT_OF_KEY[key[1:]], ("x" + key[1:], "y" + key[1:])
        if pairs.setdefault(split, pair) != pair:
            raise DataError(f"{name}: has both {pairs[split][0]} and {pair[0]}; keep one of them")
    if "train" not in pairs:
        raise DataError(
            f"{name}: no x_train and y_train (or x and y); it has {', '.join(keys) or 'nothing'}: rename the arrays"
        )
    return pairs


def _array(value: Any, name: str, key: str) -> Array:
    import numpy as np

    if isinstance(value, Mapping):
        raise DataError(
            f"{name}: {key} is a {type(value).__name__} of several arrays; models with several inputs are "
            "not supported: join them into one array"
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: {key} can't be made an array: {error}; return rows of equal length") from None
    if array.dtype.kind == "T" or (array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)):
        return array.astype(str)
    return array


def sound(parts: Parts) -> Parts:
    """Check features and lengths; return the parts with (rows,) made (rows, 1)."""
    splits = {split: _sound_part(part, split, parts.name) for split, part in parts.splits.items()}
    train = splits["train"].x
    for split, part in splits.items():
        if part.x.shape[1:] != train.shape[1:]:
            raise DataError(
                f"{parts.name}: rows have the shape {train.shape[1:]} in training and {part.x.shape[1:]} in "
                f"{split}; make them equal"
            )
        if (part.x.dtype == "uint8") != (train.dtype == "uint8"):
            raise DataError(
                f"{parts.name}: features are {train.dtype} in training and {part.x.dtype} in {split}; only "
                "bytes are scaled to 0..1, so save both as the same type"
            )
    return replace(parts, splits=splits)


def _sound_part(part: Part, split: str, name: str) -> Part:
    x, y = part.x, part.y
    for what, array, kinds in (("features", x, "biuf"), ("labels", y, "biufU")):
        if array.dtype.kind not in kinds:
            raise DataError(
                f"{name}: {split} {what} are of type {array.dtype}; give plain arrays of numbers"
                + (", true/false or text" if what == "labels" else ": encode text as numbers, join several inputs")
            )
        if array.ndim == 0 or array.size == 0:
            raise DataError(f"{name}: {split} {what} are empty (shape {array.shape}); give at least one row and column")
    if len(x) != len(y):
        raise DataError(f"{name}: {len(x)} rows of features but {len(y)} labels in {split}; there must be one for each")
    part = replace(part, x=x.reshape(-1, 1) if x.ndim == 1 else x)
    _check_finite(part, part.x, "feature")
    if y.dtype.kind == "f":
        _check_finite(part, y, "label")
    return part


def _check_finite(part: Part, values: Array, what: str) -> None:
    import numpy as np

    # NaN survives min and max: two passes without a copy, and the row is looked for only if there is one.
    if float(values.min()) >= -_FLOAT32_MAX and float(values.max()) <= _FLOAT32_MAX:
        return
    wide = values.astype(np.float64)
    row, *position = np.argwhere(~(np.abs(wide) <= _FLOAT32_MAX))[0].tolist()
    where = f" {tuple(position)}" if len(position) > 1 else f" {position[0]}" if position else ""
    if part.columns and what == "feature":
        where = f" {part.columns[position[0]]!r}"
    raise DataError(
        f"{part.place(row)}: {what}{where} is {wide[(row, *position)]}; all must be finite (and at most "
        "3.4e38): fill in or remove such rows"
    )
