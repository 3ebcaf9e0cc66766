"""Remarks on columns of a table that may not be meant as features: identifiers, constants, equal ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from search.data.cells import quoted
from search.data.exact import exact_cells

if TYPE_CHECKING:
    import pandas as pd

    from search.data.table import Column

_NAMES_OF_IDS = re.compile(r"(.*[_ .-])?(id|ids|uuid|guid|index|key|nr|no|number)|Unnamed: \d+|.*(Id|ID)", re.ASCII)
_FEWEST_ROWS = 20
_MOST_OF_A_KIND = 3
_EQUAL = "equal to "


def useless(columns: list[Column]) -> Iterator[tuple[str, str]]:
    """Yield (name, why) of each column that is constant, looks like an identifier, or is equal to an earlier one."""
    import numpy as np

    seen: dict[tuple[tuple[str, ...] | None, bytes | tuple[Any, ...]], str] = {}
    for column in columns:
        values = column.values
        cells = values if column.exact is None else column.exact
        known = cells[~np.isnan(values)] if values.dtype.kind == "f" else cells
        distinct = len(np.unique(known))
        if distinct == 1 and len(known) == len(values):
            yield column.name, "all cells are equal; nothing can be learnt from it"
            continue
        if distinct == len(values) >= _FEWEST_ROWS and _may_be_id(column):
            yield column.name, "every row has another value, so it looks like an identifier"
        key = (column.texts, values.tobytes() if column.exact is None else tuple(map(str, cells)))
        if key in seen:
            yield column.name, f"{_EQUAL}{seen[key]!r}"
        seen.setdefault(key, column.name)


def remarks(columns: list[Column]) -> Iterator[str]:
    """Yield warnings on columns that are of no use; many of a kind, such as constant pixels, in one."""
    useless_columns = list(useless(columns))
    kinds = Counter(_kind(why) for _, why in useless_columns)
    for name, why in useless_columns:
        if kinds[_kind(why)] > _MOST_OF_A_KIND:
            continue
        if _kind(why) == _EQUAL:
            yield f"columns {why.removeprefix(_EQUAL)} and {name!r} are equal; drop one of them"
        else:
            yield f"column {name!r}: {why}; drop it: columns = {{ drop = [{quoted(name)}] }}"
    for kind, count in kinds.items():
        if count > _MOST_OF_A_KIND:
            names = [repr(name) for name, why in useless_columns if _kind(why) == kind][:_MOST_OF_A_KIND]
            what = "each is equal to an earlier column" if kind == _EQUAL else kind
            yield f"{count} columns ({', '.join(names)}, ...): {what}; data.columns.drop leaves columns out"


def of_numbers(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the same warnings on the columns of a table of numbers."""
    from search.data.table import Column

    columns = []
    for index, name in enumerate(frame.columns):
        cells = frame.iloc[:, index]
        values = cells.to_numpy("float64")
        columns.append(Column(str(name), "number", values, exact=exact_cells(cells, values)))
    yield from remarks(columns)


def _kind(why: str) -> str:
    return _EQUAL if why.startswith(_EQUAL) else why


def _may_be_id(column: Column) -> bool:
    """Return whether a column of distinct values may number the rows. Real numbers, dates and long texts differ by nature."""
    import numpy as np

    if column.kind in ("text", "date"):
        return False
    if column.texts is not None:
        return True
    is_whole = bool((column.values == np.floor(column.values)).all())
    values = column.values if column.exact is None else column.exact
    is_run = is_whole and values.max() - values.min() + 1 == len(values)
    return is_run or (is_whole and _NAMES_OF_IDS.fullmatch(column.name) is not None)
