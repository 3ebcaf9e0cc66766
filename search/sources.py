"""The data sources that a study file may name: each checked without running anything, and read into arrays.

Nothing here imports keras, scikit-learn, pandas, Pillow or numpy before `read`.
"""

from __future__ import annotations

import csv
import inspect
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.errors import DataError, UsageError
from search.usercode import Reference
from search.vocabulary import closest

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from search.settings import DataSection

    Array = NDArray[Any]

SKLEARN_TASKS = {
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
    "breast_cancer": "binary",
    "diabetes": "regression",
}
KERAS_TASKS = {
    "mnist": "classification",
    "fashion_mnist": "classification",
    "cifar10": "classification",
    "cifar100": "classification",
    "california_housing": "regression",
    "boston_housing": "regression",
}
KINDS = (
    f"sklearn:NAME ({', '.join(SKLEARN_TASKS)}), keras:NAME ({', '.join(KERAS_TASKS)}), an .npz or .csv "
    "file, a folder of images with one folder a class, or file.py:function"
)
_IMAGES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
_SPLIT_OF_KEY = {"": "train", **{f"_{name}": split for name, split in _SPLITS.items()}}


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a source that stand together, and how an error names them.

    Attributes:
        x, y: the features and the labels, as the source has them.
        place: the source and the row of an index, such as "wine.csv, line 5".
        columns: the names of a table's features; empty for anything else.
    """

    x: Array
    y: Array
    place: Callable[[int], str]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Parts:
    """What a source holds: "train" (every row, where it has no splits), maybe "validation" and "test"."""

    name: str
    splits: dict[str, Part]
    task: str | None = None
    class_names: tuple[str, ...] = ()


class Source(Protocol):
    """Where data come from."""

    def check(self) -> None:
        """Raise DataError for what can be known in milliseconds."""

    def read(self, seed: int) -> Parts:
        """Read everything; DataError names the file and, where there is one, the row."""


def locate(section: DataSection, base: Path) -> Source:
    """Return the source that `section` names, its path relative to `base`; DataError if it names none."""
    source = _of_text(section, base)
    if section.target is not None and not isinstance(source, _Csv):
        raise DataError(f"target names a column of a .csv file; {section.source!r} is none: remove target")
    if section.image_size is not None and not isinstance(source, _Images):
        raise DataError(f"image_size is for a folder of images; {section.source!r} is none: remove image_size")
    return source


def _of_text(section: DataSection, base: Path) -> Source:
    text = section.source
    scheme, colon, name = text.partition(":")
    if colon and scheme in ("sklearn", "keras"):
        return _Sklearn(name) if scheme == "sklearn" else _Keras(name)
    if reference := Reference.parse(text, base):
        return _Function(reference)
    path = base / text
    if path.is_dir():
        return _Images(path, section.image_size)
    if path.suffix.lower() == ".npz":
        return _Npz(path)
    if path.suffix.lower() == ".csv":
        return _Csv(path, section.target)
    if path.suffix == ".py":
        raise DataError(f"{text!r} names no function; write {text + ':function'!r}")
    if path.is_file():
        raise DataError(f"{path}: no known kind of data file; a source is {KINDS}")
    known = {name: f"{scheme}:{name}" for scheme, names in _named().items() for name in names}
    hint = f"; did you mean {known[text]!r}?" if text in known else closest(text, known.values())
    raise DataError(f"no such data source: {text!r}{hint or f' (looked for {path})'}; a source is {KINDS}")


def _named() -> dict[str, Iterable[str]]:
    return {"sklearn": SKLEARN_TASKS, "keras": KERAS_TASKS}


def _check_name(scheme: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise DataError(f"no such data: '{scheme}:{name}'{closest(name, known)}; there are {', '.join(known)}")


def _rows_of(name: str, key: str) -> Callable[[int], str]:
    return lambda row: f"{name}, row {row} of {key} (counted from 0)"


@dataclass(frozen=True)
class _Sklearn:
    """A data set that scikit-learn brings along; digits are scaled to 0..1, the others are as they are."""

    name: str

    def check(self) -> None:
        _check_name("sklearn", self.name, SKLEARN_TASKS)

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.name}")()
        x = bunch.data / 16.0 if self.name == "digits" else bunch.data
        name = f"sklearn:{self.name}"
        task = SKLEARN_TASKS[self.name]
        names = () if task == "regression" else tuple(str(label) for label in bunch.target_names)
        return Parts(name, {"train": Part(x, bunch.target, _rows_of(name, "x"))}, task, names)


@dataclass(frozen=True)
class _Keras:
    """A data set that Keras downloads; its test rows are the test split."""

    name: str

    def check(self) -> None:
        _check_name("keras", self.name, KERAS_TASKS)

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        import keras

        name = f"keras:{self.name}"
        try:
            loaded = getattr(keras.datasets, self.name).load_data()
        except Exception as error:  # keras reports a failed download as a bare Exception
            raise DataError(
                f"{name} can't be loaded: {type(error).__name__}: {error}; it is downloaded at its first "
                "use: without a network give an .npz file with x_train, y_train, x_test and y_test"
            ) from error
        return _parts_of(loaded, name, KERAS_TASKS[self.name])


@dataclass(frozen=True)
class _Npz:
    """Arrays in an .npz file; pickled objects are refused."""

    path: Path

    def check(self) -> None:
        _check_file(self.path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path}: not an .npz file ({error}); write it with numpy.savez") from None
        _pairs(keys, str(self.path))

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        import numpy as np

        arrays: dict[str, Any] = {}
        with np.load(self.path, allow_pickle=False) as archive:
            pairs = _pairs(archive.files, str(self.path))
            for key in (key for pair in pairs.values() for key in pair):
                try:
                    arrays[key] = archive[key]
                except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
                    raise DataError(
                        f"{self.path}: {key} can't be read: {error}; save plain arrays of numbers (labels "
                        "may be text) with numpy.savez"
                    ) from None
        return _parts_of(arrays, str(self.path))


@dataclass(frozen=True)
class _Csv:
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
        if all(_is_number(name) for name in header):
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
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
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
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
            return column.to_numpy()
        return np.array([str(value) for value in column], dtype=str)

    def _check_full(self, column: pd.Series[Any]) -> None:
        empty = column.isna().to_numpy()
        if empty.any():
            raise DataError(
                f"{self.place(int(empty.argmax()))}, column {column.name!r}: the cell is empty; fill it in, "
                "or remove the row or the column"
            )


@dataclass(frozen=True)
class _Images:
    """A folder of images: class folders, or train/validation/test folders with class folders in them."""

    path: Path
    size: tuple[int, int] | None

    def check(self) -> None:
        for split, classes in self._layout().items():
            if split == "train" and len(classes) < 2:
                raise DataError(f"{self.path}: one class only, {next(iter(classes))!r}; make a folder for each class")

    def _layout(self) -> dict[str, dict[str, list[Path]]]:
        """List the files: split -> class -> images, each in order of its name."""
        folders = _folders(self.path)
        if "train" not in folders or not _folders(folders["train"]):
            return {"train": self._classes(self.path)}
        layout: dict[str, dict[str, list[Path]]] = {}
        for name, folder in folders.items():
            if name not in _SPLITS:
                raise DataError(f"{folder}: stands beside train but is no split{closest(name, _SPLITS)}; move it away")
            if _SPLITS[name] in layout:
                raise DataError(f"{folder}: there is already a folder for {_SPLITS[name]}; keep one of them")
            layout[_SPLITS[name]] = self._classes(folder)
        return layout

    def _classes(self, folder: Path) -> dict[str, list[Path]]:
        classes = {
            name: sorted(file for file in inner.iterdir() if file.suffix.lower() in _IMAGES and _is_shown(file))
            for name, inner in _folders(folder).items()
        }
        if not classes:
            raise DataError(f"{folder}: holds no folders; put the images of each class into a folder named after it")
        for name, files in classes.items():
            if not files:
                raise DataError(
                    f"{folder / name}: holds no images ({' '.join(sorted(_IMAGES))}); add some or remove it"
                )
        return classes

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        layout = self._layout()
        with ThreadPoolExecutor() as pool:
            files = [file for classes in layout.values() for names in classes.values() for file in names]
            headers = list(pool.map(_image_header, files))
            size = self.size or headers[0][1]
            if self.size is None:
                _check_sizes(files, headers)
            mode = "L" if all(found == "L" for found, _ in headers) else "RGB"
            splits = {split: _decoded(pool, classes, size, mode) for split, classes in layout.items()}
        return Parts(str(self.path), splits)


@dataclass(frozen=True)
class _Function:
    """A function of the user's that returns arrays; it is given `seed` if it has such a parameter."""

    reference: Reference

    def check(self) -> None:
        try:
            self.reference.check()
        except UsageError as error:
            raise DataError(str(error)) from None

    def read(self, seed: int) -> Parts:
        try:
            function = self.reference.load()
        except UsageError as error:
            raise DataError(str(error)) from error
        return _parts_of(self._result(function, seed), f"{self.reference.path}:{self.reference.function}")

    def _result(self, function: Callable[..., Any], seed: int) -> Any:
        path, name = self.reference.path, self.reference.function
        arguments = {}
        try:
            signature = inspect.signature(function)
            arguments = {"seed": seed} if "seed" in signature.parameters else {}
            signature.bind(**arguments)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {name}: {error}; a data function takes nothing, or seed") from None
        try:
            return function(**arguments)
        except (Exception, SystemExit) as error:  # the user's own code: anything may come out of it
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
            where = f"{path}, line {lines[-1]}" if lines else str(path)
            raise DataError(
                f"{where}: {name} raised {type(error).__name__}: {error}; mend the function and try again"
            ) from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        near = closest(path.name, [file.name for file in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{path}: no such file{near or '; give its path relative to the study file'}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_shown(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _folders(path: Path) -> dict[str, Path]:
    return {inner.name: inner for inner in sorted(path.iterdir()) if inner.is_dir() and _is_shown(inner)}


def _image_errors() -> tuple[type[Exception], ...]:
    from struct import error as struct_error

    from PIL.Image import DecompressionBombError as Bomb

    # What Pillow's decoders raise for broken files (the SyntaxError is its PNG reader's).
    return (OSError, EOFError, SyntaxError, ValueError, IndexError, struct_error, zlib.error, Bomb)


def _image_header(file: Path) -> tuple[str, tuple[int, int]]:
    """Return an image's mode and (height, width)."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            mode, size = image.mode, (image.height, image.width)
    except _image_errors() as error:
        raise DataError(f"{file}: can't be read as an image: {error}; mend or remove it") from None
    if mode.startswith(("I", "F")):
        # Pillow would cut these off at 255 and hand out white images.
        raise DataError(f"{file}: has pixels of mode {mode}, more than 8 bits; save it with 8 bits a channel")
    return mode, size


def _check_sizes(files: list[Path], headers: list[tuple[str, tuple[int, int]]]) -> None:
    height, width = headers[0][1]
    for file, (_, size) in zip(files, headers, strict=True):
        if size != (height, width):
            raise DataError(
                f"{file}: is {size[0]} high and {size[1]} wide where {files[0]} is {height} and {width}; "
                f"add image_size = [{height}, {width}], say, and all are resized"
            )


def _decoded(pool: ThreadPoolExecutor, classes: Mapping[str, list[Path]], size: tuple[int, int], mode: str) -> Part:
    """Read the images of a split into (rows, height, width, channels), on as many threads as the pool has."""
    import numpy as np

    files = [file for inner in classes.values() for file in inner]
    labels = [name for name, inner in classes.items() for _ in inner]
    x = np.empty((len(files), *size, len(mode)), np.uint8)

    def decode(row: int) -> None:
        x[row] = _pixels(files[row], mode, size).reshape(x.shape[1:])

    for _ in pool.map(decode, range(len(files))):
        pass  # a failed one raises here
    return Part(x, np.array(labels, dtype=str), lambda row: str(files[row]))


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> Array:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as image:
            converted = image.convert(mode)
            if (image.height, image.width) != size:
                converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(converted, dtype=np.uint8)
    except _image_errors() as error:
        raise DataError(f"{file}: can't be read as an image: {error}; mend or remove it") from None


def _pairs(keys: Iterable[str], name: str) -> dict[str, tuple[str, str]]:
    """Find the pairs of arrays among `keys`: split -> (key of x, key of y)."""
    known = [f"{letter}{ending}" for letter in "xy" for ending in _SPLIT_OF_KEY]
    keys = list(keys)
    pairs: dict[str, tuple[str, str]] = {}
    for key in keys:
        if key not in known:
            if hint := closest(key.lower(), known) if key[:2].lower() in ("x", "y", "x_", "y_") else "":
                raise DataError(f"{name}: unknown key {key!r}{hint}")
            continue
        other = ("y" if key[0] == "x" else "x") + key[1:]
        if other not in keys:
            raise DataError(f"{name}: has {key} but no {other}; there must be both")
        split, pair = _SPLIT_OF_KEY[key[1:]], ("x" + key[1:], "y" + key[1:])
        if pairs.setdefault(split, pair) != pair:
            raise DataError(f"{name}: has both {pairs[split][0]} and {pair[0]}; keep one of them")
    if "train" not in pairs:
        raise DataError(
            f"{name}: no x_train and y_train (or x and y); it has {', '.join(keys) or 'nothing'}: rename the arrays"
        )
    return pairs


def _parts_of(result: Any, name: str, task: str | None = None) -> Parts:
    """Read (x, y), ((x_train, y_train), (x_test, y_test)) or a mapping with such keys."""
    if isinstance(result, tuple | list) and len(result) == 2:
        train, test = result
        if isinstance(train, tuple) and isinstance(test, tuple) and len(train) == len(test) == 2:
            result = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
        else:
            result = {"x": train, "y": test}
    if not isinstance(result, Mapping):
        raise DataError(
            f"{name}: received {type(result).__name__}; return (x, y), ((x_train, y_train), (x_test, "
            "y_test)) or a dictionary with x_train, y_train, x_validation, y_validation, x_test, y_test"
        )
    splits = {}
    for split, (x, y) in _pairs((str(key) for key in result), name).items():
        splits[split] = Part(_array(result[x], name, x), _array(result[y], name, y), _rows_of(name, x))
    return Parts(name, splits, task)


def _array(value: Any, name: str, key: str) -> Array:
    import numpy as np

    if isinstance(value, Mapping):
        raise DataError(
            f"{name}: {key} is a {type(value).__name__} of several arrays; models with several inputs are "
            "not supported: join them into one array"
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: {key} can't be made an array: {error}; return rows of equal length") from None
    if array.dtype.kind == "T" or (array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)):
        return array.astype(str)
    return array
