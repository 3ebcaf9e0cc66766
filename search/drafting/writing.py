"""Write the files of a draft, none of which is there already."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from search import durable
from search.errors import UsageError
from search.reading import studyfile
from search.reading.studytext import StudyText


def check_kept(source: str, read: Iterable[Path], files: Iterable[Path]) -> None:
    """Raise UsageError if one of `files`, which are to be written, is among the files that the source is `read` from."""
    read = list(read)
    for file in files:
        if file.exists() and any(_are_same(file, other) for other in read):
            raise UsageError(
                f"{source} is read from {file.name}, which init would replace by a file of its own, and nothing was written; "
                f"rename {file.name}, or run init in another folder"
            )


def _are_same(file: Path, other: Path) -> bool:
    try:
        return file.samefile(other)
    except (OSError, ValueError):  # `other` is gone, or could not be opened in the first place
        return False


def try_out(files: Mapping[Path, str], study_file: Path, source: str) -> None:
    """Check the study file of a draft as `manyfit run` does, beside its other files, before any is written to its place.

    `source` is `data.source` of the study. Raises UsageError.
    """
    folder = study_file.parent
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for path, text in files.items():
            (staged / path.name).write_text(text, encoding="utf-8")
        study = StudyText.read(staged / study_file.name)
        file = source if (folder / source).exists() else source.rpartition(":")[0]
        if file and file not in {path.name for path in files} and (folder / file).exists():
            data = {**study.table["data"], "source": str((folder / file).resolve()) + source.removeprefix(file)}
            study = replace(study, table={**study.table, "data": data})
        try:
            studyfile.build(staged / study_file.name, study, allow_unused=False)
        except UsageError as error:
            raise UsageError(f"{str(error).replace(f'{staged}{os.sep}', '')}; nothing was written") from error


def check(folder: Path, files: Iterable[Path], *, force: bool) -> None:
    """Raise UsageError if the folder can't be written to, or if files are there already, which `force` permits."""
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{folder} is no folder that can be written to; run init in a folder of yours")
    there = [file for file in files if os.path.lexists(file)]
    if odd := [file for file in there if not file.is_file() or file.is_symlink()]:
        raise UsageError(f"{odd[0].name} is there already and is no file; move it away, or give another --name")
    if there and not force:
        names = " and ".join(file.name for file in there)
        raise UsageError(
            f"{names} {'are' if len(there) > 1 else 'is'} there already, and nothing was written; run init in an empty "
            "folder, or replace with --force"
        )


def write(files: Mapping[Path, str]) -> None:
    """Write all files, and then put each in its place, in their order; UsageError if one can't be written."""
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    path = next(iter(files))
    try:
        for path, text in files.items():
            partials[path].write_text(text, encoding="utf-8")
        for path, partial in partials.items():
            durable.replace(partial, path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}; run init in another folder") from None
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
