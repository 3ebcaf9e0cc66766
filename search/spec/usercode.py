"""Functions in users' own Python files: found, imported with their own modules winning over ours, fingerprinted.

A user's folder may hold its own `models/`, `spaces/` or `search.py`, the names of our packages. Import happens only in
worker processes, after everything of ours that a worker needs was imported; our modules are then taken out of
`sys.modules` under the names that the user's folder claims, so that `import models.blocks` finds theirs.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.spec.vocabulary import closest

_OURS = ("search", "spaces", "models")
HOME = Path(__file__).resolve().parents[2]
"""The folder that our packages are in."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`file.py:function` of a study file, resolved against the folder of that file."""

    path: Path
    function: str

    @classmethod
    def parse(cls, text: str, base: Path) -> Reference | None:
        """Read `file.py:function`; None where `text` is not of that form."""
        path, colon, function = text.rpartition(":")
        if not colon or not path.endswith(".py"):
            return None
        try:
            return cls((base / path).resolve(), function)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"{path!r} can't be a file's path: {getattr(error, 'strerror', None) or error}; mend it"
            ) from None

    def check(self) -> None:
        """Make sure, without running it, that the file is Python and defines the function; UsageError if not."""
        try:
            source = self.path.read_bytes()
        except FileNotFoundError:
            raise UsageError(f"{self.path} is not there; give the file as a path relative to the study file") from None
        except OSError as error:
            raise UsageError(f"{self.path} can't be read: {error.strerror}; mend the path or the file") from None
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(source, filename=str(self.path))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UsageError(f"{self.path}{line}: not valid Python: {what}; mend the file") from None
        names = set(_names_bound(tree))
        if "*" not in names and self.function not in names:
            raise UsageError(
                f"{self.path} has no {self.function!r} at its top level{closest(self.function, names)}; "
                f"it has {', '.join(sorted(names)[:20]) or 'nothing'}"
            )

    def load(self) -> Callable[..., Any]:
        """Import the file and return its function; UsageError with the cause if it can't be imported."""
        folder = self.path.parent
        _let_folder_win(folder)
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{self.path} can't be imported as Python")
        already = sys.modules.get(self.path.stem)
        if already is not None and Path(getattr(already, "__file__", None) or "") == self.path:
            module = already
        else:
            module = importlib.util.module_from_spec(spec)
            # Registered under its stem, as `import my_model` from a sibling file would find it.
            sys.modules[self.path.stem] = module
            try:
                spec.loader.exec_module(module)
            except (Exception, SystemExit) as error:  # the user's own code: anything may come out of it
                del sys.modules[self.path.stem]
                raise UsageError(
                    f"{self.path} can't be imported: {type(error).__name__}: {error}; mend the file and try again"
                ) from error
        function = getattr(module, self.function, None)
        if not callable(function):
            raise UsageError(f"{self.path}: {self.function!r} is no function; received {type(function).__name__}")
        return function  # type: ignore[no-any-return]

    def source_hash(self) -> str:
        """Hash the file and the modules beside and below it that have been imported: what the function is made of."""
        folder = self.path.parent
        files = {self.path}
        for module in list(sys.modules.values()):
            file = Path(getattr(module, "__file__", None) or "/")
            is_theirs = file.is_relative_to(folder) and file.suffix == ".py" and "site-packages" not in file.parts
            is_ours = any(file.is_relative_to(HOME / name) for name in _OURS)
            if is_theirs and not is_ours:
                files.add(file)
        digest = hashlib.sha256()
        for file in sorted(files):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:32]


def _names_bound(node: ast.AST) -> Iterator[str]:
    """Give the names that running `node` binds where it stands: nothing inside of functions and classes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _names_bound(child)


def _let_folder_win(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    elsewhere = [Path(text).absolute() for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    elsewhere = [place for place in elsewhere if place != HOME]
    for name in _OURS:
        file = Path(getattr(sys.modules.get(name), "__file__", None) or "/")
        is_ours = file.is_relative_to(HOME / name)
        gives_way = not file.is_relative_to(folder) and _claims(folder, name)
        if gives_way or (is_ours and any(_claims(place, name) for place in elsewhere)):
            for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[loaded]


def _claims(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()
