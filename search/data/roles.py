"""Columns or arrays beside the features: which rows belong together (`group`), their `order`, and their `split`.

They are not features. A source takes them out of its rows and leaves them in `Part.roles`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search.data.parts import ENDINGS, SPLITS, Part, Parts
from search.data.windows import is_panel
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array
    from search.spec.settings import Columns, DataSection

ROLES = ("group", "order", "split")
# What ends a time whose distance from UTC is known.
_OFFSET = r"[T ]\d{2}[\d:.,]*\s*(?:Z|[+-]\d{2}(?::?\d{2})?)\s*$"
_SPLIT_NAMES = {**SPLITS, "training": "train", "testing": "test"}


def roles_of(section: DataSection) -> dict[str, str]:
    """Return the roles that a study names: role -> the name of its column or array."""
    named = {role: getattr(section, role) for role in ROLES}
    return {role: name for role, name in named.items() if name is not None}


def as_features(roles: Mapping[str, str], columns: Columns | None) -> frozenset[str]:
    """Return the columns of roles that are features, too: an order that `columns` names as a date or number.

    And, if all groups are cut at one time, a group that it names as a category or number.
    """
    kinds = {} if columns is None else columns.kind_of()
    may_be = {"order": ("date", "number"), "group": ("category", "number") if "order" in roles else ()}
    return frozenset(column for role, column in roles.items() if kinds.get(column) in may_be.get(role, ()))


def no_features(target: str | None, roles: Mapping[str, str], columns: Columns | None) -> dict[str, str]:
    """Return what is not a feature: "target" or a role -> its column."""
    kept = as_features(roles, columns)
    return {"target": str(target), **{role: column for role, column in roles.items() if column not in kept}}


def check_header(roles: Mapping[str, str], header: Sequence[str], target: str | None, name: str) -> None:
    """Raise DataError for a role whose column is missing or is the target."""
    for role, column in roles.items():
        if column not in header:
            shown = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
            raise DataError(
                f"{name} has no column {column!r}{closest(column, header)}; it has {shown}", key=f"data.{role}"
            )
        if column == target:
            raise DataError(
                f"{name}: the column {column!r} is the target; name another column, or remove {role}",
                key=f"data.{role}",
            )


def take_columns(
    frame: pd.DataFrame, roles: Mapping[str, str], columns: Columns | None, place: Callable[[int], str]
) -> tuple[pd.DataFrame, dict[str, Array]]:
    """Take the columns of the roles out of a table; return the features, and role -> values."""
    taken = {
        role: _values(role, frame[column], lambda row, column=column: f"{place(row)}, column {column!r}")  # type: ignore[misc]
        for role, column in roles.items()
    }
    kept = as_features(roles, columns)
    return frame.drop(columns=[column for column in roles.values() if column not in kept]), taken


def without_keys(keys: Iterable[str], roles: Mapping[str, str], name: str) -> list[str]:
    """Return the keys of arrays that have no role; DataError for a role of the features or targets, or that is misspelt."""
    for role, key in roles.items():
        if key in ("x", "y"):
            what = "features" if key == "x" else "targets"
            raise DataError(f"{name}: {key!r} are the {what}; name another array", key=f"data.{role}")
    keys = list(keys)
    taken = {key + ending for key in roles.values() for ending in ENDINGS}
    others = [key for key in keys if key not in taken]
    for role, key in roles.items():
        is_there = any(key + ending in keys for ending in ENDINGS)
        if not is_there and (hint := closest(key, [other for other in others if other[:1] not in ("x", "y")])):
            raise DataError(f"{name}: has no array {key!r}{hint}; it has {', '.join(keys[:20])}", key=f"data.{role}")
    return others


def of_arrays(
    result: Mapping[str, Any], key: str, inputs: Sequence[Any], roles: Mapping[str, str], name: str
) -> dict[str, Array]:
    """Return role -> values for the rows of the array `key` (x, x_train ...): arrays with its ending, or columns of x.

    `inputs`: x, or all of several inputs.
    """
    values = {}
    for role, column in roles.items():
        array = column + key[1:]
        if array in result:
            given = result[array]
        elif tables := [x for x in inputs if column in getattr(x, "columns", ())]:
            given = tables[0][column]
        else:
            there = ", ".join(map(str, list(result)[:20]))
            raise DataError(f"{name}: has no array {array!r} beside {key}; it has {there}", key=f"data.{role}")
        values[role] = _values(role, given, lambda row, array=array: f"{name}, row {row} of {array} (counted from 0)")  # type: ignore[misc]
        if len(values[role]) != len(inputs[0]):
            raise DataError(
                f"{name}: {array} has {len(values[role])} values but {key} has {len(inputs[0])} rows; there must be one for "
                "each"
            )
    return values


def _values(role: str, given: Any, where: Callable[[int], str]) -> Array:
    """Return the values of a role in the form that splitting needs, (rows,); DataError that names the row.

    Groups are numbers or texts, an order numbers or datetime64, splits "train", "validation" or "test".
    """
    import numpy as np
    import pandas as pd

    if not isinstance(given, pd.Series):
        array = np.asarray(given)
        array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if array.ndim != 1:
            raise DataError(f"{where(0)}: {role} has the shape {array.shape}; give one value a row, (rows,)")
        given = pd.Series(array)
    column = given.reset_index(drop=True)
    if (missing := column.isna()).any() or (missing := column.astype(str).str.strip() == "").any():
        raise DataError(f"{where(int(missing.argmax()))}: {role} is empty; fill it in, or remove the row")
    if role == "order":
        return _order(column, where)
    if pd.api.types.is_numeric_dtype(column) and role == "group":
        return np.asarray(column)
    texts = column.astype(str).str.strip()
    if role == "group":
        return np.asarray(texts, dtype=str)
    splits = texts.str.casefold().map(_SPLIT_NAMES)
    if (bad := splits.isna()).any():
        row = int(bad.argmax())
        raise DataError(f"{where(row)}: {texts[row]!r} is no split; write train, validation (or val) or test")
    return np.asarray(splits, dtype=str)


def _order(column: pd.Series[Any], where: Callable[[int], str]) -> Array:
    import numpy as np
    import pandas as pd

    types = pd.api.types
    if types.is_bool_dtype(column) or types.is_complex_dtype(column):
        raise DataError(f"{where(0)}: {column[0]!s} can't order rows; give numbers or dates")
    if types.is_numeric_dtype(column):
        values = column.to_numpy()
        if values.dtype.kind == "f" and (bad := ~np.isfinite(values)).any():
            row = int(bad.argmax())
            raise DataError(f"{where(row)}: {values[row]} can't order rows; give finite numbers, or dates")
        return values
    # Only ISO 8601: 01/02/2024 is January in one country and February in another.
    times = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    if (bad := times.isna()).any():
        row = int(bad.argmax())
        raise DataError(
            f"{where(row)}: {str(column[row])[:80]!r} can't order rows; write dates as 2024-01-31 or 2024-01-31T12:00, "
            "or give numbers"
        )
    if types.is_datetime64_any_dtype(column):
        return times.dt.tz_localize(None).to_numpy()
    has_offset = column.astype(str).str.contains(_OFFSET)
    if has_offset.any() and not has_offset.all():
        row = int((has_offset != has_offset[0]).argmax())
        raise DataError(
            f"{where(row)}: {str(column[row])[:80]!r} can't be ordered beside {str(column[0])[:80]!r}: one has an "
            "offset from UTC, and one has none; write all in one time zone"
        )
    return times.dt.tz_localize(None).to_numpy()


def divided(parts: Parts) -> Parts:
    """Return the parts with the splits that a column or array gives; DataError for a split that can't be used."""
    import numpy as np

    train = parts.splits["train"]
    if "split" not in train.roles:
        return parts
    if len(parts.splits) > 1:
        raise DataError(
            f"{parts.name}: has {' and '.join(parts.splits)} rows of its own, so split has nothing to say; remove it",
            key="data.split",
        )
    given = train.roles["split"]
    rows = {split: np.flatnonzero(given == split) for split in ("train", "validation", "test")}
    if not len(rows["train"]):
        raise DataError(f"{parts.name}: no row is of the split train; mark some", key="data.split")
    return replace(parts, splits={split: taken(train, index) for split, index in rows.items() if len(index)})


def taken(part: Part, index: Array) -> Part:
    """Return some rows of a part, in the order of `index`."""
    place = part.place  # a reference to the part would keep all its rows
    return replace(
        part,
        x=part.x[index],
        y=part.y[index],
        place=lambda row: place(int(index[row])),
        roles={role: values[index] for role, values in part.roles.items()},
    )


def check_given(parts: Parts) -> tuple[str, ...]:
    """Refuse a group whose rows lie in two of the source's own splits; return warnings on splits that overlap in time."""
    if len(parts.splits) == 1:
        return ()
    if "group" in parts.splits["train"].roles and not is_panel(parts.splits["train"].roles):
        _check_groups(parts)
    return tuple(_overlaps(parts)) if "order" in parts.splits["train"].roles else ()


def _check_groups(parts: Parts) -> None:
    import numpy as np

    names = list(parts.splits)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            groups = [parts.splits[split].roles["group"] for split in (first, second)]
            common = np.intersect1d(groups[0], groups[1])
            if not len(common):
                continue
            places = [
                f"{split} ({parts.splits[split].place(int((values == common[0]).argmax()))})"
                for split, values in zip((first, second), groups, strict=True)
            ]
            more = f", and so have {len(common) - 1} more" if len(common) > 1 else ""
            raise DataError(
                f"{parts.name}: the group {common[0].item()!r} has rows in {' and in '.join(places)}{more}; give all rows "
                "of a group the same split, or remove group",
                key="data.group",
            )


def _overlaps(parts: Parts) -> Iterator[str]:
    """Yield a warning for splits of which the later one has rows before the last row of the earlier one."""
    splits = [split for split in ("train", "validation", "test") if split in parts.splits]
    for earlier, later in itertools.pairwise(splits):
        before, after = (parts.splits[split].roles["order"] for split in (earlier, later))
        if before.dtype.kind != after.dtype.kind and "M" in (before.dtype.kind, after.dtype.kind):
            raise DataError(
                f"{parts.name}: order has dates in one of {earlier} and {later} and numbers in the other; make them alike",
                key="data.order",
            )
        if count := int((after <= before.max()).sum()):
            yield (
                f"{parts.name}: {count} of the {len(after)} {later} rows do not come after the last {earlier} row in order, "
                "so their metrics say less about rows to come"
            )
