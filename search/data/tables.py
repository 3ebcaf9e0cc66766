"""Files as sources: arrays in an .npz file, a table in a .csv file."""

from __future__ import annotations

import csv
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data import encodings
from search.data.columns import check_names
from search.data.parts import Parts, is_number, pairs_of
from search.data.returned import arrays_of, parts_of
from search.data.roles import check_header, no_features, without_keys
from search.data.several import Bundle
from search.data.tabular import parts_of_table
from search.errors import DataError
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array
    from search.spec.settings import Columns

TABLES = frozenset((".csv", ".tsv", ".tab", ".txt"))
# Nobody numbers more classes by hand: a column with more distinct numbers does not hold classes.
_MOST_CLASSES = 1000
# If a header fits several separators, the first wins.
_SEPARATORS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class Npz:
    """Arrays in an .npz file; pickled objects are refused."""

    path: Path
    roles: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        check_file(self.path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise DataError(f"{self.path}: not an .npz file ({error}); write it with numpy.savez") from None
        if any(member.flag_bits & 1 for member in members):
            raise DataError(f"{self.path}: the file is encrypted; write it without a password, with numpy.savez")
        keys = [member.filename.removesuffix(".npy") for member in members]
        if len(set(keys)) < len(keys):
            pairs_of(keys, str(self.path))  # names the duplicate
        arrays = arrays_of(dict.fromkeys(keys), str(self.path))
        pairs_of(without_keys(arrays, self.roles, str(self.path)), str(self.path))

    def read(self, seed: int) -> Parts | Bundle:  # noqa: ARG002 (one signature for all sources)
        import numpy as np

        arrays: dict[str, Any] = {}
        key = "the file"
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                for key in archive.files:
                    arrays[key] = archive[key]
        except Exception as error:  # noqa: BLE001 (parsing a damaged file may raise anything)
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.path}: {key} can't be read: {first}; save plain arrays of numbers (labels may be text) with "
                "numpy.savez"
            ) from None
        return parts_of(arrays, str(self.path), roles=self.roles)


@dataclass(frozen=True)
class Csv:
    """A table with a header; all columns but the target are features.

    In a series the target is a feature, too, if it is a number: its past is known.

    The header determines the separator: a comma, a tab, a semicolon or a vertical bar. `encoding` is UTF-8 if it is None.
    """

    path: Path
    target: str | None
    roles: Mapping[str, str] = field(default_factory=dict)
    is_series: bool = False
    columns: Columns | None = None
    encoding: str | None = None

    def check(self) -> None:
        check_file(self.path)
        if self.target is None:
            check_target(self.path, self.target, [])
        header = self.header()
        check_target(self.path, self.target, header, self.roles, is_series=self.is_series)
        if self.columns is not None:
            check_names(self.columns, header, str(self.path), no_features(self.target, self.roles, self.columns))

    def header(self) -> list[str]:
        """Return the names of the columns; DataError for a header that does not name each, or without rows below it."""
        encodings.check(self.path, self.encoding)
        try:
            records = self._records()
            header = next(records, (1, []))[1]
            first = next(records, None)
        except UnicodeError as error:
            raise encodings.refused(self.path, error, self.encoding) from None
        except (OSError, csv.Error) as error:
            raise DataError(
                f"{self.path}: can't be read as a table: {error}; save it as a text with a separator"
            ) from None
        self._check_header(header)
        if first is None:
            raise DataError(f"{self.path}: there are no rows below the header")
        return header

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise DataError(f"{self.path}: the file is empty; its first line must name the columns")
        if all(is_number(name) for name in header):
            raise DataError(f"{self.path}, line 1: holds only numbers; add a first line that names the columns")
        if "" in header:
            raise DataError(
                f"{self.path}, line 1: column {header.index('') + 1} has no name; name it, or drop it if it "
                "only numbers the rows (pandas: to_csv(index=False))"
            )
        counts = Counter(header)
        if len(counts) < len(header):
            duplicate = next(name for name in header if counts[name] > 1)
            raise DataError(f"{self.path}, line 1: the column {duplicate!r} stands there twice; rename one")

    @cached_property
    def _separator(self) -> str:
        """The separator, from the header alone: one that makes the target a column of its own, if any does."""
        with self.path.open(encoding=self.encoding or encodings.UTF_8, newline="") as file:
            header = next((line for line in file if line.strip()), "")
        cells = {separator: _cells(header, separator) for separator in _SEPARATORS}
        fitting = [
            separator for separator in _SEPARATORS if len(cells[separator]) > 1 and self.target in cells[separator]
        ]
        if fitting:
            return fitting[0]
        return max(_SEPARATORS, key=lambda separator: len(cells[separator]))

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield every record with the line that it starts on; skip blank lines, as pandas does."""
        with self.path.open(encoding=self.encoding or encodings.UTF_8, newline="") as file:
            reader = csv.reader(file, delimiter=self._separator, skipinitialspace=True)
            line = 1
            for record in reader:
                if len(record) > 1 or any(cell.strip() for cell in record):
                    yield line, record
                line = reader.line_num + 1

    def place(self, row: int) -> str:
        """Return the file and line of a row. Reads the file again, which is slow, but only errors call this."""
        line = next((line for index, (line, _) in enumerate(self._records(), -1) if index == row), row + 2)
        return f"{self.path}, line {line}"

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        # A code such as 0123 keeps its zero only as text.
        as_texts = () if self.columns is None else (*self.columns.category, *self.columns.text)
        frame = self.frame(dtype=dict.fromkeys(as_texts, str)) if as_texts else self.frame()
        parts = parts_of_table(
            frame, self.target, self.columns, self.place, str(self.path), self.roles, is_series=self.is_series
        )
        warned = (*encodings.warnings(self.path, self.encoding), *self._merged_labels(parts.splits["train"].y))
        return replace(parts, warnings=(*warned, *parts.warnings))

    def _merged_labels(self, y: Array) -> Iterator[str]:
        """Yield a warning on labels that are written in different ways and are one number: 01 and 1, say."""
        if y.dtype.kind not in "iuf" or len(set(y.tolist())) > _MOST_CLASSES or any(y % 1):
            return
        texts = self.frame(usecols=[self.target], dtype=str)
        spellings: dict[float, list[str]] = {}
        for number, text in dict.fromkeys(zip(y.tolist(), texts[self.target].str.strip(), strict=True)):
            spellings.setdefault(number, []).append(text)
        for written in spellings.values():
            if len(written) > 1:
                yield (
                    f"{self.path}, column {self.target!r}: {' and '.join(map(repr, sorted(written)))} are one number and so "
                    "one label; if they are classes of their own, write them with a letter"
                )

    def frame(self, **options: Any) -> pd.DataFrame:
        """Read the table with all its columns, with more options of pandas.read_csv if given."""
        import pandas as pd

        try:
            with warnings.catch_warnings():
                # pandas only warns when rows have more cells than the header, and drops them.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame: pd.DataFrame = pd.read_csv(
                    self.path,
                    sep=self._separator,
                    index_col=False,
                    keep_default_na=False,  # "NA" and "None" may be class names; only "" is empty
                    na_values=[""],
                    skipinitialspace=True,
                    low_memory=False,
                    encoding=self.encoding or encodings.UTF_8,
                    **options,
                )
        except pd.errors.ParserWarning:
            raise DataError(f"{self.path}: rows have more cells than the header; name every column in line 1") from None
        except UnicodeError as error:
            raise encodings.refused(self.path, error, self.encoding) from None
        except (ValueError, OSError) as error:
            raise DataError(f"{self.path}: can't be read as a table: {str(error).strip()}; mend that line") from None
        return frame


def check_target(
    path: Path, target: str | None, names: list[str], roles: Mapping[str, str] = {}, *, is_series: bool = False
) -> None:
    """Raise DataError if the study names no column as the target, or if it is not among the columns, or the only one."""
    if target is None:
        raise DataError(f'{path}: which column is learnt? Add target = "NAME" with a name of its header')
    if target not in names:
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise DataError(f"{path} has no column {target!r}{closest(target, names)}; it has {shown}", key="data.target")
    check_header(roles, names, target, str(path))
    if len(names) == 1 + len(roles) and not is_series:
        others = " and ".join(roles.values())
        raise DataError(
            f"{path}: the target is the only column{f' beside {others}' if others else ''}; add columns of features "
            "(separated by a comma, a tab, a semicolon or a stroke)"
        )


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a wrong separator may leave a cell above csv's size limit
        return [line]


def check_file(path: Path) -> None:
    if not path.is_file():
        near = closest(path.name, [file.name for file in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{path}: no such file{near or '; give its path relative to the study file'}")
