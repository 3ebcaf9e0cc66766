"""Where the rows come from: the keys of [data] that name them, and a data function where keys can't say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data import text_folders
from search.data.arrow import ARROW, Arrow
from search.data.encodable import is_frame
from search.data.images import Images
from search.data.parts import ENDINGS
from search.data.roles import ROLES
from search.data.sources import Function
from search.data.tables import Csv, Npz
from search.drafting import arrays, data_functions, quirks, tables
from search.drafting.guess import Guess
from search.drafting.request import DATA_FUNCTION, Request
from search.errors import DataError
from search.registry import SOURCES
from search.spec.usercode import Reference
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd

# Photos are shrunk to about so many pixels a side: a small network learns from these within seconds an epoch.
_SIDE = 64
_KINDS = (
    "an .npz file, a table (.csv, .tsv, .txt, .parquet, .feather, .json, .jsonl, .xlsx, also packed), a folder of images "
    "or of .txt files with one folder a class, a folder of .npy files, sklearn:NAME, keras:NAME or file.py:function"
)


@dataclass(frozen=True)
class Origin:
    """Rows, as a study names them.

    Attributes:
        section: keys of [data].
        code: the text of my_data.py; "" where the study needs none.
        why: why it needs one, for people.
        dropped: columns that are left out -> why.
        notes: other remarks.
    """

    section: Mapping[str, Any]
    code: str = ""
    why: str = ""
    guesses: tuple[Guess, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def of(request: Request, given: Mapping[str, Any]) -> Origin:
    """Return the origin of the rows that a command line names; `given` are the keys of [data] that it sets.

    Raises DataError for data that are missing, empty, of an unknown kind, or without a target that can be told.
    """
    source, path = request.source, request.folder / request.source
    if (reference := Reference.parse(source, request.folder)) is not None:
        return _of_function(reference, request, given)
    scheme, colon, _ = source.partition(":")
    if colon and len(scheme) > 1 and scheme in SOURCES:
        _refuse_target(request)
        return Origin({"source": source})
    if path.is_dir():
        return _of_folder(path, request, given)
    if not path.exists():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"{source}: no such file or folder{closest(path.name, there)}; looked for {path.resolve()}; init takes {_KINDS}"
        )
    if not path.is_file():
        raise DataError(f"{path}: is a device or a pipe; save the data as a file first")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; give data with a row for each example")
    if path.suffix.lower() == ".npz":
        return _of_npz(path, request, given)
    if path.suffix.lower() in ARROW:
        arrow = Arrow(path, request.target or None)
        arrow.header()
        return _of_table(arrow.frame(), Origin({"source": source}), request, given)
    if quirks.is_table(path):
        return _of_text(path, request, given)
    raise DataError(
        f"{path}: no known kind of data; init takes {_KINDS}: save it as one of these, or return it from a function"
    )


def _of_function(reference: Reference, request: Request, given: Mapping[str, Any]) -> Origin:
    function = Function(reference, {})
    function.check()
    result = function.result(int(given.get("seed", 0)))
    frame = result[0] if isinstance(result, tuple) and result else result
    origin = Origin({"source": request.source})
    if is_frame(frame) and (request.target or not isinstance(result, tuple)):
        return _of_table(frame, origin, request, given)
    _refuse_target(request)
    return origin


def _of_table(frame: pd.DataFrame, origin: Origin, request: Request, given: Mapping[str, Any]) -> Origin:
    """Add what can be told of a table: its target, columns to leave out, whether it is a series."""
    table = tables.look(frame, request, given)
    section = {**origin.section, **table.section}
    return Origin(
        section,
        origin.code,
        origin.why,
        (*origin.guesses, *table.guesses),
        table.dropped,
        (*origin.notes, *table.notes),
    )


def _of_text(path: Path, request: Request, given: Mapping[str, Any]) -> Origin:
    if "encoding" in given:
        return _of_csv(path, given["encoding"], request, given)
    reading = quirks.reading_of(path, given.get("columns", {}))
    if not reading.why and reading.first is None:
        return _of_csv(path, reading.encoding, request, given)
    reading, frame = reading.settled(reading.frame(path))
    section = {"source": f"{DATA_FUNCTION}:rows"}
    code = data_functions.of_table(request.source, reading)
    notes = (f"the first column has no name and is called {reading.first!r}",) if reading.first else ()
    origin = Origin(section, code, "; ".join(reading.why), notes=notes)
    return _of_table(frame, origin, request, given)


def _of_csv(path: Path, encoding: str | None, request: Request, given: Mapping[str, Any]) -> Origin:
    csv = Csv(path, request.target or None, encoding=encoding)
    csv.header()
    origin = Origin({"source": request.source})
    if encoding is not None:
        guess = Guess("encoding", encoding, "the file is not UTF-8", "encoding in the file sets another")
        guesses = () if "encoding" in given else (guess,)
        origin = Origin({"source": request.source, "encoding": encoding}, guesses=guesses)
    return _of_table(csv.frame(), origin, request, given)


def _of_npz(path: Path, request: Request, given: Mapping[str, Any]) -> Origin:
    _refuse_target(request)
    shapes = arrays.npz_shapes(path)
    if not shapes:
        raise DataError(f"{path}: holds no arrays; write x and y with numpy.savez")
    try:
        Npz(path, _roles(given)).check()
    except DataError as error:
        known = {key for key in shapes if key.split("_")[0] in ("x", "y")}
        if len(known) == len(shapes):
            raise  # one pair is incomplete, say; other names would not help
        keys = _keys(shapes, str(path), error, given)
        has_names = all(role == key for role, key in keys.items())
        why = "it has more arrays than it needs" if has_names else "its arrays have other names than x and y"
        return _of_arrays(keys, shapes, data_functions.of_npz(request.source, keys, why), why)
    return Origin({"source": request.source})


def _roles(given: Mapping[str, Any]) -> dict[str, str]:
    return {role: given[role] for role in ROLES if role in given}


def _keys(
    shapes: Mapping[str, tuple[int, ...]], where: str, error: DataError | None, given: Mapping[str, Any]
) -> dict[str, str]:
    """Return the key of `data.source` for each array that is used, those of groups, order and split among them."""
    of_roles = {name + ending for name in _roles(given).values() for ending in ENDINGS} & set(shapes)
    others = {key: shape for key, shape in shapes.items() if key not in of_roles}
    try:
        return {**arrays.keys_of(others, where), **{key: key for key in shapes if key in of_roles}}
    except DataError as other:
        raise other from error


def _of_arrays(keys: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], code: str, why: str) -> Origin:
    pairs = ", ".join(f"{key} is {role}" for role, key in keys.items())
    others = [key for key in shapes if key not in keys.values()]
    notes = (f"left out: {', '.join(others)} (see {DATA_FUNCTION})",) if others else ()
    guess = Guess("arrays", pairs, "by their names and shapes", f"{DATA_FUNCTION} says otherwise, if you change it")
    return Origin({"source": f"{DATA_FUNCTION}:rows"}, code, why, (guess,), notes=notes)


def _of_folder(path: Path, request: Request, given: Mapping[str, Any]) -> Origin:
    _refuse_target(request)
    try:
        inside = sorted(entry.name for entry in os.scandir(path))
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None
    if not inside:
        raise DataError(f"{path}: the folder is empty; put the images of each class into a folder named after it")
    if shapes := arrays.npy_shapes(path):
        keys = _keys(shapes, str(path), None, given)
        code = data_functions.of_npy(request.source, keys)
        return _of_arrays(keys, shapes, code, "the arrays are in files of their own")
    if text_folders.is_of_texts(path):
        text_folders.TextFolders(path).check()
        return Origin({"source": request.source})
    return Origin({"source": request.source, **_image_size(path, given)})


def _image_size(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `image_size` where images differ in size, or are larger than a first search needs."""
    images = Images(path, None)
    images.check()
    if "image_size" in given:
        return {}
    sizes = images.sizes()
    height, width = sizes.most_common(1)[0][0]
    if len(sizes) == 1 and max(height, width) <= _SIDE:
        return {}
    factor = min(1.0, _SIDE / max(height, width))
    return {"image_size": [max(8, round(height * factor)), max(8, round(width * factor))]}


def _refuse_target(request: Request) -> None:
    if request.target:
        raise DataError(
            f"--target names a column of a table; {request.source} is none: leave it out", key="data.target"
        )
