"""Tables in files of Apache Arrow: .parquet and .feather, read by pyarrow (the extra `arrow`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data.columns import check_names
from search.data.parts import Parts
from search.data.roles import no_features
from search.data.tables import check_file, check_target
from search.data.tabular import parts_of_table
from search.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from search.spec.settings import Columns

ARROW = frozenset((".parquet", ".feather"))


@dataclass(frozen=True)
class Arrow:
    """A table in a .parquet or .feather file; all columns but the target are features."""

    path: Path
    target: str | None
    roles: Mapping[str, str] = field(default_factory=dict)
    columns: Columns | None = None
    is_series: bool = False

    def check(self) -> None:
        names = self.header()
        check_target(self.path, self.target, names, self.roles, is_series=self.is_series)
        if self.columns is not None:
            check_names(self.columns, names, str(self.path), no_features(self.target, self.roles, self.columns))

    def header(self) -> list[str]:
        """Return the names of the columns; DataError if pyarrow, or the file, is missing, or the file is damaged."""
        check_file(self.path)
        if importlib.util.find_spec("pyarrow") is None:
            raise DataError(
                f"{self.path}: reading {self.path.suffix} needs pyarrow: run `pip install -e '.[arrow]'` in manyfit's "
                "folder, or save the table as .csv"
            )
        return self._names()

    def _names(self) -> list[str]:
        from pyarrow import ArrowException, feather, parquet  # type: ignore[import-untyped]

        try:
            if self.path.suffix.lower() == ".parquet":
                return [str(name) for name in parquet.read_schema(self.path).names]
            return [str(name) for name in feather.read_table(self.path, memory_map=True).schema.names]
        except (ArrowException, OSError) as error:
            raise DataError(self._unreadable(error)) from None

    def _unreadable(self, error: Exception) -> str:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        kind = self.path.suffix.lower().removeprefix(".")
        return f"{self.path}: no {kind} file, or a damaged one: {first}; write it again with pandas: frame.to_{kind}"

    def place(self, row: int) -> str:
        return f"{self.path}, row {row} (counted from 0)"

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        frame, name = self.frame(), str(self.path)
        return parts_of_table(frame, self.target, self.columns, self.place, name, self.roles, is_series=self.is_series)

    def frame(self) -> pd.DataFrame:
        """Read the table with all its columns."""
        import pandas as pd

        read: Any = pd.read_parquet if self.path.suffix.lower() == ".parquet" else pd.read_feather
        try:
            frame: pd.DataFrame = read(self.path)
        except Exception as error:  # noqa: BLE001 (parsing a damaged file may raise anything)
            raise DataError(self._unreadable(error)) from None
        if not len(frame):
            raise DataError(f"{self.path}: there are no rows")
        return frame.reset_index(drop=True)
