"""Loads a trial's trained model into this process, as a worker has saved it, and predicts rows by it."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyfit.start import users_packages
from search.data import new_rows
from search.errors import UsageError
from search.sessions import saving
from search.spec import code_files, model_file
from search.storage.studies import Stored
from search.trials.trial import Trial

if TYPE_CHECKING:
    import keras
    import pandas as pd


class _Warning:
    """A reporter that turns warnings into Python's, and keeps quiet otherwise."""

    def __init__(self) -> None:
        from search.sessions.reporter import Logging

        logging = Logging()
        self.waiting, self.following, self.line, self.note = (
            logging.waiting,
            logging.following,
            logging.line,
            logging.note,
        )

    def warning(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)


def load(stored: Stored, trial: Trial, main: Mapping[str, Any]) -> keras.Model:
    """Return the model of a trial; `main`: classes and functions of the program that it may need, by name.

    Raises UsageError as `save_model` does, or if Keras can't load what it has saved.
    """
    with _saved(stored, trial) as path:
        return _loaded(path, stored, main, is_ours=True)


def predict(stored: Stored, trial: Trial, x: Any, main: Mapping[str, Any]) -> pd.DataFrame:
    """Return the predictions of rows by the model of a trial, a line for each; raises as `load` does, or DataError."""
    with _saved(stored, trial) as path:
        return _predicted(path, x, stored, main, is_ours=True)


def predict_by(path: Path, x: Any, stored: Stored, main: Mapping[str, Any]) -> pd.DataFrame:
    """Return the predictions of rows by a model file of manyfit's; raises as `predict` does."""
    return _predicted(path, x, stored, main, is_ours=False)


@contextmanager
def _saved(stored: Stored, trial: Trial) -> Iterator[Path]:
    # A folder that only this user can enter: what is loaded is what our worker has written.
    with tempfile.TemporaryDirectory(prefix="manyfit-") as folder:
        path = Path(folder) / "model.keras"
        saved = saving.save_model(stored, trial, path, _Warning())
        for line in saved.lines:
            if "is not compiled" in line or "left out of the file" in line or "NOT inside" in line:
                warnings.warn(line, stacklevel=2)
        yield path


def _predicted(path: Path, x: Any, stored: Stored, main: Mapping[str, Any], *, is_ours: bool) -> pd.DataFrame:
    notes = model_file.read(path)
    is_source = isinstance(x, str | Path)
    rows = new_rows.read(str(x), Path.cwd(), notes) if is_source else new_rows.of(x, notes)
    model = _loaded(path, stored, main, is_ours=is_ours)
    from search.engines import predicting, raw_rows

    if notes.has_texts:
        raw_rows.find_tensorflow()
    predicted = predicting.of_rows(model, rows, notes, str(path), str(x) if is_source else "x")
    for line in predicted.lines:
        warnings.warn(line, stacklevel=2)
    return indexed_like(x, predicted.frame)


def indexed_like(x: Any, predictions: pd.DataFrame) -> pd.DataFrame:
    """Give predictions the index of the rows `x`, if that is a table of as many rows: then the two can be joined."""
    import pandas as pd

    index = getattr(x, "index", None)
    if isinstance(index, pd.Index) and len(index) == len(predictions):
        predictions.index = index
    return predictions


def _loaded(path: Path, stored: Stored, main: Mapping[str, Any], *, is_ours: bool) -> keras.Model:
    import keras

    from search.engines import portable

    foreign = portable.foreign_in(path)
    if portable.LAMBDA in foreign and not is_ours:
        raise UsageError(f"{path}: holds a lambda, whose code Keras would run; use predict(x, trial=...) instead")
    names = {name: module for name, module in foreign.items() if name != portable.LAMBDA}
    with users_packages():
        objects = {name: value for name, module in names.items() if (value := _find(name, module, main)) is not None}
        objects |= dict(_of_files(names.keys() - objects.keys(), stored))
        try:
            return keras.saving.load_model(path, custom_objects=objects, safe_mode=portable.LAMBDA not in foreign)
        except Exception as error:
            what = (
                "the model of the trial was saved, but Keras can't load it"
                if is_ours
                else f"{path}: Keras can't load it"
            )
            raise UsageError(f"{what}: {type(error).__name__}: {error}") from error


def _find(name: str, module: str, main: Mapping[str, Any]) -> Any:
    return main.get(name) or getattr(sys.modules.get(module), name, None)


def _of_files(names: set[str], stored: Stored) -> Iterator[tuple[str, Any]]:
    """Yield classes and functions of the files that the study names. Importing them runs the user's code."""
    if not names:
        return
    for _, reference in code_files.references(stored.file.settings, stored.file.base):
        if reference.path.suffix != ".py":
            continue
        module = sys.modules[reference.load().__module__]
        yield from ((name, vars(module)[name]) for name in names & vars(module).keys())
