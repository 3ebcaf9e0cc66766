"""Folders of files as rows: one folder for each class, maybe inside one folder for each split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from search.data.parts import SPLITS
from search.errors import DataError, without_stray_bytes
from search.spec.vocabulary import closest

_SYSTEM_FOLDERS = frozenset(("__MACOSX", "__pycache__"))

Layout: TypeAlias = dict[str, dict[Path, list[Path]]]
"""Split -> the folder of each class -> files."""


def layout_of(path: Path, what: str) -> Layout:
    """Return the files of all classes of all splits, sorted by path; DataError that says `what` a class folder holds."""
    folders = _folders(path)
    if "train" not in folders or not _folders(folders["train"]):
        return {"train": _classes(path, what)}
    layout: Layout = {}
    for name, folder in folders.items():
        if name not in SPLITS:
            raise DataError(f"{folder}: stands beside train but is no split{closest(name, SPLITS)}; move it away")
        if SPLITS[name] in layout:
            raise DataError(f"{folder}: there is already a folder for {SPLITS[name]}; keep one of them")
        layout[SPLITS[name]] = _classes(folder, what)
    return layout


def _classes(folder: Path, what: str) -> dict[Path, list[Path]]:
    classes = {inner: files_below(inner) for inner in _folders(folder).values()}
    if not classes:
        kind = what.partition(" (")[0]
        raise DataError(f"{folder}: holds no folders; put the {kind} of each class into a folder named after it")
    for inner, files in classes.items():
        check_class(inner, files, what)
    return classes


def check_class(folder: Path, files: list[Path], what: str) -> None:
    """Refuse a class folder without files of its own: if only folders below it have some, those may be the classes."""
    kind = what.partition(" (")[0]
    if not files:
        raise DataError(f"{folder}: holds no {what}; add some or remove it")
    if not any(file.parent == folder for file in files):
        raise DataError(
            f"{folder}: holds {kind} in folders below it only ({files[0].parent}), so that it can't be told which folders "
            f"are the classes; move its {kind} up into {folder.name!r}, or name the folder of the classes in source"
        )


def check_classes(path: Path, layout: Layout) -> None:
    """Raise DataError for training rows of one class."""
    if len(layout["train"]) < 2:
        raise DataError(f"{path}: one class only, {next(iter(layout['train'])).name!r}; make a folder for each class")


def labels_of(classes: Mapping[Path, Sequence[Path]]) -> list[str]:
    """Return the class of each file."""
    return [without_stray_bytes(folder.name) for folder, files in classes.items() for _ in files]


def places_of(files: Sequence[Path]) -> Callable[[int], str]:
    """Return a function that names the file of a row."""
    return lambda row: str(files[row])


def files_below(folder: Path) -> list[Path]:
    """Return the files in and below a folder, sorted by path, without hidden and system files."""
    return sorted(file for file, is_seen in walk(folder) if is_seen)


def is_shown(name: str) -> bool:
    """Return whether a file or folder is neither hidden nor one of the system's."""
    return not name.startswith(".") and name not in _SYSTEM_FOLDERS


def _folders(path: Path) -> dict[str, Path]:
    return {inner.name: inner for inner in sorted(path.iterdir()) if inner.is_dir() and is_shown(inner.name)}


def walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield every file below a folder, and whether it is not hidden; follow each link to a folder once."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    hidden: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        hidden |= {str(Path(root, name)) for name in folders if root in hidden or not is_shown(name)}
        for name in names:
            yield Path(root, name), root not in hidden and is_shown(name)
