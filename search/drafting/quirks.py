"""Tables that need a data function: no header, another encoding, decimal commas, compressed files, JSON, sheets.

Nothing here guesses what a column means, only how pandas reads the file.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib.util
import lzma
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from search.data.labels import DECIMAL_COMMA
from search.data.parts import is_number
from search.data.tables import TABLES
from search.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_PACKED = frozenset((".gz", ".bz2", ".xz", ".zip"))
# Suffixes of texts in columns that `data.source` does not take by themselves.
_TEXTS = frozenset((".data", ".dat"))
_SHEETS = frozenset((".xlsx", ".xls", ".ods"))
_SEPARATORS = ",\t;|"
_BLANKS = r"\s+"
_ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")
# "NA" and "None" may be class names; only "" is empty.
_EMPTY = {"keep_default_na": False, "na_values": [""]}
# A text such as "012" stays one, and so does the name of a column; numbers keep all their digits.
_JSON = {"dtype": False, "convert_axes": False, "precise_float": True}
_SAMPLE_BYTES = 200_000
_SAMPLE_ROWS = 200


@dataclass(frozen=True)
class Reading:
    """How pandas reads a file.

    The cells are those that `data.source` reads in a .csv file: only an empty cell is missing, and no row loses cells.

    Attributes:
        function: of pandas, such as "read_csv".
        options: its keyword arguments.
        names: names for the columns of a file that has none.
        first: for a first column without a name: "" to leave it out, since it numbers the rows, or else a name; None if it
            has one.
        why: what a study file can't say of the file, for people; empty if it reads the file by itself.
        encoding: for `data.encoding`, if it reads the file by itself; None for UTF-8.
    """

    function: str
    options: dict[str, Any]
    names: tuple[str, ...] = ()
    first: str | None = None
    why: tuple[str, ...] = ()
    encoding: str | None = None

    def frame(self, path: Path) -> pd.DataFrame:
        """Read the file; DataError if pandas can't."""
        import pandas as pd

        try:
            with warnings.catch_warnings():
                # pandas only warns when rows have more cells than the header, and drops them.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = getattr(pd, self.function)(path, **self.options)
            if self.function == "read_excel":
                frame = frame.infer_objects()
        except pd.errors.ParserWarning:
            raise DataError(f"{path}: rows have more cells than the header; name every column in line 1") from None
        except Exception as error:  # noqa: BLE001 (parsing a damaged file may raise anything)
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{path}: pandas.{self.function} can't read it: {first}; mend it, or save it as .csv"
            ) from None
        if not hasattr(frame, "columns") or not frame.shape[0] or not frame.shape[1]:
            raise DataError(
                f"{path}: there are no rows; a table has a row for each example and a column for each feature"
            )
        if self.names:
            frame.columns = list(self.names)
        if self.first:
            frame.columns = [self.first, *frame.columns[1:]]
        return frame  # type: ignore[no-any-return]

    def settled(self, frame: pd.DataFrame) -> tuple[Reading, pd.DataFrame]:
        """Leave out the first column of all rows, `frame`, if it has no name and numbers the rows."""
        if self.first is None:
            return self, frame
        numbers = frame.iloc[:, 0]
        if numbers.dtype.kind in "iu" and numbers.is_unique and numbers.max() - numbers.min() + 1 == len(numbers):
            why = (*self.why, "its first column only numbers the rows")
            return replace(self, first="", why=why), frame.iloc[:, 1:]
        return replace(self, why=(*self.why, "its first column has no name")), frame


def is_table(path: Path) -> bool:
    """Return whether the file is a table that pandas can read, by its suffix."""
    return _inner(path) in {*TABLES, *_TEXTS, *_SHEETS, ".json", ".jsonl", ".ndjson"}


def reading_of(path: Path, columns: Mapping[str, Sequence[str]] = {}) -> Reading:
    """Return how pandas reads a table that is no .parquet or .feather; DataError if the file is empty or no text.

    `columns` of [data] may name columns whose cells stay texts: 012, say.
    """
    inner = _inner(path)
    if inner in _SHEETS:
        if importlib.util.find_spec("openpyxl") is None:
            raise DataError(f"{path}: pandas reads sheets with openpyxl, which is missing; save the sheet as .csv")
        return Reading("read_excel", {**_EMPTY, "dtype": object}, why=("the table is a sheet",))
    if inner in (".jsonl", ".ndjson"):
        return Reading("read_json", {"lines": True, **_JSON}, why=("each line is JSON",))
    if inner == ".json":
        return Reading("read_json", _JSON, why=("the table is JSON",))
    return _of_text(path, columns, is_packed=path.suffix.lower() in _PACKED)


def _inner(path: Path) -> str:
    """Return the suffix of the file, or of the file that is packed in it."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _PACKED else suffix


def _of_text(path: Path, columns: Mapping[str, Sequence[str]], *, is_packed: bool) -> Reading:
    rows, separator, encoding = _sample(path, is_packed=is_packed)
    options: dict[str, Any] = {}
    why = []
    if is_packed:
        why.append("it is packed")
    elif path.suffix.lower() not in TABLES:
        why.append(f"its suffix is {path.suffix}")
    if separator == _BLANKS:
        why.append("blanks separate its columns")
    names: tuple[str, ...] = ()
    header = _header_of(rows)
    if header == "none":
        options["header"] = None
        names = tuple(f"column_{number}" for number in range(1, len(rows[0]) + 1))
        why.append("no first line names the columns")
    elif header == "numbers":
        options["header"] = 0
        why.append("its columns are named by numbers alone")
    first = None
    if rows[0][0] == "" and header != "none":
        first = next(name for name in ("index", "index_1", "index_2") if name not in rows[0])
    if separator == ";" and any(map(_has_decimal_commas, zip(*_equal(rows[1:]), strict=True))):
        options["decimal"] = ","
        why.append("its numbers have a decimal comma")
    other = None if encoding == "utf-8-sig" else encoding
    if not why and first is None:
        return Reading("read_csv", {}, encoding=other)
    if other is not None:
        options["encoding"] = other
        why.append(f"it is written in {other}")
    header_names = names or rows[0]
    as_texts = [name for kind in ("category", "text") for name in columns.get(kind, ()) if name in header_names]
    if as_texts:
        options["dtype"] = {header_names.index(name) if names else name: str for name in as_texts}
    if separator != _BLANKS:
        options["skipinitialspace"] = True
    options = {"sep": separator, **options, "index_col": False, **_EMPTY, "low_memory": False}
    return Reading("read_csv", options, names, first, tuple(why))


def _sample(path: Path, *, is_packed: bool) -> tuple[list[list[str]], str, str]:
    """Return the first rows, the separator and the encoding of a text."""
    text, encoding = _text(path, is_packed=is_packed)
    lines = [line for line in text.splitlines() if line.strip()][: _SAMPLE_ROWS + 1]
    if not lines:
        raise DataError(f"{path}: the file is empty; give a table with a line for each row")
    separator = _separator_of(lines)
    try:
        rows = [[cell.strip() for cell in row] for row in _parsed(lines, separator)]
    except csv.Error as error:
        raise DataError(f"{path}: can't be read as a table: {error}; save it as UTF-8 text") from None
    return rows, separator, encoding


def _text(path: Path, *, is_packed: bool) -> tuple[str, str]:
    """Return the beginning of a text, up to its last whole line, and its encoding."""
    try:
        with _opened(path, is_packed=is_packed) as file:
            raw = file.read(_SAMPLE_BYTES)
    except (OSError, ValueError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    if b"\0" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is no text: it holds NUL bytes; save the table as UTF-8 text")
    whole = raw if len(raw) < _SAMPLE_BYTES else raw[: max(raw.rfind(b"\n"), 0) or len(raw)]
    for encoding in _ENCODINGS:
        if encoding == "utf-16" and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        try:
            return whole.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path}: is no text in UTF-8, UTF-16 or Windows-1252; save the table as UTF-8 text")


@contextmanager
def _opened(path: Path, *, is_packed: bool) -> Iterator[IO[bytes]]:
    """Open a file, or the one file that is packed in it."""
    if is_packed and path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise DataError(f"{path}: holds {len(names)} files; pandas reads a .zip of one: unpack it")
            with archive.open(names[0]) as file:
                yield file
        return
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with openers.get(path.suffix.lower() if is_packed else "", open)(path, "rb") as file:
        yield file


def _separator_of(lines: Sequence[str]) -> str:
    """Return what stands between cells: the mark that gives most of them, or else blanks, if they give all lines as many."""
    cells = {mark: _cells_in_common(lines, mark) for mark in _SEPARATORS}
    best = max(_SEPARATORS, key=cells.__getitem__)
    widths = {len(row) for row in _parsed(lines, _BLANKS)}
    return _BLANKS if not cells[best][1] and len(widths) == 1 and widths != {1} else best


def _parsed(lines: Sequence[str], separator: str) -> list[list[str]]:
    if separator == _BLANKS:
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _cells_in_common(lines: Sequence[str], separator: str) -> tuple[bool, int]:
    """Return whether the first line has as many cells as most, and how many; 0 if lines have one cell, or differ much."""
    try:
        rows = _parsed(lines, separator)
    except csv.Error:
        return False, 0
    width, count = Counter(map(len, rows)).most_common(1)[0]
    # With a decimal comma, lines have as many cells by commas, but not the header.
    return (len(rows[0]) == width, width) if width > 1 and 2 * count > len(lines) else (False, 0)


def _header_of(rows: Sequence[Sequence[str]]) -> str:
    """Return "names" if the first row names columns, "numbers" if it numbers all of them, "none" if it is a row of data."""
    first, others = rows[0], _equal(rows[1:])
    if not others:
        return "names"  # `data.check` refuses a table without rows
    columns = enumerate(zip(*others, strict=True))
    numeric = [first[i] for i, cells in columns if i < len(first) and first[i] and any(cells) and _are_numbers(cells)]
    if not numeric or not _are_numbers(numeric):
        return "names"
    # 0, 1, 2 ... as pandas writes it for columns without names, or years.
    are_years = all(cell.isdecimal() and len(cell) == 4 for cell in numeric)
    if len(numeric) > (1 if are_years else 2) and all(cell.isdecimal() for cell in numeric):
        start = int(numeric[0])
        if [int(cell) for cell in numeric] == list(range(start, start + len(numeric))):
            return "numbers" if len(numeric) == len([cell for cell in first if cell]) else "names"
    return "none"


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(is_number(cell) for cell in cells if cell)


def _equal(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return the rows that have as many cells as most."""
    if not rows:
        return []
    width = Counter(map(len, rows)).most_common(1)[0][0]
    return [row for row in rows if len(row) == width]


def _has_decimal_commas(cells: Sequence[str]) -> bool:
    given = [cell for cell in cells if cell]
    return any(map(DECIMAL_COMMA.fullmatch, given)) and all(DECIMAL_COMMA.fullmatch(c) or is_number(c) for c in given)
