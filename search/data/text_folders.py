"""Folders of text files as a source: one folder for each class, maybe inside one folder for each split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from search.data import encodings
from search.data.class_folders import (
    Layout,
    check_class,
    check_classes,
    files_below,
    labels_of,
    layout_of,
    places_of,
    walk,
)
from search.data.labels import lookalikes
from search.data.parts import Parts
from search.data.returned import parts_of
from search.data.several import Bundle
from search.errors import DataError, without_stray_bytes

_WHAT = "texts (.txt)"
_SUFFIX = ".txt"


@dataclass(frozen=True)
class TextFolders:
    """A folder of .txt files: class folders, or train/validation/test folders that contain class folders."""

    path: Path
    encoding: str | None = None

    def check(self) -> None:
        check_classes(self.path, layout_of(self.path, _WHAT))

    def read(self, seed: int) -> Parts | Bundle:  # noqa: ARG002 (one signature for all sources)
        layout, warnings = self._texts(layout_of(self.path, _WHAT))
        arrays: dict[str, list[str]] = {}
        places = {}
        for split, classes in layout.items():
            files = [file for inner in classes.values() for file in inner]
            arrays |= {f"x_{split}": [read(file, self.encoding) for file in files], f"y_{split}": labels_of(classes)}
            places[split] = places_of(files)
        parts = parts_of(arrays, str(self.path))
        assert isinstance(parts, Parts)  # noqa: S101 (one array of features, and one of targets)
        splits = {split: replace(part, place=places[split]) for split, part in parts.splits.items()}
        names = sorted({folder.name for classes in layout.values() for folder in classes})
        remarks = map(without_stray_bytes, (*warnings, *lookalikes(names, str(self.path))))
        return replace(parts, splits=splits, warnings=(*parts.warnings, *remarks))

    def _texts(self, layout: Layout) -> tuple[Layout, list[str]]:
        """Return the .txt files of every class, and warnings on other files."""
        texts = {
            split: {folder: [file for file in files if _is_text(file)] for folder, files in classes.items()}
            for split, classes in layout.items()
        }
        for classes in texts.values():
            for folder, files in classes.items():
                check_class(folder, files, _WHAT)
        count = _count(layout) - _count(texts)
        warnings = []
        if count:
            warnings.append(
                f"{self.path}: {count} of the files in the class folders are no {_SUFFIX} files and were left out"
            )
        if stray := sorted(self._stray(layout)):
            warnings.append(
                f"{self.path}: {len(stray)} {_SUFFIX} files stand in no class folder and were left out, such as {stray[0]}"
            )
        return texts, warnings

    def _stray(self, layout: Layout) -> Iterator[Path]:
        for parent in {self.path, *(folder.parent for classes in layout.values() for folder in classes)}:
            yield from (file for file in parent.iterdir() if _is_text(file) and file.is_file())


def is_of_texts(path: Path) -> bool:
    """Return whether most files below a folder are .txt files, and none is an image by its name."""
    from search.data.images import ENDINGS

    texts = others = 0
    for file, is_seen in walk(path):
        if not is_seen:
            continue
        if file.suffix.lower() in ENDINGS:
            return False
        texts, others = texts + _is_text(file), others + (not _is_text(file))
    return texts > others


def below(path: Path, encoding: str | None) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Return the texts below a folder, their paths within it, and remarks; DataError if there are none."""
    files = files_below(path)
    texts = [file for file in files if _is_text(file)]
    if not texts:
        raise DataError(f"{path}: holds no {_WHAT}; give a folder of them, or a file of arrays")
    left = len(files) - len(texts)
    warnings = (f"{path}: {left} of the files are no {_SUFFIX} files and were left out",) if left else ()
    names = tuple(without_stray_bytes(str(file.relative_to(path))) for file in texts)
    return [read(file, encoding) for file in texts], names, warnings


def read(file: Path, encoding: str | None) -> str:
    """Return the text of a file; DataError for one that is in another encoding than UTF-8, or than `encoding`."""
    try:
        encodings.check(file, encoding)
        return file.read_text(encoding=encoding or encodings.UTF_8)
    except UnicodeError as error:
        raise encodings.refused(file, error, encoding) from None
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error.strerror or error}") from None


def _count(layout: Layout) -> int:
    return sum(len(files) for classes in layout.values() for files in classes.values())


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == _SUFFIX
