"""Files of named arrays: a file is complete or does not exist, and every array has a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import durable

Arrays = Mapping[str, NDArray[Any]]

_META = "__meta__"
# A prefix of no array's name.
_NO_ARRAYS = "\0"


class ArrayFileError(Exception):
    """A file of arrays can't be read; the message has the path and the fault."""


def write(path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays durably and atomically. OSError if that fails."""
    # npz holds only numpy's own types, so another (bfloat16) is written as integers of its size. The meta lists the true
    # types and shapes; `read` also needs it to detect a zip directory with lost or exchanged entries.
    types = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    plain = {n: array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array for n, array in arrays.items()}
    packed = np.frombuffer(json.dumps({**meta, "kinds": types}).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_META: packed}, **plain)
        durable.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read(path: Path, prefix: str = "") -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file of `write`: the arrays whose names begin with `prefix`, and the meta. ArrayFileError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(archive[_META].tobytes())
            wanted = {name: entry for name, entry in meta["kinds"].items() if name.startswith(prefix)}
            arrays = {name: _as(archive[name], *entry) for name, entry in wanted.items()}
    except Exception as error:  # noqa: BLE001 (a wrong bit can make zip, numpy and json raise nearly anything)
        raise ArrayFileError(f"{path} is damaged: {error}") from None
    return arrays, meta


def read_meta(path: Path) -> dict[str, Any]:
    """Read only the meta of a file of `write`. ArrayFileError if it is damaged."""
    return read(path, prefix=_NO_ARRAYS)[1]


def _as(array: NDArray[Any], dtype: str, shape: list[int]) -> NDArray[Any]:
    if array.dtype.name != dtype:
        import ml_dtypes  # bfloat16 and similar types; every backend installs it

        array = array.view(getattr(ml_dtypes, dtype))
    if list(array.shape) != shape:
        raise ValueError(f"an array of shape {list(array.shape)} was written with {shape}")
    return array
