"""Load the rows as a study would, so that a draft says what `manyfit plan` says."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search import data
from search.data import Data
from search.data.table_encoding import Encoding
from search.data.texts import Vocabulary
from search.drafting import forms, guess, origin, sizes
from search.drafting.baseline import are_several_labels
from search.drafting.forms import Rows
from search.drafting.guess import Guess
from search.drafting.origin import Origin
from search.drafting.request import DATA_FUNCTION, Request
from search.engines import devices
from search.errors import DataError, UsageError
from search.reading.studytext import StudyText
from search.spec.settings import DataSection
from search.spec.usercode import bring_back

# With fewer rows, a tenth of them would judge trials by too few.
_SMALL = 2_000
# What errors tell to write in a study file.
_ASSIGNMENT = re.compile(r'\b(columns|scale|task|image_size|lazy|target) = ["{\[a-z]')
_NUMBER = "number them 0, 1, 2 ... in the source"
_OPTION = "; init takes KEY = VALUE as --set 'data.KEY=VALUE'"


@dataclass(frozen=True)
class Loaded:
    """Rows, and the keys of [data] that give them.

    Attributes:
        inputs: what the rows of each input are; the name of a single one is "".
    """

    origin: Origin
    section: Mapping[str, Any]
    data: Data
    inputs: Mapping[str, Rows]
    guesses: tuple[Guess, ...] = ()

    @property
    def all_guesses(self) -> tuple[Guess, ...]:
        return (*self.origin.guesses, *self.guesses)

    @property
    def past(self) -> int | None:
        """The feature that is the past of the target, in windows over a table; None if there is none."""
        names = [column["name"] for column in self.data.columns]
        if isinstance(self.data.encoding, Encoding):
            names = list(self.data.encoding.numbers)
        target = self.section.get("target")
        is_series = "window" in self.section and target in names and self.data.info.task == "regression"
        return names.index(str(target)) if is_series else None


def load(request: Request) -> Loaded:
    """Load what a command line names; DataError for data that no study can use. Leaves no file behind."""
    given = overrides_of(request)
    with _without_bytecode(), _with_its_own_path(), _backend(), contextlib.redirect_stdout(sys.stderr):
        source = origin.of(request, given)
        with _reader(source, request) as read:
            section = {**given, **source.section}
            _validated(section, _text_of(request))
            if "target" in section and not request.model:
                section.setdefault("scale", "standard")
            section, first, guesses = _tried(section, read)
            return _settled(Loaded(source, section, first, {}, guesses), request, given, read)


def overrides_of(request: Request) -> dict[str, Any]:
    """Return the keys of [data] that the command line sets; StudyFileError for wrong ones."""
    text = _text_of(request)
    section = text.table["data"]
    # Steps of windows may stand alone: the window of a series is guessed.
    _validated({"window": 1, **section} if {"horizon", "stride"} & set(section) else section, text)
    return {name: value for name, value in section.items() if name != "source"}


def _text_of(request: Request) -> StudyText:
    text = StudyText(Path("the command line"), "", {"data": {"source": request.source}})
    return text.overridden_by(request.overrides)


def _validated(section: Mapping[str, Any], text: StudyText) -> None:
    """Raise StudyFileError for keys of [data] that the command line `text` sets wrongly."""
    try:
        DataSection.model_validate(section)
    except ValidationError as error:
        raise text.invalid(_below_data(error)) from None


def _below_data(error: ValidationError) -> ValidationError:
    """Return an error of the section as one of the whole file, whose keys begin with `data`."""
    details: Any = [
        {"type": each["type"], "loc": ("data", *each["loc"]), "input": each["input"], "ctx": each.get("ctx", {})}
        for each in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data("Settings", details)


_Read = Callable[[Mapping[str, Any]], Data]


@contextlib.contextmanager
def _reader(source: Origin, request: Request) -> Iterator[_Read]:
    """Yield a function that loads the rows of a section; my_data.py exists only as long as the context lasts."""
    # The file must lie in the folder: paths in it are relative to it.
    partial = request.folder / f".my_data_{os.getpid()}.py"

    def read(section: Mapping[str, Any]) -> Data:
        given = {**section, "source": f"{partial.name}:rows"} if source.code else section
        try:
            settings = DataSection.model_validate(given)
            return data.load(settings, request.folder, settings.seed)
        except DataError as error:
            text = str(error).replace(partial.name, DATA_FUNCTION)
            hint = _OPTION if _ASSIGNMENT.search(text) else ""
            raise DataError(f"{text}{hint}", error.key, error.fault) from error
        finally:
            bring_back()

    try:
        if source.code:
            partial.write_text(source.code, encoding="utf-8")
        yield read
    except OSError as error:
        if error.filename != str(partial):
            raise
        raise UsageError(
            f"{request.folder} can't be written to: {error.strerror}; run init in a folder of yours"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        sys.modules.pop(partial.stem, None)


@contextlib.contextmanager
def _with_its_own_path() -> Iterator[None]:
    """Put `sys.path` back: importing a file puts its folder first, where others may have the names of our packages."""
    before = sys.path[:]
    try:
        yield
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _without_bytecode() -> Iterator[None]:
    """Write no __pycache__ while the context lasts: an init that is refused leaves nothing."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextlib.contextmanager
def _backend() -> Iterator[None]:
    """Choose a backend for Keras, which sources that download import, and maybe functions: its default may be missing."""
    installed = devices.installed_backends()
    is_set = "KERAS_BACKEND" in os.environ or not installed
    if not is_set:
        os.environ["KERAS_BACKEND"] = installed[0]
    try:
        yield
    finally:
        if not is_set:
            del os.environ["KERAS_BACKEND"]


def _tried(section: dict[str, Any], read: _Read) -> tuple[dict[str, Any], Data, tuple[Guess, ...]]:
    """Load the rows; where they are refused, try what may be meant: several labels a row, quantities beyond float32."""
    try:
        return section, read(section), ()
    except DataError as error:
        if error.fault == "several labels" and "task" not in section:
            changed, loaded, guesses = _tried({**section, "task": "regression"}, read)
            if are_several_labels(loaded):
                why = "rows of 0 and 1 with any number of ones"
                several = Guess("labels", "several a row", why, 'task = "regression" in the file is for that')
                return changed, loaded, (*guesses, several)
        if error.fault == "rounded" and "scale" not in section:
            changed, loaded, guesses = _tried({**section, "scale": "standard"}, read)
            return changed, loaded, (*guesses, guess.of_quantities(str(error).partition(": ")[0], _NUMBER))
        raise


def _settled(loaded: Loaded, request: Request, given: Mapping[str, Any], read: _Read) -> Loaded:
    """Choose shares of splits, limit and scale by what the rows are, and load them so."""
    inputs = inputs_of(loaded, request)
    section, first, more = dict(loaded.section), loaded.data, loaded.guesses
    if first.stream is None:
        rows = first.info.train_rows + first.info.validation_rows
        if "validation" not in first.own_splits:
            section.setdefault("validation", 0.2 if rows < _SMALL else 0.1)
        if "test" not in first.own_splits:
            section.setdefault("test", 0.1)
        kind = sizes.hardest(inputs)
        shape = max((each.shape for each in inputs.values()), key=len)
        if "limit" not in given and (limit := sizes.limit_of(kind, shape, rows)):
            section["limit"] = limit
        only = inputs.get("")
        # Integers are whole numbers that float32 would change, as it would in the model.
        is_whole = only is not None and first.x_train.dtype.kind == "i"
        is_flat = only is not None and only.kind == "dense" and len(only.shape) == 1
        if only is not None and only.mean is not None and (is_flat or is_whole) and "scale" not in section:
            section["scale"] = "standard"
            more += (guess.of_quantities("all of them", _NUMBER),) if is_whole else ()
    defaults = {name: field.default for name, field in DataSection.model_fields.items()}
    if {**defaults, **section} == {**defaults, **loaded.section}:
        return Loaded(loaded.origin, section, first, inputs, more)
    again = Loaded(loaded.origin, section, read(section), {}, more)
    return Loaded(again.origin, section, again.data, inputs_of(again, request), again.guesses)


def inputs_of(loaded: Loaded, request: Request) -> dict[str, Rows]:
    """Return what the rows of each input are; UsageError for a model that can't take them."""
    x, validation = loaded.data.x_train, loaded.data.x_validation
    is_scaled = loaded.section.get("scale", "auto") not in ("auto", "none")
    encodings = loaded.data.encodings
    if hasattr(x, "shape"):
        if (rows := _encoded(x, encodings.get(""))) is None:
            wanted = request.model or ("sequence" if "window" in loaded.section else "")
            rows = forms.rows_of(x, wanted, validation=validation, is_scaled=is_scaled or bool(encodings))
        if request.model and (why := rows.misfit or _misfit(rows, request.model)):
            raise UsageError(f"--model {request.model}: {why}; leave it out")
        return {"": rows}
    if request.model:
        raise UsageError("--model is for a single input; with several, change the builder that init writes")
    for name in loaded.data.info.inputs:
        if "/" in name:
            raise UsageError(f"the input {name!r}: Keras takes no / in the name of an input; rename it in the source")
    pairs = x.items() if isinstance(x, dict) else ((str(index), value) for index, value in enumerate(x))
    held = validation if isinstance(validation, dict) else {str(index): value for index, value in enumerate(validation)}
    return {
        name: _encoded(value, encodings.get(name))
        or forms.rows_of(value, validation=held[name], is_scaled=name in encodings)
        for name, value in pairs
    }


def _encoded(x: Any, encoding: Any) -> Rows | None:
    """Return what the token ids of texts are; None for other rows."""
    if not isinstance(encoding, Vocabulary) or not encoding.length:
        return None
    return Rows("ids", tuple(x.shape[1:]), str(x.dtype), vocabulary=encoding.size, is_text=True)


def _misfit(rows: Rows, model: str) -> str:
    return "rows are token ids of texts" if rows.is_text and model != "ids" else ""
