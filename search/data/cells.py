"""Cells of a column: their codes, and what a text may be: a number, a truth, a missing value."""

from __future__ import annotations

import decimal
import numbers
import re
from typing import TYPE_CHECKING, Any

from search.data.labels import is_missing

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array

# These may be names of categories as well as words for a missing value.
_NOT_MISSING = frozenset(("none", "nil", "missing", "."))
FLOAT32_WHOLE = 2**24
# So many characters of a cell, and so many faults, are shown.
SHOWN = 40


class ColumnFault(Exception):  # noqa: N818 (a property of a column)
    """Something in a column that a person must decide."""


def is_blank(text: str) -> bool:
    """Return whether a text stands for a missing value in a column of categories, texts or dates."""
    return is_missing(text) and text.strip().casefold() not in _NOT_MISSING


def factorized(series: pd.Series[Any]) -> tuple[Array, list[Any]]:
    """Return the code of each cell, -1 where it is missing, and the distinct cells in the order of the rows."""
    import pandas as pd

    try:
        codes, uniques = pd.factorize(series)
    except TypeError:  # lists, arrays and tables can't be compared
        first = next(value for value in series if isinstance(value, list | dict | set) or hasattr(value, "shape"))
        raise ColumnFault(
            f"column {str(series.name)!r} holds cells of type {type(first).__name__}; give a column for each part, or drop it"
        ) from None
    return codes, list(uniques)


def merged(codes: Array, texts: list[str]) -> tuple[Array, list[str]]:
    """Give equal texts one code: a cell 1 and a cell "1" of a column of objects, say."""
    import numpy as np

    if len(set(texts)) == len(texts):
        return codes, texts
    distinct = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    return np.array([*(distinct[text] for text in texts), -1])[codes], list(distinct)


def number_of(text: str) -> float | None:
    """Return a text as a number; None if it is none. Python's own 1_000 is none."""
    if "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None  # noqa: PLR0124 (NaN is a missing value)


def is_canonical(text: str) -> bool:
    """Return whether a text is a whole number that float32 holds, without zeros in front. Beside blanks pandas writes 3.0."""
    digits = text.removesuffix(".0")
    return digits.lstrip("-").isdecimal() and str(int(digits)) == digits and abs(int(digits)) <= FLOAT32_WHOLE


def is_truth(text: str) -> bool:
    return text.strip().casefold() in ("true", "false")


def is_plain_cell(value: Any) -> bool:
    return isinstance(value, str | numbers.Real | decimal.Decimal)


def types_of(values: list[Any]) -> str:
    return ", ".join(sorted({type(value).__name__ for value in values}))


def units_of(texts: list[str], indices: list[int]) -> set[str]:
    return {re.sub(r"[\d.,\s+-]", "", texts[index]).casefold() for index in indices}


def quoted(name: str) -> str:
    """Return a name as a text of TOML."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def first_infinite(values: Array) -> int | None:
    """Return the first row whose number is infinite or above 3.4e38; None if there is none. NaN is a missing value."""
    import numpy as np

    bad = ~np.isnan(values) & ~(np.abs(values) <= np.finfo(np.float32).max)
    return int(bad.argmax()) if bad.any() else None


def not_finite(where: str, value: float) -> str:
    """Return the error text for a number that is infinite or too large."""
    return f"{where}: {value} is not finite, or above 3.4e38; mend the row, or leave it empty"
