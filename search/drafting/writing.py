"""Write the files of a draft, none of which is there already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from search import durable
from search.errors import UsageError


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
