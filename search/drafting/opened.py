"""Record the files that are opened while the user's code reads data: init must not replace one of them."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Python can't remove an audit hook, so there is one for all, and it appends to the set that is current.
_current: list[set[Path]] = []
_is_hooked = False


@contextmanager
def recorded() -> Iterator[set[Path]]:
    """Yield a set to which each file that this process opens is added; of a compiled module it is the source."""
    global _is_hooked  # noqa: PLW0603 (a hook of the process)
    if not _is_hooked:
        sys.addaudithook(_hook)
        _is_hooked = True
    opened: set[Path] = set()
    _current.append(opened)
    try:
        yield opened
    finally:
        _current.remove(opened)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _current or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path = os.fsdecode(arguments[0])
    if path.endswith(".pyc"):
        try:
            path = importlib.util.source_from_cache(path)
        except ValueError:  # a module without its source
            return
    for opened in _current:
        opened.add(Path(path).absolute())
