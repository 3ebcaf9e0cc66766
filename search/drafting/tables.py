"""What a table seems to be: the column to learn, columns of no use, and whether its rows are a series in time."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from search.data.cells import FLOAT32_WHOLE
from search.data.column_remarks import useless
from search.data.columns import read_table
from search.data.tables import check_target
from search.data.targets import FEW_CLASSES
from search.drafting import guess
from search.drafting.guess import Guess
from search.drafting.request import Request
from search.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Names that say that a column is learnt, in any case; the first of them that a table has wins.
_TARGETS = ("target", "label", "class", "y", "outcome", "response", "output", "labels", "classes")
# Beyond this many columns, columns are not looked at one by one.
_MOST_COLUMNS = 300
_WINDOW = 24
_FEWEST_PIXELS = 64
_FEWEST_ROWS, _FEWEST_IN_SERIES = 20, 200
# A share of the steps that differ from the usual one by no more than months do.
_EVEN, _LIKE_MONTHS = 0.95, 0.11


@dataclass(frozen=True)
class Looked:
    """What a table seems to be.

    Attributes:
        section: keys of [data].
        dropped: columns that are left out -> why.
    """

    section: dict[str, Any]
    guesses: list[Guess] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def look(frame: pd.DataFrame, request: Request, given: Mapping[str, Any]) -> Looked:
    """Guess what `request` and `given`, keys of [data], leave open; DataError for a target that can't be one."""
    names = [str(column) for column in frame.columns]
    kinds = given.get("columns", {})
    named = {name for listed in kinds.values() for name in listed}
    taken = [given[role] for role in ("group", "order", "split") if role in given]
    guesses = []
    target = request.target
    if target:
        check_target(request.folder / request.source, target, names)
    else:
        target, why = _target_of(frame, names, [*taken, *named])
        guesses.append(Guess("target", target, why, "--target COLUMN names another"))
    learnt = frame.iloc[:, names.index(target)]
    if learnt.nunique(dropna=True) < 2:
        raise DataError(
            f"{request.source}, column {target!r}: the target has one value in all rows, so there is nothing to learn; name "
            "another column by --target",
            key="data.target",
        )
    looked = Looked({"target": target}, guesses)
    features = [name for name in names if name != target and name not in taken]
    free = [name for name in features if name not in named]
    is_series = _look_for_series(frame, looked, free, given)
    if "drop" not in kinds and not is_series:
        looked.dropped.update(_dropped(frame, free, request))
    if looked.dropped:
        looked.section["columns"] = {"drop": list(looked.dropped), **kinds}
    if "scale" not in given and not request.model:
        left_out = {*looked.dropped, *kinds.get("drop", ()), *kinds.get("category", ()), *kinds.get("text", ())}
        kept = [name for name in features if name not in left_out and name != looked.section.get("order")]
        looked.guesses.extend(_quantities(frame, kept))
    return looked


def _quantities(frame: pd.DataFrame, features: Sequence[str]) -> Iterator[Guess]:
    """Yield a guess on columns of whole numbers that float32 would round, and that scaling takes for quantities."""
    kept = set(features)
    wide = [
        name
        for position, name in enumerate(map(str, frame.columns))
        if name in kept and _is_wide(frame.iloc[:, position].dropna())
    ]
    if wide:
        shown = ", ".join(map(repr, wide[:5])) + (", ..." if len(wide) > 5 else "")
        yield guess.of_quantities(shown, "name them under columns.category, or under columns.drop to leave them out")


def _is_wide(cells: pd.Series[Any]) -> bool:
    """Return whether cells, none of them missing, are whole numbers of which float32 would round some."""
    import pandas as pd

    types = pd.api.types
    if types.is_object_dtype(cells):  # whole numbers beyond 64 bits, maybe: the first cell decides quickly
        cells = pd.to_numeric(cells if isinstance(next(iter(cells), ""), int) else cells.iloc[:0], errors="coerce")
    if types.is_bool_dtype(cells) or not types.is_numeric_dtype(cells) or types.is_complex_dtype(cells):
        return False
    numbers = cells.to_numpy(np.float64)
    return bool((numbers == np.floor(numbers)).all() and (np.abs(numbers) > FLOAT32_WHOLE).any())


def _target_of(frame: pd.DataFrame, names: Sequence[str], taken: Sequence[str]) -> tuple[str, str]:
    """Return a column that may be the target, and why: one with a telling name, or else the last that can be learnt."""
    plain = {name.strip().casefold(): name for name in reversed(names) if name not in taken}
    named = next((plain[word] for word in _TARGETS if word in plain), None)
    if named is not None:
        return named, "by its name"
    free = [name for name in names if name not in taken]
    passed = []
    for name in reversed(free):
        if why := _no_target(frame.iloc[:, names.index(name)]):
            passed.append(f"{name!r} {why}")
            continue
        return name, "the last column" + (f" that can be learnt: {', '.join(passed)}" if passed else "")
    raise DataError(
        f"no column can be learnt ({', '.join(passed) or 'there is none'}); name one by --target", key="data.target"
    )


def _no_target(column: pd.Series[Any]) -> str:
    """Return why a column is probably not what is to be learnt; "" if it may be."""
    import pandas as pd

    types, distinct = pd.api.types, column.nunique(dropna=True)
    reasons = {
        "has one value": distinct < 2,
        "has empty cells": bool(column.isna().any()),
        "has dates": types.is_datetime64_any_dtype(column) or _times_of(column) is not None,
        "numbers the rows": types.is_integer_dtype(column)
        and distinct == len(column) == column.max() - column.min() + 1,
        "has too many different texts": not types.is_numeric_dtype(column)
        and distinct > FEW_CLASSES
        and 10 * distinct > len(column),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def _dropped(frame: pd.DataFrame, features: Sequence[str], request: Request) -> dict[str, str]:
    """Return the columns that no model can learn from -> why. One is left, whatever it is."""
    if len(features) > _MOST_COLUMNS:
        return {}
    names = [str(column) for column in frame.columns]
    dropped = {name: "all its cells are empty" for name in features if frame.iloc[:, names.index(name)].isna().all()}
    rest = [name for name in features if name not in dropped]
    table, _ = read_table(
        frame.iloc[:, [names.index(name) for name in rest]], None, lambda row: f"{request.source}, row {row}"
    )
    # Black pixels at a border are constant, but without them the other pixels are not an image.
    is_image = math.isqrt(len(features)) ** 2 == len(features) >= _FEWEST_PIXELS
    dropped |= {name: why for name, why in useless(list(table.columns)) if not is_image or "identifier" in why}
    return dropped if len(dropped) < len(features) else {}


def _look_for_series(frame: pd.DataFrame, looked: Looked, features: Sequence[str], given: Mapping[str, Any]) -> bool:
    """Add the keys of a series to `looked` if the rows are one; a table in order of time that is not a series gets a note.

    Windows that `given` asks for get the order. Return whether windows are cut.
    """
    windows = {"window", "horizon", "stride"} & set(given)
    if {"order", "group", "split"} & set(given) or ("columns" in given and not windows):
        return "window" in given
    order, steps = _order_of(frame, features)
    if not order:
        return "window" in given
    target, quoted = looked.section["target"], shlex.quote(order)
    is_series = _is_series(frame, order, steps, target)
    if not is_series and not ("window" in given and steps.all()):
        looked.notes.append(
            f"the rows are in the order of {order!r}; --set data.order={quoted} tests on the last of them instead of on some "
            "by chance"
        )
        return "window" in given
    window, horizon = given.get("window", min(_WINDOW, len(frame) // 20)), given.get("horizon", 1)
    looked.section.update({"order": order, "window": window, "horizon": horizon})
    looked.guesses.append(
        Guess(
            "series",
            f"{window} rows foretell {target!r} of the {'next one' if horizon == 1 else f'one {horizon} steps later'}",
            f"{order!r} has a row at every step in time, and all else is numbers"
            if is_series
            else f"{order!r} has the times of the rows",
            f"--set data.window=N changes that; --set data.order={quoted} alone makes each row an example",
        )
    )
    return True


def _order_of(frame: pd.DataFrame, features: Sequence[str]) -> tuple[str, Any]:
    """Return the column of dates that the rows are sorted by, and its steps in nanoseconds; "" if there is none."""
    names = [str(column) for column in frame.columns]
    for name in features:
        times = _times_of(frame.iloc[:, names.index(name)])
        if times is not None and len(times) >= _FEWEST_ROWS:
            steps = np.diff(times)
            if (steps >= 0).all() and steps.any():
                return name, steps
    return "", None


def _is_series(frame: pd.DataFrame, order: str, steps: Any, target: str) -> bool:
    """Return whether rows are a series: even steps in time, numbers without blanks, and a quantity to foretell."""
    import pandas as pd

    names = [str(column) for column in frame.columns]
    others = frame.iloc[:, [index for index, name in enumerate(names) if name != order]]
    learnt = frame.iloc[:, names.index(target)]
    usual = np.median(steps)
    return bool(
        len(frame) >= _FEWEST_IN_SERIES
        and steps.all()
        and (np.abs(steps / usual - 1) < _LIKE_MONTHS).mean() >= _EVEN
        and all(map(pd.api.types.is_numeric_dtype, others.dtypes))
        and not others.isna().to_numpy().any()
        and learnt.nunique() > FEW_CLASSES
    )


def _times_of(column: pd.Series[Any]) -> Any:
    """Return the times of a column of dates, int64 (rows,); None if it has other cells. Numbers are not times here."""
    import pandas as pd

    types = pd.api.types
    if types.is_datetime64_any_dtype(column):
        if column.isna().any():
            return None
        plain = column if column.dt.tz is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
        return plain.to_numpy().astype("datetime64[ns]").astype(np.int64)
    if not (types.is_object_dtype(column) or types.is_string_dtype(column)) or column.isna().any():
        return None
    for cells in (column.iloc[:5], column):  # the first cells decide for most columns, and quickly
        times = pd.to_datetime(cells.astype(str), format="ISO8601", errors="coerce", utc=True)
        if times.isna().any() or not cells.astype(str).str.contains(r"\d[-/T:]\d").all():
            return None
    return times.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
