"""Loads model files that manyfit wrote, in safe mode. Nothing in a file names code that is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from search.engines import failures, portable
from search.errors import UsageError
from search.spec.usercode import import_file

if TYPE_CHECKING:
    from search.spec.model_file import ModelNotes


def load(path: Path, notes: ModelNotes, code: Sequence[Path] = ()) -> keras.Model:
    """Load a model file; `code` are files with the user's own layers.

    Raises UsageError if the model needs code that is not there, or can't be loaded.
    """
    foreign = portable.foreign_in(path)
    if portable.LAMBDA in foreign:
        raise UsageError(
            f"{path}: holds a lambda, which Keras opens with safe_mode=False only: its code would run. Open it in Python if "
            "you trust the file"
        )
    known: dict[str, Any] = {}
    for file in code:
        known |= vars(import_file(file))
    objects = {name: known[name] for name in foreign if name in known}
    if missing := sorted(foreign.keys() - objects.keys()):
        where = f" (its study's builder was {notes.build})" if ".py" in notes.build else ""
        raise UsageError(f"{path}: needs code of yours: {', '.join(missing)}{where}; name its file by --code FILE.py")
    try:
        return keras.saving.load_model(path, custom_objects=objects, safe_mode=True)
    except Exception as error:  # noqa: BLE001 (the user's layers may raise anything when loaded)
        raise UsageError(f"{path}: Keras can't load it: {failures.one_line(error)}") from None
