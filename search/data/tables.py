"""Files of numbers as sources: arrays in an .npz, a table in a .csv."""

from __future__ import annotations

import csv
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data.parts import Part, Parts, is_number, pairs_of, parts_of
from search.errors import DataError
from search.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

    from search.data.parts import Array


@dataclass(frozen=True)
class Npz:
    """Arrays in an .npz file; pickled objects are refused."""

    path: Path

    def check(self) -> None:
        _check_file(self.path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path}: not an .npz file ({error}); write it with numpy.savez") from None
        pairs_of(keys, str(self.path))

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        import numpy as np

        arrays: dict[str, Any] = {}
        with np.load(self.path, allow_pickle=False) as archive:
            pairs = pairs_of(archive.files, str(self.path))
            for key in (key for pair in pairs.values() for key in pair):
                try:
                    arrays[key] = archive[key]
                except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
                    raise DataError(
                        f"{self.path}: {key} can't be read: {error}; save plain arrays of numbers (labels "
                        "may be text) with numpy.savez"
                    ) from None
        return parts_of(arrays, str(self.path))


@dataclass(frozen=True)
class Csv:
    """A table with a header; all columns but the target are features: numbers, or true and false."""

    path: Path
    target: str | None

    def check(self) -> None:
        _check_file(self.path)
        if self.target is None:
            raise DataError(f'{self.path}: which column is learnt? Add target = "NAME" with a name of its header')
        try:
            records = self._records()
            header = next(records, (1, []))[1]
            first = next(records, None)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.path}: can't be read as a table: {error}; save it as UTF-8 text") from None
        self._check_header(header)
        if first is None:
            raise DataError(f"{self.path}: there are no rows below the header")

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise DataError(f"{self.path}: the file is empty; its first line must name the columns")
        if all(is_number(name) for name in header):
            raise DataError(f"{self.path}, line 1: holds only numbers; add a first line that names the columns")
        if len(header) == 1 and ";" in header[0]:
            raise DataError(f"{self.path}, line 1: columns are separated by ';'; save the file with ',' between them")
        if "" in header:
            raise DataError(
                f"{self.path}, line 1: column {header.index('') + 1} has no name; name it, or drop it if it "
                "only numbers the rows (pandas: to_csv(index=False))"
            )
        if twice := [name for name in header if header.count(name) > 1]:
            raise DataError(f"{self.path}, line 1: the column {twice[0]!r} stands there twice; rename one")
        if self.target not in header:
            names = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
            raise DataError(
                f"{self.path} has no column {self.target!r}{closest(str(self.target), header)}; it has {names}"
            )
        if len(header) == 1:
            raise DataError(f"{self.path}: the target is the only column; add columns of features")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Give every record with the line that it starts on, blank lines left out, as pandas does."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            line = 1
            for record in reader:
                if len(record) > 1 or any(cell.strip() for cell in record):
                    yield line, record
                line = reader.line_num + 1

    def place(self, row: int) -> str:
        """Name the line of a row; reads the file again, so that only an error costs that."""
        line = next((line for index, (line, _) in enumerate(self._records(), -1) if index == row), row + 2)
        return f"{self.path}, line {line}"

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        frame = self._frame()
        features = frame.drop(columns=[self.target])
        columns = tuple(str(name) for name in features.columns)
        for name in columns:
            features[name] = self._numbers(features[name])
        part = Part(features.to_numpy(dtype="float64"), self._labels(frame[self.target]), self.place, columns)
        return Parts(str(self.path), {"train": part})

    def _frame(self) -> pd.DataFrame:
        import pandas as pd

        try:
            with warnings.catch_warnings():
                # pandas only warns when rows have more cells than the header, and drops them.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return pd.read_csv(
                    self.path,
                    index_col=False,
                    keep_default_na=False,  # "NA" and "None" are texts that somebody wrote; only "" is empty
                    na_values=[""],
                    skipinitialspace=True,
                    low_memory=False,
                )
        except pd.errors.ParserWarning:
            raise DataError(f"{self.path}: rows have more cells than the header; name every column in line 1") from None
        except (ValueError, OSError) as error:
            raise DataError(f"{self.path}: can't be read as a table: {str(error).strip()}; mend that line") from None

    def _numbers(self, column: pd.Series[Any]) -> pd.Series[Any]:
        import pandas as pd

        self._check_full(column)
        if pd.api.types.is_numeric_dtype(column):  # true and false are numbers to pandas
            return column
        numbers = pd.to_numeric(column, errors="coerce")
        missing = numbers.isna().to_numpy()
        if missing.any():
            # In a column of true and false, the culprit is the cell that is neither.
            odd = missing & ~column.astype(str).str.lower().isin(["true", "false"]).to_numpy()
            row = int((odd if odd.any() else missing).argmax())
            raise DataError(
                f"{self.place(row)}, column {column.name!r}: {str(column.iloc[row])[:80]!r} is no number; "
                "features are numbers (or true and false): encode the column as numbers, or remove it"
            )
        return numbers

    def _labels(self, column: pd.Series[Any]) -> Array:
        import numpy as np
        import pandas as pd

        self._check_full(column)
        if pd.api.types.is_numeric_dtype(column):
            return column.to_numpy()
        return np.array([str(value) for value in column], dtype=str)

    def _check_full(self, column: pd.Series[Any]) -> None:
        empty = column.isna().to_numpy()
        if empty.any():
            raise DataError(
                f"{self.place(int(empty.argmax()))}, column {column.name!r}: the cell is empty; fill it in, "
                "or remove the row or the column"
            )


def _check_file(path: Path) -> None:
    if not path.is_file():
        near = closest(path.name, [file.name for file in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{path}: no such file{near or '; give its path relative to the study file'}")
