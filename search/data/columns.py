"""The columns of a table: their kinds, guessed or set in the study file, and all that is wrong with them, told at once.

A column is a number, a boolean, a category, a text or a date. `search.data.table_encoding` turns columns into features.
"""

from __future__ import annotations

import datetime
import decimal
import numbers
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.data.dates import Order, orders_of
from search.data.labels import DECIMAL_COMMA, is_missing, lookalikes
from search.data.table import Column, Table
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array
    from search.spec.settings import Columns

# These may be names of categories as well as words for a missing value.
_NOT_MISSING = frozenset(("none", "nil", "missing", "."))
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u202f]\d{3})+([.,]\d+)?")
_UNIT = re.compile(r"[+-]?[\d.,]*\d\s*[%°\w/²³€$£¥]{1,6}|[€$£¥]\s*[\d.,]*\d")
_NAMES_OF_IDS = re.compile(r"(.*[_ .-])?(id|ids|uuid|guid|index|key|nr|no|number)|Unnamed: \d+|.*(Id|ID)", re.ASCII)
# A text column is long if its cells have this many words on average, and most of them are different.
_WORDS_OF_TEXT = 4
_FEW = 20
# Beyond this many distinct values, no spellings are compared.
_MOST_COMPARED = 1000
_FEWEST_ROWS = 20
_FLOAT32_WHOLE = 2**24
_SHOWN = 40
_WHY_NOT = {
    "target": "the target is no feature",
    "split": "the split is no feature",
    "order": "an order is a feature only as a date or number",
    "group": "validation rows are of other groups, so it is no feature, but as a category or number in windows with an order",
}


@dataclass
class Findings:
    """What is wrong with columns, and what may be. A fault names a column and, if possible, a row."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def check(self, name: str) -> None:
        """Raise DataError with all faults."""
        if len(self.faults) == 1:
            raise DataError(self.faults[0])
        if self.faults:
            lines = "".join(f"\n  {fault}" for fault in self.faults[:_SHOWN])
            more = f"\n  and {len(self.faults) - _SHOWN} more" if len(self.faults) > _SHOWN else ""
            raise DataError(f"{name}: {len(self.faults)} columns can't be read:{lines}{more}")


def without_dropped(frame: pd.DataFrame, settings: Columns | None, name: str) -> pd.DataFrame:
    """Return a table without the columns that the study drops; DataError for names in `columns` that it does not have."""
    if settings is None:
        return frame
    check_names(settings, [str(column) for column in frame.columns], name)
    keep = [index for index, column in enumerate(frame.columns) if str(column) not in settings.drop]
    if not keep:
        raise DataError(f"{name}: columns.drop leaves no column of features; drop fewer", key="data.columns")
    return frame.iloc[:, keep]


def check_names(settings: Columns, names: list[str], source: str, taken: Mapping[str, str] = {}) -> None:
    """Raise DataError for columns that a table does not have, and for those that are `taken`: what by -> the column."""
    for kind, listed in settings.by_kind().items():
        for column in listed:
            if role := next((role for role, other in taken.items() if other == column), ""):
                raise DataError(
                    f"{source}: columns.{kind} and {role} both name {column!r}, and {_WHY_NOT[role]}; remove it from columns",
                    key="data.columns",
                )
            if column not in names:
                shown = ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
                raise DataError(
                    f"{source}: columns.{kind} names {column!r}, and there is no such column{closest(column, names)}; "
                    f"it has {shown}",
                    key="data.columns",
                )


def is_plain(frame: pd.DataFrame, settings: Columns | None) -> bool:
    """Return whether a table is numbers, true and false without blanks, which need no encoding."""
    if settings is not None and (settings.category or settings.text or settings.date):
        return False
    import pandas as pd

    is_numeric = frame.dtypes.map(pd.api.types.is_numeric_dtype).to_numpy(bool)  # for pandas, booleans are numeric
    others = frame.iloc[:, ~is_numeric]
    if not all(_holds_numbers(others.iloc[:, index]) for index in range(others.shape[1])):
        return False
    return not bool(frame.iloc[:, is_numeric].isna().to_numpy().any())


def _holds_numbers(column: pd.Series[Any]) -> bool:
    """Return whether all cells are numbers, although the dtype does not show it: whole numbers beyond 64 bits, say."""
    import pandas as pd

    types = pd.api.types
    is_category = isinstance(column.dtype, pd.CategoricalDtype) and types.is_numeric_dtype(column.dtype.categories)
    if not (is_category or types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return False
    # The first cell decides for most columns, and quickly.
    return all(
        pd.to_numeric(cells.astype(object), errors="coerce").notna().all() for cells in (column.iloc[:1], column)
    )


def read_table(
    frame: pd.DataFrame, settings: Columns | None, place: Callable[[int], str], like: Table | None = None
) -> tuple[Table, Findings]:
    """Return the columns of a table and what is wrong with them; with `like`, their kinds are those of another split."""
    findings = Findings()
    wanted = {} if settings is None else settings.kind_of()
    orders: Mapping[str, Order] = {}
    if like is not None:
        wanted, orders = like.kinds, {column.name: column.order for column in like.columns}
    columns = []
    for index, name in enumerate(map(str, frame.columns)):
        reader = _Reader(name, frame.iloc[:, index], place, wanted.get(name), orders.get(name))
        try:
            columns.append(reader.column())
        except _Fault as fault:
            findings.faults.append(str(fault))
        if like is None:
            findings.warnings += [f"column {name!r}: {warning}" for warning in reader.warnings]
    if like is None and not findings.faults:
        findings.warnings += _remarks(columns)
    return Table(tuple(columns)), findings


class _Fault(Exception):  # noqa: N818 (a property of a column)
    """Something in a column that a person must decide."""


class _Reader:
    """Reads one column."""

    def __init__(
        self,
        name: str,
        series: pd.Series[Any],
        place: Callable[[int], str],
        wanted: str | None,
        order: Order | None,
    ) -> None:
        self.name, self.series, self.place, self.wanted, self.order = name, series, place, wanted, order
        self.warnings: list[str] = []

    def column(self) -> Column:
        """Return the column; _Fault with a line for people."""
        import pandas as pd

        dtype, types = self.series.dtype, pd.api.types
        if self.series.isna().all():
            raise _Fault(f"column {self.name!r} is empty; drop it: columns = {{ drop = [{quoted(self.name)}] }}")
        if isinstance(dtype, pd.CategoricalDtype):
            self.wanted = self.wanted or "category"
            self.series = self.series.astype(dtype.categories.dtype if not self.series.isna().any() else object)
            dtype = self.series.dtype
        if types.is_bool_dtype(dtype) and not types.is_object_dtype(dtype):
            return self._numeric(self._floats(), "boolean")
        if types.is_datetime64_any_dtype(dtype):
            return self._of_dates(self.series)
        if types.is_numeric_dtype(dtype) and dtype.kind != "c":
            return self._numeric(self._floats(), "number")
        if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
            return self._of_objects()
        raise _Fault(f"column {self.name!r} is of type {dtype}; give numbers, texts, true and false, or dates")

    def _floats(self) -> Array:
        import numpy as np

        return self.series.to_numpy(dtype=np.float64, na_value=np.nan)

    def _numeric(self, values: Array, guess: str) -> Column:
        """Return a column whose cells are numbers."""
        import numpy as np

        if np.isinf(values).any() or (np.abs(values[~np.isnan(values)]) > np.finfo(np.float32).max).any():
            row = int((~np.isnan(values) & ~(np.abs(values) <= np.finfo(np.float32).max)).argmax())
            raise _Fault(
                f"{self._at(row)}: {values[row]} is not finite, or above 3.4e38; mend the row, or leave it empty"
            )
        kind = self.wanted or guess
        if kind == "date":
            raise _Fault(
                f"column {self.name!r}: a date is a text such as 2024-03-01; received numbers: write such texts"
            )
        if kind == "boolean" or (kind == "number" and guess == "boolean"):
            kind = guess
        if kind == "text" or (kind == "category" and not self._are_small_whole(values)):
            return self._as_texts(kind)
        return Column(self.name, kind, values)

    def _are_small_whole(self, values: Array) -> bool:
        import numpy as np

        known = values[~np.isnan(values)]
        return bool((known == np.floor(known)).all() and (np.abs(known) <= _FLOAT32_WHOLE).all())

    def _as_texts(self, kind: str) -> Column:
        """Return numbers as texts, which is how models get categories that are no whole numbers."""
        codes, uniques = _factorized(self.series)
        return self._with_missing(kind, codes, [str(value) for value in uniques])

    def _of_dates(self, series: pd.Series[Any]) -> Column:
        """Return dates of pandas as texts, in the form of ISO 8601."""
        import pandas as pd

        if self.wanted not in (None, "date"):
            raise _Fault(
                f"column {self.name!r} holds dates, and columns.{self.wanted} names it; name it under date, or drop it"
            )
        if series.dt.tz is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
            self.warnings.append("its dates have a time zone and become those of UTC")
        codes, uniques = _factorized(series)
        written = [str(value) for value in pd.Series(uniques).dt.floor("s").astype(str)]
        return self._with_missing("date", codes, written)

    def _of_objects(self) -> Column:
        import numpy as np

        codes, uniques = _factorized(self.series)
        if all(isinstance(value, bool) for value in uniques):
            return self._numeric(self._floats_of(codes, uniques), "boolean")
        if all(isinstance(value, numbers.Real | decimal.Decimal) and not isinstance(value, bool) for value in uniques):
            return self._numeric(self._floats_of(codes, uniques), "number")
        if all(isinstance(value, datetime.date) for value in uniques):
            import pandas as pd

            return self._of_dates(pd.to_datetime(self.series))
        odd = [value for value in uniques if not isinstance(value, str)]
        if odd and not (self.wanted in ("category", "text") and all(map(_is_plain, odd))):
            are_texts = np.array([isinstance(value, str) for value in uniques])[codes[codes >= 0]]
            # Name a cell of the rarer kind.
            are_rare = 0 < 2 * are_texts.sum() < len(are_texts)
            index = next(i for i, value in enumerate(uniques) if isinstance(value, str) == are_rare)
            raise _Fault(
                f"{self._at(self._row_of(codes, index))}: {str(uniques[index])[:_SHOWN]!r} ({type(uniques[index]).__name__}) "
                f"in a column of {_types(uniques)}; make them alike"
            )
        return self._of_texts(*_merged(codes, [str(value) for value in uniques]))

    def _of_texts(self, codes: Array, texts: list[str]) -> Column:
        """Return the column of cells that are texts: of the kind that they look like."""
        import numpy as np

        known = [index for index, text in enumerate(texts) if not is_missing(text)]
        if not known:
            shown = ", ".join(sorted({repr(text) for text in texts})[:3])
            raise _Fault(
                f"column {self.name!r} holds only words for missing values ({shown}); drop it: "
                f"columns = {{ drop = [{quoted(self.name)}] }}"
            )
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        number = {index: value for index in known if (value := _number(texts[index])) is not None}
        if self.wanted == "number" or (self.wanted is None and len(number) == len(known)):
            return self._numbers_from(codes, texts, known, number)
        if self.wanted in ("category", "text"):
            return self._categories_or_texts(codes, texts, known, number, self.wanted)
        if (truths := self._truths(codes, texts, known, counts)) is not None:
            return truths
        if (order := self._date_order(codes, texts, known, counts)) is not None:
            return self._with_missing("date", codes, texts, order)
        self._check_numbers(codes, texts, known, number, counts)
        return self._categories_or_texts(codes, texts, known, number, None)

    def _numbers_from(self, codes: Array, texts: list[str], known: list[int], number: dict[int, float]) -> Column:
        import numpy as np

        odd = [index for index in known if index not in number]
        if odd:
            raise _Fault(self._no_number(codes, texts, odd[0], len(odd)))
        values = np.array([number.get(index, np.nan) for index in range(len(texts))] + [np.nan])
        words = sorted({text for index, text in enumerate(texts) if index not in number and text})
        if words:
            self.warnings.append(
                f"{', '.join(map(repr, words[:3]))} stand for missing values; for an exported model make them NaN"
            )
        return self._numeric(values[codes], "number")

    def _no_number(self, codes: Array, texts: list[str], index: int, count: int) -> str:
        text = texts[index]
        where, others = self._at(self._row_of(codes, index)), f" ({count} such values)" if count > 1 else ""
        if DECIMAL_COMMA.fullmatch(text.strip()) or _THOUSANDS.fullmatch(text.strip()):
            return (
                f"{where}: {text[:_SHOWN]!r} is written with a comma or with thousands separators{others}; write "
                "numbers with a decimal point (and without thousands separators)"
            )
        return f"{where}: {text[:_SHOWN]!r} is no number{others}; mend it, or leave the cell empty"

    def _truths(self, codes: Array, texts: list[str], known: list[int], counts: Array) -> Column | None:
        """Return the column of cells that are true or false, beside words for missing values; None for any other column."""
        import numpy as np

        truth = {index: texts[index].strip().casefold() == "true" for index in known if _is_truth(texts[index])}
        if self.wanted not in (None, "boolean") or 2 * int(counts[list(truth)].sum()) < int(counts[known].sum()):
            return None
        if odd := [index for index in known if index not in truth]:
            raise _Fault(
                f"{self._at(self._row_of(codes, odd[0]))}: {texts[odd[0]][:_SHOWN]!r} is neither true nor false; mend it, or "
                f"leave the cell empty; if it is a category: columns = {{ category = [{quoted(self.name)}] }}"
            )
        values = np.array([*(float(truth.get(index, np.nan)) for index in range(len(texts))), np.nan])
        return Column(self.name, "boolean", values[codes])

    def _check_numbers(
        self, codes: Array, texts: list[str], known: list[int], number: dict[int, float], counts: Array
    ) -> None:
        """Refuse a column that seems to hold numbers, and is not all numbers, unless the study file names it a category."""
        total = int(counts[known].sum())
        separated = {
            index
            for index in known
            if index not in number
            and (DECIMAL_COMMA.fullmatch(texts[index].strip()) or _THOUSANDS.fullmatch(texts[index].strip()))
        }
        numeric = sum(int(counts[index]) for index in (*number, *separated))
        otherwise = f"; if it is a category: columns = {{ category = [{quoted(self.name)}] }}"
        if 2 * numeric >= total:
            # Of two kinds of fault, first name the one that is no number at all.
            odd = [index for index in known if index not in number and index not in separated] or sorted(separated)
            raise _Fault(self._no_number(codes, texts, odd[0], len(odd)) + otherwise)
        units = [index for index in known if _UNIT.fullmatch(texts[index].strip()) and texts[index].strip()[-1] != "."]
        if sum(int(counts[index]) for index in units) < 0.8 * total or len(_units(texts, units)) > 3:
            return
        if len(known) > _FEW:
            row = self._row_of(codes, units[0])
            raise _Fault(
                f"{self._at(row)}: {texts[units[0]][:_SHOWN]!r} is a number with a unit; write the number alone"
                + otherwise
            )
        self.warnings.append(f"{texts[units[0]]!r} looks like a number with a unit, and is taken for a category")

    def _date_order(self, codes: Array, texts: list[str], known: list[int], counts: Array) -> Order | None:
        """Return the order of a date's parts, if the cells are dates; None if they are something else."""
        if self.wanted is None and not any(orders_of(texts[index]) for index in known[:_FEW]):
            return None
        possible = {index: orders_of(texts[index]) for index in known}
        dated = [index for index in known if possible[index]]
        odd = [index for index in known if not possible[index]]
        share = int(counts[dated].sum()) / int(counts[known].sum()) if dated else 0.0
        if self.wanted is None and share < 0.8:
            return None
        otherwise = "" if self.wanted else f"; if it is no date: columns = {{ category = [{quoted(self.name)}] }}"
        if odd:
            raise _Fault(
                f"{self._at(self._row_of(codes, odd[0]))}: {texts[odd[0]][:_SHOWN]!r} is no date; write dates as 2024-03-01 "
                f"or 2024-03-01 18:30:00, or leave the cell empty{otherwise}"
            )
        common = frozenset.intersection(*(possible[index] for index in known))
        if self.order is not None:
            if self.order not in common:
                at = next(index for index in known if self.order not in possible[index])
                raise _Fault(
                    f"{self._at(self._row_of(codes, at))}: {texts[at]!r} is written in another form than the dates of "
                    "the training rows"
                )
            return self.order
        if not common:
            first = known[0]
            begin = self._at(self._row_of(codes, first))
            other = next(
                (index for index in known if not possible[index] & possible[first]),
                next(index for index in known if len(possible[index]) == 1),
            )
            raise _Fault(
                f"column {self.name!r}: dates in several forms, {texts[first]!r} ({begin}) and "
                f"{texts[other]!r} ({self._at(self._row_of(codes, other))}); write all as 2024-03-01{otherwise}"
            )
        if len(common) > 1:
            raise _Fault(
                f"column {self.name!r}: {texts[known[0]]!r} may be day/month or month/day, and no cell decides it; write "
                f"dates as 2024-03-01{otherwise}"
            )
        return next(iter(common))

    def _categories_or_texts(
        self, codes: Array, texts: list[str], known: list[int], number: dict[int, float], wanted: str | None
    ) -> Column:
        import numpy as np

        if wanted == "category" and len(number) == len(known) and all(_is_canonical(texts[index]) for index in known):
            values = np.array([number.get(index, np.nan) for index in range(len(texts))] + [np.nan])
            return Column(self.name, "category", values[codes])
        kind = wanted
        if kind is None:
            sample = known[:_MOST_COMPARED]
            words = sum(len(texts[index].split()) for index in sample) / len(sample)
            kind = "text" if words >= _WORDS_OF_TEXT and 2 * len(known) > len(codes) else "category"
        if kind == "category" and len(known) <= _MOST_COMPARED:
            self.warnings += [
                warning.partition(": ")[2].replace("classes", "categories")
                for warning in lookalikes([texts[index] for index in known], self.name)
            ]
        return self._with_missing(kind, codes, texts)

    def _with_missing(self, kind: str, codes: Array, texts: list[str], order: Order = Order.YMD) -> Column:
        """Return a column of texts in which empty cells are ""."""
        import numpy as np

        if (codes < 0).any() and "" not in texts:
            texts = [*texts, ""]
        empty = texts.index("") if "" in texts else -1
        return Column(self.name, kind, np.where(codes < 0, empty, codes).astype(np.int32), tuple(texts), order)

    def _floats_of(self, codes: Array, uniques: list[Any]) -> Array:
        import numpy as np

        # Codes of missing cells are -1, the last one.
        values: Array = np.array([*map(float, uniques), np.nan])[codes]
        return values

    def _row_of(self, codes: Array, index: int) -> int:
        return int((codes == index).argmax())

    def _at(self, row: int) -> str:
        return f"{self.place(row)}, column {self.name!r}"


def is_blank(text: str) -> bool:
    """Return whether a text stands for a missing value in a column of categories, texts or dates."""
    return is_missing(text) and text.strip().casefold() not in _NOT_MISSING


def _factorized(series: pd.Series[Any]) -> tuple[Array, list[Any]]:
    """Return the code of each cell, -1 where it is missing, and the distinct cells in the order of the rows."""
    import pandas as pd

    try:
        codes, uniques = pd.factorize(series)
    except TypeError:  # lists, arrays and tables can't be compared
        first = next(value for value in series if isinstance(value, list | dict | set) or hasattr(value, "shape"))
        raise _Fault(
            f"column {str(series.name)!r} holds cells of type {type(first).__name__}; give a column for each part, or drop it"
        ) from None
    return codes, list(uniques)


def _merged(codes: Array, texts: list[str]) -> tuple[Array, list[str]]:
    """Give equal texts one code: a cell 1 and a cell "1" of a column of objects, say."""
    import numpy as np

    if len(set(texts)) == len(texts):
        return codes, texts
    distinct = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    return np.array([*(distinct[text] for text in texts), -1])[codes], list(distinct)


def _number(text: str) -> float | None:
    """Return a text as a number; None if it is none. Python's own 1_000 is none."""
    if "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None  # noqa: PLR0124 (NaN is a missing value)


def _is_canonical(text: str) -> bool:
    """Return whether a text is a whole number that float32 holds, without zeros in front. Beside blanks pandas writes 3.0."""
    digits = text.removesuffix(".0")
    return digits.lstrip("-").isdecimal() and str(int(digits)) == digits and abs(int(digits)) <= _FLOAT32_WHOLE


def _is_truth(text: str) -> bool:
    return text.strip().casefold() in ("true", "false")


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | numbers.Real | decimal.Decimal)


def _types(values: list[Any]) -> str:
    return ", ".join(sorted({type(value).__name__ for value in values}))


def _units(texts: list[str], indices: list[int]) -> set[str]:
    return {re.sub(r"[\d.,\s+-]", "", texts[index]).casefold() for index in indices}


def quoted(name: str) -> str:
    """Return a name as a text of TOML."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


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


def _remarks(columns: list[Column]) -> Iterator[str]:
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
