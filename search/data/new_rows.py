"""Reads rows without targets for a trained model, by what its file says that it takes.

Columns may be in any order, and others may stand beside them. A row that the model can't take is refused: none is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data import new_images, new_tables, text_folders
from search.data.arrays import to_array
from search.data.arrow import ARROW
from search.data.encodable import is_frame
from search.data.parts import Part, Parts, rows_of, validate
from search.data.sources import Function
from search.data.tables import TABLES, check_file
from search.data.texts import texts_of
from search.errors import DataError
from search.registry import SOURCES
from search.spec.usercode import Reference

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.model_file import InputNotes, ModelNotes

_MOST_SHOWN = 10
_FORMS = (
    "a table (.csv, .tsv, .txt, .parquet, .feather), an .npz file, a folder of images or of .txt files, sklearn:NAME or "
    "file.py:function"
)


@dataclass(frozen=True, eq=False)
class NewRows:
    """Rows as a model takes them.

    Attributes:
        x: an array, or a dictionary or tuple of arrays.
        files: the file of each row, of a folder of images; else empty.
        warnings: remarks on what was taken or left out.
    """

    x: Any
    count: int
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read(source: str, base: Path, notes: ModelNotes) -> NewRows:
    """Read rows of a source for a model, relative to `base`; DataError for rows that the model does not take."""
    path = base / source
    try:
        if path.is_dir():
            return _texts(path, notes) if text_folders.is_of_texts(path) else _images(path, notes)
        suffix = path.suffix.lower()
        if suffix in TABLES | ARROW:
            return _table(new_tables.frame_of(path, notes), notes, new_tables.place_of(path, notes), str(path))
        given, name = _given(source, base)
    except OSError as error:
        raise DataError(f"{source}: can't be read: {error}") from None
    return of(given, notes, name)


def of(given: Any, notes: ModelNotes, name: str = "x") -> NewRows:
    """Return arrays or a table of pandas as a model takes them; DataError, which calls them `name`, if it does not."""
    if is_frame(given):
        return _table(given.reset_index(drop=True), notes, rows_of(name, "x"), name)
    return _arrays(given, notes, name)


def _given(source: str, base: Path) -> tuple[Any, str]:
    """Return what a source gives that is neither a table nor a folder, and its name for errors."""
    path = base / source
    if path.suffix.lower() == ".npz":
        return _npz(path), str(path)
    scheme, colon, name = source.partition(":")
    if colon and scheme in SOURCES:
        located = SOURCES.get(scheme)(name)
        located.check()
        parts = located.read(0)
        if not isinstance(parts, Parts) or len(parts.splits) > 1:
            raise DataError(f"{source}: has several splits; give the rows of one in an .npz file")
        return parts.splits["train"].x, source
    if reference := Reference.parse(source, base):
        function = Function(reference, {})
        function.check()
        return function.result(0), reference.label
    check_file(path)
    raise DataError(f"{path}: no known kind of rows; give {_FORMS}")


def _npz(path: Path) -> Any:
    """Return the array x of a file, or its arrays by name."""
    import numpy as np

    check_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # noqa: BLE001 (parsing a damaged file may raise anything)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: can't be read: {first}; save plain arrays with numpy.savez") from None
    if "x" in arrays:
        return arrays["x"]
    inputs = {key: array for key, array in arrays.items() if not re.fullmatch(r"(y|w)(_.*)?", key)}
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    return {key.removeprefix("x_"): array for key, array in inputs.items()}


def _table(frame: Any, notes: ModelNotes, place: Any, name: str) -> NewRows:
    """Return the rows of a table of pandas."""
    if notes.window:
        raise DataError(
            f"{name}: the model takes windows of {notes.window} rows in a row, {_shape(notes.inputs[0])}; cut them, and give "
            "an array x in an .npz file"
        )
    arrays = [each for each in notes.inputs if each.kind == "array" and not each.columns]
    if arrays:
        raise DataError(
            f"{name}: is a table, and the model takes {_named(arrays[0])}rows of the shape {_shape(arrays[0])}, whose "
            "columns have no names; give an array in an .npz file, or a function file.py:function"
        )
    x, warnings = new_tables.columns_of(frame, notes, place, name)
    return NewRows(x, len(frame), warnings=tuple(warnings))


def _texts(path: Path, notes: ModelNotes) -> NewRows:
    if len(notes.inputs) > 1 or notes.inputs[0].kind != "texts":
        raise DataError(f"{path}: is a folder of texts, and the model takes {_taken(notes)}")
    texts, files, warnings = text_folders.below(path, notes.encoding)
    return replace(_arrays(texts, notes, str(path)), files=files, warnings=warnings)


def _images(path: Path, notes: ModelNotes) -> NewRows:
    (taken, *others) = notes.inputs
    if (
        others
        or taken.kind != "array"
        or len(taken.shape) != 3
        or taken.shape[2] not in (1, 3)
        or taken.dtype != "uint8"
    ):
        raise DataError(f"{path}: is a folder, and the model takes no images in bytes; it takes {_taken(notes)}")
    images, files, warnings = new_images.read(path, tuple(taken.shape), notes)
    return NewRows(images, len(images), files, warnings)


def _arrays(given: Any, notes: ModelNotes, name: str) -> NewRows:
    """Return arrays by the names of the inputs."""
    if len(notes.inputs) == 1 and notes.inputs[0].name == "":
        if isinstance(given, Mapping) and notes.inputs[0].kind != "table":
            raise DataError(f"{name}: holds {_list(given)}; which one are the rows? Name it x")
        by_name = given if notes.inputs[0].kind == "table" else {"": given}
    else:
        by_name = (
            given if isinstance(given, Mapping) else dict(zip(map(str, range(99)), _several(given, name), strict=False))
        )
    wanted = _wanted(notes)
    if not isinstance(by_name, Mapping) or (missing := [each for each in wanted if each not in by_name]):
        there = _list(by_name) if isinstance(by_name, Mapping) else type(given).__name__
        lacks = ", ".join(missing[:_MOST_SHOWN]) if isinstance(by_name, Mapping) else "the columns"
        raise DataError(f"{name}: lacks {lacks}; the model takes {_taken(notes)}, and this has {there}")
    if any(each.kind == "table" for each in notes.inputs):
        return _mixed(by_name, notes, name)
    rows = {each.name: _array(by_name[each.name], each, notes, name) for each in notes.inputs}
    counts = {len(array) for array in rows.values()}
    if len(counts) > 1:
        raise DataError(f"{name}: the inputs have {', '.join(map(str, sorted(counts)))} rows; give all as many")
    left = [f"{name}: left out: {_list(extra)}"] if (extra := [key for key in by_name if key not in rows]) else []
    x = rows[""] if notes.form == "one" else rows if notes.form == "dict" else tuple(rows.values())
    return NewRows(x, counts.pop(), warnings=tuple(left))


def _wanted(notes: ModelNotes) -> list[str]:
    """Return the keys that a dictionary of inputs has: of a table among several its name, of a single one its columns."""
    if len(notes.inputs) == 1 and notes.inputs[0].name == "":
        return [column.name for column in notes.inputs[0].columns] if notes.inputs[0].kind == "table" else [""]
    return [each.name for each in notes.inputs]


def _mixed(by_name: Mapping[str, Any], notes: ModelNotes, name: str) -> NewRows:
    """Return the rows of tables and other inputs, in one dictionary of columns and inputs."""
    import pandas as pd

    flat: dict[str, Any] = {}
    warnings: list[str] = []
    counts = set()
    for each in notes.inputs:
        if each.kind != "table":
            flat[each.name] = _array(by_name[each.name], each, notes, name)
            counts.add(len(flat[each.name]))
            continue
        frame = by_name[each.name] if each.name else pd.DataFrame({key: list(value) for key, value in by_name.items()})
        if not is_frame(frame):
            raise DataError(f"{name}: {each.name!r} is {type(frame).__name__}; give a table of pandas")
        only = notes.model_copy(update={"inputs": [each]})
        columns, remarks = new_tables.columns_of(
            frame.reset_index(drop=True), only, rows_of(name, each.name or "x"), name
        )
        flat |= columns
        warnings += remarks
        counts.add(len(frame))
    if len(counts) > 1:
        raise DataError(f"{name}: the inputs have {', '.join(map(str, sorted(counts)))} rows; give all as many")
    return NewRows(flat, counts.pop(), warnings=tuple(warnings))


def _several(given: Any, name: str) -> list[Any]:
    if isinstance(given, tuple | list):
        return list(given)
    raise DataError(
        f"{name}: the model takes several inputs; received {type(given).__name__}: give a dictionary of arrays"
    )


def _array(value: Any, taken: InputNotes, notes: ModelNotes, name: str) -> Array:
    """Return the rows of an input as the model takes them."""
    import numpy as np

    key = f"x[{taken.name!r}]" if taken.name else "x"
    if isinstance(value, tuple):
        raise DataError(f"{name}: {key} is {len(value)} values; give the rows alone, without targets")
    place = rows_of(name, key)
    texts = texts_of(value, place, key, may_be_numbers=taken.kind == "texts")
    if taken.kind == "texts":
        if texts is None:
            raise DataError(f"{name}: {key} is no array of texts, and the model takes texts, one a row")
        return texts.values
    if texts is not None:
        raise DataError(f"{name}: {key} holds texts, and the model takes numbers, rows of the shape {_shape(taken)}")
    array, _, _ = to_array(value, name, key)
    if array.ndim == 1 and taken.shape == [1]:
        array = array.reshape(-1, 1)
    if list(array.shape[1:]) != taken.shape or not len(array):
        raise DataError(
            f"{name}: {key} has the shape {array.shape}; the model takes rows of the shape {_shape(taken)}: give "
            f"(rows, {', '.join(map(str, taken.shape))})"
        )
    _check_dtype(array, taken, f"{name}: {key}")
    # The same check as of a study's rows: finite numbers that float32 holds.
    part = Part(array, np.zeros(len(array), np.int32), place)
    checked = validate(Parts(name, {"train": part})).splits["train"].x
    if notes.preprocessing.is_inside:
        return _cast(checked, taken)
    preprocessing = notes.preprocessing
    if not preprocessing.spread:
        raise DataError(f"{name}: the model can't take rows as the source has them: {preprocessing.how}")
    scaled: Array = ((checked.astype(np.float64) - preprocessing.mean) / preprocessing.spread).astype(np.float32)
    return scaled


def _check_dtype(array: Array, taken: InputNotes, where: str) -> None:
    """Refuse numbers that mean something else than those of the training rows."""
    import numpy as np

    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is of type {array.dtype}; the model takes numbers like {taken.dtype}")
    is_image = len(taken.shape) > 1
    if is_image and (array.dtype == "uint8") != (taken.dtype == "uint8"):
        what = "bytes from 0 to 255 (uint8)" if taken.dtype == "uint8" else f"{taken.dtype}, as the training rows were"
        raise DataError(f"{where} is {array.dtype}, and the model takes {what}; give the same")
    if np.dtype(taken.enters or "float32").kind in "iu" and array.dtype.kind == "f" and bool((array % 1).any()):
        row = int(np.argwhere(array % 1)[0][0])
        raise DataError(f"{where}, row {row} (counted from 0): is no whole number, and the model takes whole numbers")


def _cast(array: Array, taken: InputNotes) -> Array:
    """Return rows in the type of the training rows; reals as float32, which is what models compute in."""
    import numpy as np

    if taken.enters and np.dtype(taken.enters).kind in "iu":
        return array.astype(taken.enters)
    return array if array.dtype == "uint8" else array.astype(np.float32)


def _shape(taken: InputNotes) -> str:
    return f"({', '.join(map(str, taken.shape))}{',' if len(taken.shape) == 1 else ''})"


def _named(taken: InputNotes) -> str:
    return f"for {taken.name!r} " if taken.name else ""


def _taken(notes: ModelNotes) -> str:
    """Return what a model takes, for errors."""
    parts = []
    for each in notes.inputs:
        if each.kind == "table" or each.columns:
            parts.append(f"the columns {_list(column.name for column in each.columns)}")
        elif each.kind == "texts":
            parts.append(f"texts {each.name}".strip())
        else:
            parts.append(f"{each.name or 'x'} of the shape {_shape(each)} a row")
    return " and ".join(parts)


def _list(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MOST_SHOWN} more" if len(listed) > _MOST_SHOWN else ""
    return ", ".join(map(str, listed[:_MOST_SHOWN])) + more if listed else "nothing"
