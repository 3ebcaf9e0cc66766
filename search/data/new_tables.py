"""New rows of a table for a trained model: columns are found by their names and read by the kinds of the training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data.arrow import ARROW, Arrow
from search.data.columns import Findings, read_table
from search.data.dates import Order
from search.data.frames import matrix_of
from search.data.parts import Part, Parts, validate
from search.data.table import Column, Table
from search.data.tables import Csv, check_file
from search.data.texts import texts_of
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array
    from search.spec.model_file import ColumnNotes, InputNotes, ModelNotes

    Place = Callable[[int], str]

_MOST_SHOWN = 10
# The column of a table with the texts of a model that takes an array of texts.
_TEXT = "text"


def frame_of(path: Path, notes: ModelNotes) -> pd.DataFrame:
    """Read a table; DataError if it can't be read. Cells that the model takes as texts stay as they are written."""
    check_file(path)
    if path.suffix.lower() in ARROW:
        source = Arrow(path, None)
        source.header()
        return source.frame()
    table = Csv(path, None, encoding=notes.encoding)
    header = table.header()
    # 01 is not 1 where cells are texts.
    texts = {column.name for each in notes.inputs for column in each.columns if column.are_texts}
    texts |= {each.name or _TEXT for each in notes.inputs if each.kind == "texts"}
    return table.frame(dtype={name: str for name in header if name in texts})


def place_of(path: Path, notes: ModelNotes) -> Place:
    """Return what names a row of a table for errors."""
    if path.suffix.lower() in ARROW:
        return Arrow(path, None).place
    return Csv(path, None, encoding=notes.encoding).place


def columns_of(frame: pd.DataFrame, notes: ModelNotes, place: Place, name: str) -> tuple[Any, list[str]]:
    """Return the rows of a table as the model takes them, and remarks on columns that were left out or hold new things."""
    names = [str(column) for column in frame.columns]
    wanted = [column.name for each in notes.inputs for column in each.columns]
    wanted += [_text_column(each, names) for each in notes.inputs if each.kind == "texts"]
    _check_names(names, wanted, name)
    frame = frame.set_axis(names, axis=1)
    left = [column for column in names if column not in wanted]
    warnings = [f"{name}: left out: {', '.join(left[:_MOST_SHOWN])}{', ...' if len(left) > _MOST_SHOWN else ''}"]
    warnings = warnings if left else []
    if len(notes.inputs) == 1 and notes.inputs[0].kind == "array":
        return _numbers(frame[wanted], notes, place, name), warnings
    if not notes.preprocessing.is_inside:
        raise DataError(f"{name}: the model can't take rows as the source has them: {notes.preprocessing.how}")
    x: dict[str, Any] = {}
    for each in notes.inputs:
        if each.kind == "texts":
            column = _text_column(each, names)
            texts = texts_of(frame[column].fillna(""), place, column, may_be_numbers=True)
            if texts is None:
                raise DataError(f"{name}: column {column!r} holds no texts, and the model takes texts")
            x[each.name or _TEXT] = texts.values
        else:
            cells, remarks = _cells(frame, each, place, name)
            x |= cells
            warnings += remarks
    return (x[_TEXT] if notes.form == "one" else x), warnings


def _text_column(taken: InputNotes, names: list[str]) -> str:
    """Return the column with the texts of an input: that of its name, or the only one."""
    if not taken.name and len(names) == 1:
        return names[0]
    return taken.name or _TEXT


def _check_names(names: list[str], wanted: list[str], name: str) -> None:
    """Refuse a table that lacks a column, or has it twice."""
    counts = Counter(names)
    if missing := [column for column in wanted if not counts[column]]:
        shown = ", ".join(f"{column!r}{closest(column, names)}" for column in missing[:_MOST_SHOWN])
        more = f" and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        plural = "column" if len(missing) == 1 else "columns"
        raise DataError(f"{name}: lacks the {plural} {shown}{more}; it has {', '.join(names[:20]) or 'none'}")
    if twice := [column for column in wanted if counts[column] > 1]:
        raise DataError(f"{name}: has the column {twice[0]!r} twice; keep one of them")


def _numbers(frame: pd.DataFrame, notes: ModelNotes, place: Place, name: str) -> Array:
    """Return columns of numbers as one array, scaled if the model does not do it."""
    import numpy as np

    values, _ = matrix_of(frame, place)
    part = Part(values, np.zeros(len(values), np.int32), place, tuple(frame.columns))
    checked = validate(Parts(name, {"train": part})).splits["train"].x
    if notes.preprocessing.is_inside:
        return checked.astype(notes.inputs[0].enters or "float32")
    preprocessing = notes.preprocessing
    scaled: Array = ((checked.astype(np.float64) - preprocessing.mean) / preprocessing.spread).astype(np.float32)
    return scaled


def _cells(frame: pd.DataFrame, taken: InputNotes, place: Place, name: str) -> tuple[dict[str, Array], list[str]]:
    """Return the columns of a table as the model takes them: float32, NaN where missing, or texts, "" where empty."""
    import numpy as np

    columns = {column.name: column for column in taken.columns}
    # A column without any value would be refused, as nothing can be learnt from it; here it is only missing.
    empty = [column for column in columns if frame[column].isna().all()]
    filled = [column for column in columns if column not in empty]
    like = Table(tuple(_like(columns[column]) for column in filled))
    table, findings = read_table(frame[filled], None, place, like) if filled else (Table(()), Findings())
    findings.check(name)
    rows = np.arange(len(frame))
    cells: dict[str, Array] = {}
    faults = Findings()
    for column in table.columns:
        wants_texts = columns[column.name].are_texts
        if wants_texts and column.texts is None:
            series = frame[column.name]
            written = series.astype(object).where(series.notna(), "")
            cells[column.name] = np.array([str(cell) for cell in written], dtype=object)
        elif not wants_texts and column.texts is not None:
            row = next((i for i, text in enumerate(frame[column.name]) if isinstance(text, str)), 0)
            faults.faults.append(
                f"{place(row)}, column {column.name!r}: {frame[column.name].iloc[row]!r} is a text, and the categories "
                "of the training rows are whole numbers"
            )
        else:
            cells[column.name] = column.raw(rows)
    faults.check(name)
    for column_name in empty:
        wants_texts = columns[column_name].are_texts
        cells[column_name] = (
            np.full(len(frame), "", dtype=object) if wants_texts else np.full(len(frame), np.nan, np.float32)
        )
    remarks = [*_new_blanks(cells, columns, name)]
    return {column: cells[column] for column in columns}, remarks


def _like(column: ColumnNotes) -> Column:
    """Return a column without rows, of the kind that the training rows had."""
    import numpy as np

    return Column(column.name, column.kind, np.zeros(0), order=Order(column.order or "ymd"))


def _new_blanks(cells: dict[str, Array], columns: dict[str, ColumnNotes], name: str) -> list[str]:
    """Return remarks on blanks in columns that had none among the training rows."""
    import numpy as np

    remarks = []
    for column, values in cells.items():
        if columns[column].has_missing:
            continue
        missing = int((values == "").sum()) if values.dtype.kind == "O" else int(np.isnan(values).sum())
        if missing:
            how = "as another category" if columns[column].kind == "category" else "as the median of the training rows"
            remarks.append(
                f"{name}, column {column!r}: {missing} blanks, and the training rows had none: they count {how}"
            )
    return remarks
