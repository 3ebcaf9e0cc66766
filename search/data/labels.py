"""Labels that are texts: strip blanks, refuse words for missing values, warn of similar spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from search.data.parts import is_number
from search.data.targets import FEW_CLASSES
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Part, Parts

# Those of pandas, of spreadsheets and databases, and what people write.
_MISSING = frozenset(
    ("", "nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "na", "n/a", "n.a.", "n. a.", "#n/a", "#n/a n/a", "#na",
     "<na>", "null", "(null)", "#null!", "#value!", "#div/0!", "#num!", "#ref!", "#name?", "\\n", "none", "nil", "nat",
     "missing", "k. a.", "k.a.", "-", "--", "?", ".")
)  # fmt: skip
_MOST_PAIRS = 3
_TRUTH = frozenset(("true", "false"))
DECIMAL_COMMA = re.compile(r"[+-]?\d+(\.\d{3})*,\d+")


def is_missing(text: str) -> bool:
    """Return whether people or programs write this text for a missing value."""
    return text.strip().casefold() in _MISSING


def clean_labels(parts: Parts, column: str | None = None) -> Parts:
    """Strip the blanks around labels that are texts, and add warnings on classes that may not be meant.

    `column` is the target's name in a table. Raises DataError that names the row: an empty label, a word for a missing
    value among numbers (or true and false), numbers written with a decimal comma.
    """
    import numpy as np

    where = f", column {column!r}" if column is not None else ""
    splits = {
        split: replace(part, y=np.char.strip(part.y)) if part.y.dtype.kind == "U" else part
        for split, part in parts.splits.items()
    }
    texts = {split: part for split, part in splits.items() if part.y.dtype.kind == "U"}
    if not texts:
        return parts
    values = sorted({str(value) for part in texts.values() for value in np.unique(part.y)})
    _check_texts(texts, values, where)
    return replace(parts, splits=splits, warnings=(*parts.warnings, *_warnings(texts, values, parts.name + where)))


def _check_texts(texts: dict[str, Part], values: list[str], where: str) -> None:
    missing = [value for value in values if is_missing(value)]
    others = [value for value in values if not is_missing(value)]
    if "" in missing:
        place, _ = _first(texts, [""])
        raise DataError(f"{place}{where}: the label is empty (the cell is empty); fill it in, or remove the row")
    if missing and others and all(is_number(value) or value.casefold() in _TRUTH for value in others):
        place, value = _first(texts, missing)
        raise DataError(
            f"{place}{where}: {value!r} stands for a missing value among labels that are numbers; fill it in, or remove "
            "the row"
        )
    numbers = [float(value) for value in others if is_number(value)]
    odd = [value for value in others if not is_number(value) and not DECIMAL_COMMA.fullmatch(value)]
    are_targets = len(numbers) > FEW_CLASSES and not all(number.is_integer() for number in numbers)
    if are_targets and 0 < len(odd) <= FEW_CLASSES:
        place, value = _first(texts, odd)
        raise DataError(f"{place}{where}: {value!r} is no number, and other labels are; mend it, or remove the row")
    commas = [value for value in others if DECIMAL_COMMA.fullmatch(value)]
    if commas and all(is_number(value) or DECIMAL_COMMA.fullmatch(value) for value in others):
        place, value = _first(texts, commas)
        raise DataError(
            f"{place}{where}: {value!r} is written with a comma; write numbers with a decimal point (and without "
            "thousands separators), or classes with a letter in them"
        )


def _first(texts: dict[str, Part], values: list[str]) -> tuple[str, str]:
    """Return the place and the label of the first row with one of these labels."""
    import numpy as np

    rows = {split: np.flatnonzero(np.isin(part.y, values)) for split, part in texts.items()}
    split = next(split for split in texts if len(rows[split]))
    row = int(rows[split][0])
    return texts[split].place(row), str(texts[split].y[row])


def _warnings(texts: dict[str, Part], values: list[str], name: str) -> Iterator[str]:
    for value in values:
        if is_missing(value) and not (value == "-" and "+" in values):
            count = sum(int((part.y == value).sum()) for part in texts.values())
            yield (
                f"{name}: {value!r} ({count} rows) is a class of its own; if it stands for missing labels, remove these rows"
            )
    odd = [value for value in values if not is_number(value) and not is_missing(value)]
    if len(odd) == 1 and len({float(value) for value in values if is_number(value)}) > 1:
        place, value = _first(texts, odd)
        yield f"{place}: {value!r} is a class of its own, and all other labels are numbers; if it is none, remove these rows"
    yield from lookalikes(values, name)


def lookalikes(values: Iterable[str], name: str) -> Iterator[str]:
    """Yield warnings on classes whose names differ only in case, blanks, invisible characters or the notation of a number.

    Many are folded into one.
    """
    seen: dict[str | Decimal, str] = {}
    pairs = []
    for value in values:
        plain = "".join(letter for letter in value if unicodedata.category(letter) != "Cf")  # no width: U+200B, say
        words = " ".join(unicodedata.normalize("NFKC", plain).casefold().split())
        key = _exact(words) if is_number(words) and not is_missing(words) else words
        if key in seen:
            pairs.append(f"{seen[key]!r} and {value!r}")
        seen.setdefault(key, value)
    if len(pairs) > _MOST_PAIRS:
        shown = ", ".join(pairs[:_MOST_PAIRS])
        yield f"{name}: {len(pairs)} pairs of classes are written alike ({shown}, ...); if one is meant, write it one way"
        return
    for pair in pairs:
        yield f"{name}: {pair} are two classes; if one is meant, write it one way"


def _exact(number: str) -> str | Decimal:
    """Return a number in a form that is equal for all its notations; a float would make long numbers equal."""
    try:
        return Decimal(number)
    except InvalidOperation:  # an exponent of many digits
        return number
