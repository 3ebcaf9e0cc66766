"""A data source: `ramps:N`, N rows that are the higher the larger their target."""

from __future__ import annotations

from search.data.parts import Part, Parts, rows_of
from search.errors import DataError


class Ramps:
    def __init__(self, name):
        self._name = name

    def check(self):
        if not self._name.isdigit():
            raise DataError(f"ramps: wants a number of rows; received {self._name!r}")

    def read(self, seed):
        import numpy as np

        y = np.linspace(-1.0, 1.0, int(self._name))
        x = y[:, None] * np.linspace(0.5, 1.5, 4)
        name = f"ramps:{self._name}"
        return Parts(name, {"train": Part(x, y, rows_of(name, "x"))}, "regression")
