"""Pickles the objects of a Python program for the workers of one command. Nothing of it is stored: docs/decisions/0021."""

from __future__ import annotations

import linecache
import pickle
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.python.hashing import Hashes
from search.spec.code_reading import is_installed
from search.spec.given import Given
from search.spec.usercode import HOME, PROGRAM


def given(objects: Mapping[str, tuple[str, Any]]) -> tuple[Given, Hashes]:
    """Return the objects of a program with their hashes, not pickled yet.

    `objects`: name -> (the argument that has it, for errors; the object). Data are compared by their fingerprint, so only
    the others are hashed.
    """
    hashes = Hashes()
    for name, (argument, value) in objects.items():
        if not argument.startswith("data"):
            hashes.add(name, value)
    names = frozenset(f"{PROGRAM}{name}" for name in objects)
    return Given(names, hashes.by_name, tuple(hashes.texts)), hashes


def pickled(before: Given, hashes: Hashes, objects: Mapping[str, tuple[str, Any]]) -> Given:
    """Return the objects with their parcels, for workers; UsageError names the argument that can't be pickled."""
    import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    values = {name: value for name, (_, value) in objects.items()}
    try:
        body = cloudpickle.dumps((values, hashes.main, dict(before.hashes)), 5, buffer_callback=buffers.append)
    except Exception as error:
        for argument, value in objects.values():
            _check(argument, value)
        raise UsageError(f"the objects of the program can't be pickled: {type(error).__name__}: {error}") from error
    around = pickle.dumps((_folders(), _lines(hashes)))
    return replace(before, parcels=(around, body, *(buffer.raw() for buffer in buffers)))


def _check(argument: str, value: Any) -> None:
    import cloudpickle

    try:
        cloudpickle.dumps(value, 5, buffer_callback=[].append)
    except Exception as error:
        raise UsageError(
            f"{argument}: can't be handed to the worker processes: {type(error).__name__}: {error}; make inside the function "
            "what can't be pickled (open files, generators, locks), or name a function of a file"
        ) from error


def _folders() -> list[str]:
    """Return the folders of the program's own modules, in the order in which Python searches them."""
    folders = [Path(text).absolute() for text in sys.path]
    return [str(path) for path in dict.fromkeys(folders) if path.is_dir() and path != HOME and not _is_of_python(path)]


def _is_of_python(folder: Path) -> bool:
    return "site-packages" in folder.parts or "dist-packages" in folder.parts or is_installed(folder / "module.py")


def _lines(hashes: Hashes) -> dict[str, list[str]]:
    """Return the source of code that stands in no file, such as a notebook's cells."""
    return {name: linecache.getlines(name) for name in sorted(hashes.files) if not Path(name).exists()}
