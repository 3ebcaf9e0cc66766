"""Columns of a table as features: adapted on the training rows, the same numbers that `search.engines.raw_rows` computes.

Features come in groups: numbers, parts of dates, which of them are missing, categories, words of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.data.cells import is_blank
from search.data.splits import Scaling
from search.data.table import Column, Table
from search.data.words import MOST_WORDS, Words, frequent_words, put_words
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.dates import Order
    from search.data.parts import Array

# The most frequent categories of a column get a feature of their own; one that occurs once can't be learnt.
MOST_CATEGORIES = 100
_FEWEST_OF_A_CATEGORY = 2
_LARGEST = 8 * 2**30
_DAY = 86400
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Dates:
    """A column of dates; `first` is the first day among the training rows, in days since 1970."""

    name: str
    order: Order
    first: int
    has_time: bool

    @property
    def parts(self) -> tuple[str, ...]:
        return ("days", "month", "day", "weekday", *(("hour",) if self.has_time else ()))


@dataclass(frozen=True)
class Categories:
    """A column of categories.

    Attributes:
        known: the categories with a feature of their own, in order; all texts or all numbers.
        has_others: whether there is a feature for all other categories, rare ones and unknown ones.
        blanks: texts that stand for a missing value.
        has_missing: whether there is a feature for missing values.
    """

    name: str
    known: tuple[Any, ...]
    has_others: bool
    blanks: tuple[str, ...]
    has_missing: bool

    @property
    def are_texts(self) -> bool:
        return bool(self.blanks) or any(isinstance(value, str) for value in self.known)

    @property
    def features(self) -> tuple[str, ...]:
        others = (f"{self.name}: other",) if self.has_others else ()
        missing = (f"{self.name} is missing",) if self.has_missing else ()
        return (*(f"{self.name} = {_text(value)}" for value in self.known), *others, *missing)


@dataclass(frozen=True, eq=False)
class Encoding:
    """How the columns of a table become features.

    Attributes:
        columns: name -> kind, in the order of the table.
        numbers: the columns of numbers and booleans.
        flagged: positions among the quantities (numbers, then parts of dates) that have a feature "is missing".
        medians: float32, of the quantities, which replace missing values.
        scaling: of the quantities.
    """

    columns: Mapping[str, str]
    numbers: tuple[str, ...]
    dates: tuple[Dates, ...]
    flagged: tuple[int, ...]
    medians: Array
    scaling: Scaling
    categories: tuple[Categories, ...]
    texts: tuple[Words, ...]

    @property
    def quantities(self) -> tuple[str, ...]:
        return (*self.numbers, *(f"{date.name}: {part}" for date in self.dates for part in date.parts))

    @property
    def features(self) -> tuple[str, ...]:
        """The name of each feature."""
        return (
            *self.quantities,
            *(f"{self.quantities[index].partition(': days')[0]} is missing" for index in self.flagged),
            *(feature for column in self.categories for feature in column.features),
            *(f"{text.name}: {word}" for text in self.texts for word in text.words),
        )

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return len(self.features)

    def described(self) -> tuple[dict[str, Any], ...]:
        """Return name, kind, number of features and remarks of each column, for people and programs."""
        descriptions: dict[str, dict[str, Any]] = {
            name: {"name": name, "kind": kind, "features": 0, "how": ""} for name, kind in self.columns.items()
        }
        quantities = self.quantities
        missing = {quantities[index].partition(": days")[0]: index for index in self.flagged}
        for name in self.numbers:
            descriptions[name] |= {
                "features": 1 + (name in missing),
                "how": f"missing values become {self.medians[missing[name]]:g}" if name in missing else "",
            }
        for date in self.dates:
            descriptions[date.name] |= {
                "features": len(date.parts) + (date.name in missing),
                "how": ", ".join(date.parts) + (", with missing values" if date.name in missing else ""),
            }
        for column in self.categories:
            how = [f"{len(column.known)} categories"]
            how += ["all others are one"] if column.has_others else []
            how += ["missing is one"] if column.has_missing else []
            descriptions[column.name] |= {"features": len(column.features), "how": ", ".join(how)}
        for text in self.texts:
            descriptions[text.name] |= {
                "features": len(text.words),
                "how": f"its {len(text.words)} most frequent words",
            }
        return tuple(descriptions.values())


def adapt(table: Table, rows: Array, method: str, name: str, most_words: int = MOST_WORDS) -> Encoding:
    """Adapt an encoding to the training rows; `method` scales numbers and parts of dates.

    A column of texts has at most `most_words` features.

    Raises DataError for a column without values among them.
    """
    import numpy as np

    numbers, dates = [], []
    for column in table.columns:
        if column.kind in ("number", "boolean"):
            numbers.append(column.name)
        if column.kind == "date":
            dates.append(_dates(column, rows))
    quantities = _quantities(table, tuple(dates), rows)
    is_missing = np.isnan(quantities)
    if is_missing.all(axis=0).any():
        index = int(is_missing.all(axis=0).argmax())
        column_name = [*numbers, *(date.name for date in dates for _ in date.parts)][index]
        raise DataError(f"{name}: column {column_name!r} has no value among the training rows; drop it")
    medians = np.nanmedian(quantities.astype(np.float64), axis=0).astype(np.float32)
    part_of = [0] * len(numbers) + [part for date in dates for part in range(len(date.parts))]
    flagged = tuple(int(index) for index in np.flatnonzero(is_missing.any(axis=0)) if part_of[index] == 0)
    filled = np.where(is_missing, medians, quantities).astype(np.float64)
    categories = tuple(_categories(column, rows) for column in table.columns if column.kind == "category")
    texts = tuple(frequent_words(column, rows, most_words) for column in table.columns if column.kind == "text")
    encoding = Encoding(
        table.kinds, tuple(numbers), tuple(dates), flagged, medians, _scaling(filled, method), categories, texts
    )
    if not encoding.features:
        raise DataError(f"{name}: no column has anything to learn from: each category occurs once; add columns")
    return encoding


def encode(encoding: Encoding, table: Table, rows: Array) -> Array:
    """Return rows as features, float32 (rows, features). Unknown categories and words have no feature."""
    import numpy as np

    size = len(rows) * len(encoding.features) * 4
    if size > _LARGEST:
        raise DataError(
            f"{len(rows)} rows of {len(encoding.features)} features take {size / 2**30:.0f} GiB; drop columns of many "
            "categories or texts, or set limit in [data]"
        )
    features = np.zeros((len(rows), len(encoding.features)), np.float32)
    columns = {column.name: column for column in table.columns}
    quantities = _quantities(table, encoding.dates, rows)
    is_missing = np.isnan(quantities)
    end = quantities.shape[1]
    scaling = encoding.scaling
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        filled = np.where(is_missing[part], encoding.medians, quantities[part])
        if scaling.mean is not None and scaling.spread is not None:
            filled = (filled.astype(np.float64) - scaling.mean) / scaling.spread
        features[part, :end] = filled
    for index in encoding.flagged:
        features[:, end] = is_missing[:, index]
        end += 1
    for categories in encoding.categories:
        width = len(categories.features)
        _put_categories(categories, columns[categories.name], rows, features[:, end : end + width])
        end += width
    for words in encoding.texts:
        put_words(words, columns[words.name], rows, features[:, end : end + len(words.words)])
        end += len(words.words)
    return features


def _quantities(table: Table, dates: tuple[Dates, ...], rows: Array) -> Array:
    """Return the columns of numbers and the parts of dates, float32 (rows, quantities), NaN where missing."""
    import numpy as np

    by_name = {date.name: date for date in dates}
    features = [
        column.values[rows].astype(np.float32) for column in table.columns if column.kind in ("number", "boolean")
    ]
    for column in table.columns:
        if column.kind == "date":
            features += _parts(column, by_name[column.name], rows)
    return np.stack(features, axis=1) if features else np.zeros((len(rows), 0), np.float32)


def _dates(column: Column, rows: Array) -> Dates:
    import numpy as np

    seconds = column.seconds[np.unique(column.values[rows])]
    seconds = seconds[~np.isnan(seconds)]
    first = int(seconds.min() // _DAY) if len(seconds) else 0
    return Dates(column.name, column.order, first, bool((seconds % _DAY != 0).any()))


def _parts(column: Column, date: Dates, rows: Array) -> Iterator[Array]:
    """Yield the parts of a date: days since the first (the time as a fraction), month, day, weekday (Monday is 0), hour."""
    import numpy as np

    seconds = column.seconds
    known = np.where(np.isnan(seconds), 0, seconds).astype("datetime64[s]")
    day, month = known.astype("datetime64[D]"), known.astype("datetime64[M]")
    days = day.astype(np.int64)
    time = (known - day).astype(np.int64).astype(np.float32)
    elapsed = (days - date.first).astype(np.float32)
    by_part = {
        "days": elapsed + time / np.float32(_DAY) if date.has_time else elapsed,
        "month": month.astype(np.int64) % 12 + 1,
        "day": (day - month.astype("datetime64[D]")).astype(np.int64) + 1,
        "weekday": (days + 3) % 7,
        "hour": time // 3600,
    }
    for part in date.parts:
        values = np.where(np.isnan(seconds), np.nan, by_part[part]).astype(np.float32)
        yield values[column.values[rows]]


def _scaling(filled: Array, method: str) -> Scaling:
    """Fit a scaling to quantities without missing values; the mean is a float32, as an exported model has it."""
    import numpy as np

    if method == "none" or not filled.shape[1]:
        return Scaling()
    low = filled.mean(axis=0) if method == "standard" else filled.min(axis=0)
    spread = filled.std(axis=0) if method == "standard" else filled.max(axis=0) - low
    # A constant column has a spread of rounding noise at most.
    is_constant = filled.max(axis=0) == filled.min(axis=0)
    return Scaling(method, mean=low.astype(np.float32).astype(np.float64), spread=np.where(is_constant, 1.0, spread))


def _categories(column: Column, rows: Array) -> Categories:
    """Return the categories of a column: the most frequent ones, of equally frequent ones the first in order."""
    import numpy as np

    values = column.values[rows]
    blanks: tuple[str, ...] = ()
    pairs: list[tuple[Any, int]]
    if column.texts is None:
        distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
        has_missing = bool(np.isnan(values).any())
        pairs = [(float(value), int(count)) for value, count in zip(distinct, counts, strict=True)]
    else:
        counts = np.bincount(values, minlength=len(column.texts))
        blanks = tuple(dict.fromkeys(("", *(text for text in column.texts if is_blank(text)))))
        has_missing = any(count for text, count in zip(column.texts, counts, strict=True) if text in blanks)
        pairs = [
            (text, int(count)) for text, count in zip(column.texts, counts, strict=True) if count and text not in blanks
        ]
    frequent = sorted(
        (pair for pair in pairs if pair[1] >= _FEWEST_OF_A_CATEGORY), key=lambda pair: (-pair[1], pair[0])
    )
    known = tuple(sorted(value for value, _ in frequent[:MOST_CATEGORIES]))
    return Categories(column.name, known, len(known) < len(pairs), blanks, has_missing)


def _put_categories(categories: Categories, column: Column, rows: Array, features: Array) -> None:
    """Write the features of a column of categories: one for each, for others, for missing ones."""
    import numpy as np

    places = {value: place for place, value in enumerate(categories.known)}
    other = len(places) if categories.has_others else -1
    missing = len(places) + categories.has_others if categories.has_missing else other
    if column.texts is not None:
        place_of = np.array(
            [missing if text in categories.blanks else places.get(text, other) for text in column.texts]
        )
        place = place_of[column.values[rows]]
    else:
        values = column.values[rows]
        known = np.array(categories.known or (np.inf,))
        positions = np.minimum(np.searchsorted(known, values), len(known) - 1)
        place = np.where(known[positions] == values, positions, other)
        place[np.isnan(values)] = missing if categories.has_missing else -1
    index = np.flatnonzero(place >= 0)
    features[index, place[index]] = 1


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
