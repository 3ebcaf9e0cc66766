"""Columns whose cells are texts: numbers, true and false, dates, categories or long texts, by what the cells look like."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from search.data.cells import (
    SHOWN,
    ColumnFault,
    first_infinite,
    is_canonical,
    is_truth,
    not_finite,
    number_of,
    quoted,
    units_of,
)
from search.data.dates import Order, has_offset, orders_of
from search.data.exact import exact_cells
from search.data.labels import DECIMAL_COMMA, is_missing, lookalikes
from search.data.table import Column

if TYPE_CHECKING:
    from search.data.parts import Array

_THOUSANDS = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u202f]\d{3})+([.,]\d+)?")
_UNIT = re.compile(r"[+-]?[\d.,]*\d\s*[%°\w/²³€$£¥]{1,6}|[€$£¥]\s*[\d.,]*\d")
# A text column is long if its cells have this many words on average, and most of them are different.
_WORDS_OF_TEXT = 4
_FEW = 20
_WITHOUT_OFFSET = (
    "write all in one time zone, without an offset (pandas: pd.to_datetime(cells, utc=True).dt.tz_localize(None))"
)
# Beyond this many distinct values, no spellings are compared.
_MOST_COMPARED = 1000


class TextColumn:
    """Reads a column of texts.

    Args:
        codes: the index of each cell's text, -1 where it is missing.
        texts: the distinct cells.
        at: row -> where its cell is, for errors.
        wanted: the kind that the study file sets; None to guess it.
        order: of the parts of the dates of the training rows; None for these themselves.

    Attributes:
        warnings: remarks on cells that were taken and may not be meant.
    """

    def __init__(
        self,
        name: str,
        codes: Array,
        texts: list[str],
        at: Callable[[int], str],
        wanted: str | None,
        order: Order | None,
    ) -> None:
        import numpy as np

        self.name, self._codes, self._texts, self._at, self._wanted = name, codes, texts, at, wanted
        self._order = order
        self.warnings: list[str] = []
        self._known = [index for index, text in enumerate(texts) if not is_missing(text)]
        self._counts = np.bincount(codes[codes >= 0], minlength=len(texts))

    @cached_property
    def _number(self) -> dict[int, float]:
        """The texts that are numbers: index -> number."""
        return {index: value for index in self._known if (value := number_of(self._texts[index])) is not None}

    @property
    def _otherwise(self) -> str:
        return f"; if it is a category: columns = {{ category = [{quoted(self.name)}] }}"

    def column(self) -> Column:
        """Return the column; ColumnFault with a line for people."""
        if (index := next((index for index, text in enumerate(self._texts) if "\0" in text), None)) is not None:
            raise ColumnFault(f"{self._place(index)}: {self._texts[index][:SHOWN]!r} has a NUL character; remove it")
        if not self._known:
            shown = ", ".join(sorted({repr(text) for text in self._texts})[:3])
            raise ColumnFault(
                f"column {self.name!r} holds only words for missing values ({shown}); drop it: "
                f"columns = {{ drop = [{quoted(self.name)}] }}"
            )
        if self._wanted == "number" or (self._wanted is None and len(self._number) == len(self._known)):
            return self._as_numbers()
        if self._wanted in ("category", "text"):
            return self._categories_or_texts()
        if (truths := self._truths()) is not None:
            return truths
        if (order := self._date_order()) is not None:
            return with_missing(self.name, "date", self._codes, self._texts, order)
        self._check_numbers()
        return self._categories_or_texts()

    def _as_numbers(self) -> Column:
        odd = [index for index in self._known if index not in self._number]
        if odd:
            raise ColumnFault(self._no_number(odd[0], len(odd)))
        words = sorted({text for index, text in enumerate(self._texts) if index not in self._number and text})
        if words:
            self.warnings.append(
                f"{', '.join(map(repr, words[:3]))} stand for missing values; for an exported model make them NaN"
            )
        values = self._values(self._number)
        if (row := first_infinite(values)) is not None:
            raise ColumnFault(not_finite(self._at(row), values[row]))
        cells = ("" if code < 0 else self._texts[code] for code in self._codes.tolist())
        return Column(self.name, "number", values, exact=exact_cells(cells, values))

    def _values(self, number: dict[int, float]) -> Array:
        """Return the number of each cell, NaN for texts that have none and for missing cells."""
        import numpy as np

        # The code of missing cells is -1, the last one.
        values = np.array([*(number.get(index, np.nan) for index in range(len(self._texts))), np.nan])
        cells: Array = values[self._codes]
        return cells

    def _no_number(self, index: int, count: int) -> str:
        text, others = self._texts[index], f" ({count} such values)" if count > 1 else ""
        if _is_separated(text):
            return (
                f"{self._place(index)}: {text[:SHOWN]!r} is written with a comma or with thousands separators{others}; write "
                "numbers with a decimal point (and without thousands separators)"
            )
        return f"{self._place(index)}: {text[:SHOWN]!r} is no number{others}; mend it, or leave the cell empty"

    def _truths(self) -> Column | None:
        """Return the column of cells that are true or false, beside words for missing values; None for any other column."""
        truth = {
            index: float(self._texts[index].strip().casefold() == "true")
            for index in self._known
            if is_truth(self._texts[index])
        }
        if self._wanted not in (None, "boolean") or 2 * self._count(list(truth)) < self._count(self._known):
            return None
        if odd := [index for index in self._known if index not in truth]:
            raise ColumnFault(
                f"{self._place(odd[0])}: {self._texts[odd[0]][:SHOWN]!r} is neither true nor false; mend it, or leave "
                f"the cell empty{self._otherwise}"
            )
        return Column(self.name, "boolean", self._values(truth))

    def _check_numbers(self) -> None:
        """Refuse a column that seems to hold numbers, and is not all numbers, unless the study file names it a category."""
        texts, known, number = self._texts, self._known, self._number
        total = self._count(known)
        separated = {index for index in known if index not in number and _is_separated(texts[index])}
        if 2 * self._count([*number, *separated]) >= total:
            # Of two kinds of fault, first name the one that is not a number at all.
            odd = [index for index in known if index not in number and index not in separated] or sorted(separated)
            raise ColumnFault(self._no_number(odd[0], len(odd)) + self._otherwise)
        units = [index for index in known if _UNIT.fullmatch(texts[index].strip()) and texts[index].strip()[-1] != "."]
        if self._count(units) < 0.8 * total or len(units_of(texts, units)) > 3:
            return
        if len(known) > _FEW:
            raise ColumnFault(
                f"{self._place(units[0])}: {texts[units[0]][:SHOWN]!r} is a number with a unit; write the number alone"
                + self._otherwise
            )
        self.warnings.append(f"{texts[units[0]]!r} looks like a number with a unit, and is taken for a category")

    def _date_order(self) -> Order | None:
        """Return the order of a date's parts, if the cells are dates; None if they are something else."""
        texts, known = self._texts, self._known
        if self._wanted is None and not any(orders_of(texts[index]) for index in known[:_FEW]):
            self._warn_of_offsets()
            return None
        possible = {index: orders_of(texts[index]) for index in known}
        dated = [index for index in known if possible[index]]
        odd = [index for index in known if not possible[index]]
        if self._wanted is None and self._count(dated) < 0.8 * self._count(known):
            self._warn_of_offsets()
            return None
        otherwise = self._otherwise.replace("a category", "no date", 1) if self._wanted is None else ""
        if odd:
            what = f"{self._place(odd[0])}: {texts[odd[0]][:SHOWN]!r}"
            if has_offset(texts[odd[0]]):
                raise ColumnFault(
                    f"{what} is a date with an offset from UTC, which is not read; {_WITHOUT_OFFSET}{otherwise}"
                )
            raise ColumnFault(
                f"{what} is no date; write dates as 2024-03-01 or 2024-03-01 18:30:00, or leave the cell empty{otherwise}"
            )
        common = frozenset.intersection(*(possible[index] for index in known))
        if self._order is not None:
            if self._order not in common:
                at = next(index for index in known if self._order not in possible[index])
                raise ColumnFault(
                    f"{self._place(at)}: {texts[at]!r} is written in another form than the dates of the training rows"
                )
            return self._order
        if not common:
            first = known[0]
            other = next(
                (index for index in known if not possible[index] & possible[first]),
                next(index for index in known if len(possible[index]) == 1),
            )
            raise ColumnFault(
                f"column {self.name!r}: dates in several forms, {texts[first]!r} ({self._place(first)}) and "
                f"{texts[other]!r} ({self._place(other)}); write all as 2024-03-01{otherwise}"
            )
        if len(common) > 1:
            raise ColumnFault(
                f"column {self.name!r}: {texts[known[0]]!r} may be day/month or month/day, and no cell decides it; write "
                f"dates as 2024-03-01{otherwise}"
            )
        return next(iter(common))

    def _warn_of_offsets(self) -> None:
        """Add a warning if the cells are dates with offsets, which are taken for categories."""
        dated = [index for index in self._known if has_offset(self._texts[index])]
        if 2 * self._count(dated) >= self._count(self._known):
            self.warnings.append(
                f"{self._texts[dated[0]]!r} is a date with an offset from UTC, which is not read, and is taken for a "
                f"category; {_WITHOUT_OFFSET}"
            )

    def _categories_or_texts(self) -> Column:
        texts, known = self._texts, self._known
        is_coded = len(self._number) == len(known) and all(is_canonical(texts[index]) for index in known)
        if self._wanted == "category" and is_coded:
            return Column(self.name, "category", self._values(self._number))
        kind = self._wanted
        if kind is None:
            sample = known[:_MOST_COMPARED]
            words = sum(len(texts[index].split()) for index in sample) / len(sample)
            kind = "text" if words >= _WORDS_OF_TEXT and 2 * len(known) > len(self._codes) else "category"
        if kind == "category" and len(known) <= _MOST_COMPARED:
            self.warnings += [
                warning.partition(": ")[2].replace("classes", "categories")
                for warning in lookalikes([texts[index] for index in known], self.name)
            ]
        return with_missing(self.name, kind, self._codes, texts)

    def _count(self, indices: list[int]) -> int:
        """Return the number of cells with these texts."""
        return int(self._counts[indices].sum()) if indices else 0

    def _place(self, index: int) -> str:
        """Return where the first cell with a text is."""
        return self._at(int((self._codes == index).argmax()))


def with_missing(name: str, kind: str, codes: Array, texts: list[str], order: Order = Order.YMD) -> Column:
    """Return a column of texts in which empty cells, whose code is -1, are ""."""
    import numpy as np

    if (codes < 0).any() and "" not in texts:
        texts = [*texts, ""]
    empty = texts.index("") if "" in texts else -1
    return Column(name, kind, np.where(codes < 0, empty, codes).astype(np.int32), tuple(texts), order)


def _is_separated(text: str) -> bool:
    return bool(DECIMAL_COMMA.fullmatch(text.strip()) or _THOUSANDS.fullmatch(text.strip()))
