"""Remarks on columns of a table that may not be meant as features: identifiers, constants, equal ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from search.data.cells import quoted

if TYPE_CHECKING:
    from search.data.table import Column

_NAMES_OF_IDS = re.compile(r"(.*[_ .-])?(id|ids|uuid|guid|index|key|nr|no|number)|Unnamed: \d+|.*(Id|ID)", re.ASCII)
_FEWEST_ROWS = 20


def useless(columns: list[Column]) -> Iterator[tuple[str, str]]:
    """Yield (name, why) of each column that is constant, looks like an identifier, or is equal to an earlier one."""
    import numpy as np

    seen: dict[tuple[tuple[str, ...] | None, bytes], str] = {}
    for column in columns:
        values = column.values
        known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
        distinct = len(np.unique(known))
        if distinct == 1 and len(known) == len(values):
            yield column.name, "all cells are equal; nothing can be learnt from it"
            continue
        if distinct == len(values) >= _FEWEST_ROWS and _may_be_id(column):
            yield column.name, "every row has another value, so it looks like an identifier"
        key = (column.texts, values.tobytes())
        if key in seen:
            yield column.name, f"equal to {seen[key]!r}"
        seen.setdefault(key, column.name)


def remarks(columns: list[Column]) -> Iterator[str]:
    """Yield warnings on columns that are of no use."""
    for name, why in useless(columns):
        if why.startswith("equal to "):
            yield f"columns {why.removeprefix('equal to ')} and {name!r} are equal; drop one of them"
        else:
            yield f"column {name!r}: {why}; drop it: columns = {{ drop = [{quoted(name)}] }}"


def _may_be_id(column: Column) -> bool:
    """Return whether a column of distinct values may number the rows. Real numbers, dates and long texts differ by nature."""
    import numpy as np

    if column.kind in ("text", "date"):
        return False
    if column.texts is not None:
        return True
    values = column.values
    is_whole = bool((values == np.floor(values)).all())
    is_run = is_whole and values.max() - values.min() + 1 == len(values)
    return is_run or (is_whole and _NAMES_OF_IDS.fullmatch(column.name) is not None)
