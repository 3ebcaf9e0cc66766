"""The data sources that a study file may name: data sets of packages, files, folders, functions."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.data import row_streams, text_folders
from search.data.arrow import ARROW, Arrow
from search.data.images import Images
from search.data.parts import Part, Parts, rows_of
from search.data.returned import bundle_of, parts_of
from search.data.roles import roles_of
from search.data.several import Bundle
from search.data.tables import TABLES, Csv, Npz
from search.data.text_folders import TextFolders
from search.errors import DataError, UsageError
from search.registry import SOURCES
from search.spec.usercode import Reference, bring_back, our_modules
from search.spec.vocabulary import closest

if TYPE_CHECKING:
    from search.spec.settings import Columns, DataSection

# The data sets that packages contain or download -> the task of each.
_NAMED = {
    "sklearn": {
        "digits": "classification",
        "iris": "classification",
        "wine": "classification",
        "breast_cancer": "binary",
        "diabetes": "regression",
    },
    "keras": {
        "mnist": "classification",
        "fashion_mnist": "classification",
        "cifar10": "classification",
        "cifar100": "classification",
        "california_housing": "regression",
        "boston_housing": "regression",
    },
}
_SOURCE_FORMS = (
    "".join(f"{scheme}:NAME ({', '.join(names)}), " for scheme, names in _NAMED.items())
    + "an .npz file, a table (.csv, .tsv, .txt, .parquet, .feather), a folder of images or of .txt files "
    "with one folder a class, or "
    "file.py:function"
)


class Source(Protocol):
    """A source of data. For "scheme:name", `locate` calls the factory that is registered for the scheme, with the name."""

    def check(self) -> None:
        """Raise DataError for faults that can be detected in milliseconds."""

    def read(self, seed: int) -> Parts | Bundle:
        """Read everything; DataError names the file and, if possible, the row."""


def locate(section: DataSection, base: Path) -> Source:
    """Return the source that `section` names, its path relative to `base`; DataError if it names none."""
    source = _parse(section, base)
    for key in ("target", "columns"):
        if getattr(section, key) is not None and not isinstance(source, Csv | Arrow | Function):
            what = "names a column" if key == "target" else "is for the columns"
            raise DataError(
                f"{key} {what} of a table (.csv, .parquet, .feather, or a function that returns one); {section.source!r} "
                f"is none: remove {key}",
                key=f"data.{key}",
            )
    if section.image_size is not None and not isinstance(source, Images):
        raise DataError(f"image_size is for a folder of images; {section.source!r} is none: remove image_size")
    if section.encoding is not None and not isinstance(source, Csv | TextFolders):
        raise DataError(
            f"encoding is of a table in a text file (.csv, .tsv, .txt), or of a folder of texts; "
            f"{section.source!r} is none: remove encoding",
            key="data.encoding",
        )
    if section.lazy and not isinstance(source, Images):
        raise DataError(f"lazy is for a folder of images; {section.source!r} is none: remove lazy", key="data.lazy")
    if (named := roles_of(section)) and not isinstance(source, Csv | Arrow | Npz | Function):
        role = next(iter(named))
        raise DataError(
            f"{role} names a column of a table or an array beside x; {section.source!r} has neither: remove {role}",
            key=f"data.{role}",
        )
    if section.window is not None and isinstance(source, Images | TextFolders | Sklearn | KerasData):
        raise DataError(
            f"window is for rows that follow each other in time; {section.source!r} has none: remove window",
            key="data.window",
        )
    return source


def has_own_shapes(section: DataSection, base: Path) -> bool:
    """Return whether the user chose the shape of the targets: those of the user's own arrays."""
    return isinstance(_parse(section, base), Npz | Function) and section.target is None


def _parse(section: DataSection, base: Path) -> Source:
    text = section.source
    scheme, colon, name = text.partition(":")
    # A scheme of one letter is the drive of a Windows path, such as C:\\rows.csv.
    if colon and len(scheme) > 1 and scheme in SOURCES:
        source: Source = SOURCES.get(scheme)(name)
        return source
    if reference := Reference.parse(text, base):
        return Function(reference, roles_of(section), section.target, section.columns, section.window is not None)
    path = base / text
    if path.is_dir():
        return _folder(path, section)
    if path.suffix.lower() == ".npz":
        return Npz(path, roles_of(section))
    if path.suffix.lower() in TABLES:
        is_series = section.window is not None
        return Csv(path, section.target, roles_of(section), is_series, section.columns, section.encoding)
    if path.suffix.lower() in ARROW:
        return Arrow(path, section.target, roles_of(section), section.columns, is_series=section.window is not None)
    if path.suffix == ".py":
        raise DataError(f"{text!r} names no function; write {text + ':function'!r}")
    if path.is_file():
        raise DataError(f"{path}: no known kind of data file; a source is {_SOURCE_FORMS}")
    known = {name: f"{scheme}:{name}" for scheme, names in _NAMED.items() for name in names}
    hint = f"; did you mean {known[text]!r}?" if text in known else closest(text, known.values())
    raise DataError(f"no such data source: {text!r}{hint or f' (looked for {path})'}; a source is {_SOURCE_FORMS}")


def _folder(path: Path, section: DataSection) -> Source:
    if text_folders.is_of_texts(path):
        return TextFolders(path, section.encoding)
    return Images(path, section.image_size, is_upright=section.exif, is_lazy=section.lazy, limit=section.limit)


def _check_name(scheme: str, name: str) -> None:
    known = _NAMED[scheme]
    if name not in known:
        raise DataError(f"no such data: '{scheme}:{name}'{closest(name, known)}; there are {', '.join(known)}")


@dataclass(frozen=True)
class Sklearn:
    """A data set that scikit-learn contains; digits are scaled to 0..1, the others are not scaled."""

    name: str

    def check(self) -> None:
        _check_name("sklearn", self.name)

    def read(self, seed: int) -> Parts:  # noqa: ARG002 (one signature for all sources)
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.name}")()
        name = f"sklearn:{self.name}"
        task = _NAMED["sklearn"][self.name]
        names = () if task == "regression" else tuple(str(label) for label in bunch.target_names)
        x = bunch.data / 16.0 if self.name == "digits" else bunch.data
        return Parts(name, {"train": Part(x, bunch.target, rows_of(name, "x"))}, task, names)


@dataclass(frozen=True)
class KerasData:
    """A data set that Keras downloads; its test rows are the test split."""

    name: str

    def check(self) -> None:
        _check_name("keras", self.name)

    def read(self, seed: int) -> Parts | Bundle:  # noqa: ARG002 (one signature for all sources)
        import keras

        name = f"keras:{self.name}"
        try:
            loaded = getattr(keras.datasets, self.name).load_data()
        except Exception as error:  # keras reports a failed download as a bare Exception
            raise DataError(
                f"{name} can't be loaded: {type(error).__name__}: {error}; it is downloaded at its first "
                "use: without a network give an .npz file with x_train, y_train, x_test and y_test"
            ) from error
        return parts_of(loaded, name, _NAMED["keras"][self.name])


@dataclass(frozen=True)
class Function:
    """A user's function that returns arrays or tables; it gets `seed` if it has such a parameter.

    Or the arrays or tables of a Python program.
    """

    reference: Reference
    roles: Mapping[str, str]
    target: str | None = None
    columns: Columns | None = None
    is_series: bool = False

    def check(self) -> None:
        try:
            self.reference.check()
        except UsageError as error:
            raise DataError(str(error)) from None

    def result(self, seed: int) -> Any:
        """Return what the function returns, for a process that runs no other code of the user's; DataError if it raises."""
        try:
            function = self._imported()
            return self._returned(function, seed) if callable(function) else function
        finally:
            bring_back()

    def _imported(self) -> Any:
        try:
            return self.reference.load()
        except UsageError as error:
            raise DataError(str(error)) from error

    def read(self, seed: int) -> Parts | Bundle:
        function = self._imported()
        name = self.reference.label

        def read() -> Any:
            return self._returned(function, seed) if callable(function) else function

        result = read()
        if not row_streams.are_streams(result):
            with our_modules():
                return parts_of(
                    result, name, roles=self.roles, target=self.target, columns=self.columns, is_series=self.is_series
                )
        given = {**self.roles, **{key: key for key in ("target", "columns") if getattr(self, key) is not None}}
        if given:
            role = next(iter(given))
            raise DataError(
                f"{name}: {role} is for rows in memory, and these come in batches; remove it", key=f"data.{role}"
            )
        return bundle_of(row_streams.read(result, name, read), name)

    def _returned(self, function: Callable[..., Any], seed: int) -> Any:
        path, name = self.reference.path, self.reference.function
        try:
            signature = inspect.signature(function)
            arguments = {"seed": seed} if "seed" in signature.parameters else {}
            signature.bind(**arguments)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.reference.place}: {name}: {error}; a data function takes nothing, or seed"
            ) from None
        try:
            return function(**arguments)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
            where = f"{path}, line {lines[-1]}" if lines else self.reference.place
            raise DataError(
                f"{where}: {name} raised {type(error).__name__}: {error}; mend the function and try again"
            ) from error
