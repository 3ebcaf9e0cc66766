"""What a source holds: rows of features and targets, in splits if it has its own; and their validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.data.table import Table, Texts

    Array = NDArray[Any]

SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
# What follows x or y in the name of an array -> its split.
ENDINGS = {"": "train", **{f"_{name}": split for name, split in SPLITS.items()}}
_FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one split of a source, and how an error names them.

    Attributes:
        x, y: the features and the targets, as the source has them.
        place: row index -> where the row is, for an error, such as "wine.csv, line 5".
        columns: the names of a table's features; empty for any other source.
        rounded: the error text for whole numbers that even float64 has changed; only scaling permits them. "" if none.
        roles: "group", "order" or "split" -> its value for every row, where the study names such columns or arrays.
        encodable: the columns of a table that is not all numbers, or texts, which are encoded later; `x` then numbers its
            rows, (rows, 1).
    """

    x: Array
    y: Array
    place: Callable[[int], str]
    columns: tuple[str, ...] = ()
    rounded: str = ""
    roles: Mapping[str, Array] = field(default_factory=dict)
    encodable: Table | Texts | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a source holds: "train" (every row, if it has no splits), maybe "validation" and "test".

    `warnings` are remarks on data that were taken and may not be meant.
    """

    name: str
    splits: dict[str, Part]
    task: str | None = None
    class_names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def rows_of(name: str, key: str) -> Callable[[int], str]:
    """Return the function that names a row of the array `key`, for `Part.place`."""
    return lambda row: f"{name}, row {row} of {key} (counted from 0)"


def is_number(text: str) -> bool:
    """Return whether a text can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def pairs_of(keys: Iterable[str], name: str) -> dict[str, tuple[str, str]]:
    """Return the pairs of arrays among `keys`: split -> (key of x, key of y); DataError for any other key."""
    known = [f"{letter}{ending}" for letter in "xy" for ending in ENDINGS]
    keys = list(keys)
    present = set(keys)
    if len(present) < len(keys):
        duplicate = next(key for key, count in Counter(keys).items() if count > 1)
        raise DataError(f"{name}: has {duplicate} twice; keep one of them")
    pairs: dict[str, tuple[str, str]] = {}
    unknown = []
    for key in keys:
        if key not in known:
            if hint := closest(key.lower(), known) if key[:2].lower() in ("x", "y", "x_", "y_") else "":
                raise DataError(f"{name}: unknown key {key!r}{hint}")
            unknown.append(key)
            continue
        partner = ("y" if key[0] == "x" else "x") + key[1:]
        if partner not in present:
            raise DataError(f"{name}: has {key} but no {partner}; there must be both")
        split, pair = ENDINGS[key[1:]], ("x" + key[1:], "y" + key[1:])
        if pairs.setdefault(split, pair) != pair:
            raise DataError(f"{name}: has both {pairs[split][0]} and {pair[0]}; keep one of them")
    if "train" not in pairs:
        raise DataError(
            f"{name}: no x_train and y_train (or x and y); it has {', '.join(keys[:20]) or 'nothing'}: rename the arrays"
        )
    if unknown:
        raise DataError(
            f"{name}: unknown key {unknown[0]!r}; known are {', '.join(known)}, and w or sample_weight for weights of rows: "
            "rename or remove it (several inputs are x_NAME, x_OTHER, several outputs y_NAME, y_OTHER)"
        )
    return pairs


def validate(parts: Parts) -> Parts:
    """Return the parts with features of shape (rows,) made (rows, 1); DataError for bad types, shapes, lengths or numbers."""
    splits = {split: _validate_part(part, split, parts.name) for split, part in parts.splits.items()}
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


def _validate_part(part: Part, split: str, name: str) -> Part:
    x, y = part.x, part.y
    for what, array, kinds in (("features", x, "biuf"), ("labels", y, "biufU")):
        if array.dtype.kind not in kinds:
            raise DataError(
                f"{name}: {split} {what} are of type {array.dtype}; give plain arrays of numbers"
                + (", true/false or text" if what == "labels" else ", one text a row, or a table of pandas")
            )
        if array.ndim == 0 or 0 in array.shape:
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

    if values.dtype.kind in "biu":
        return
    # NaN survives min and max: check without a copy, and search for the row only if the check fails.
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
