"""The user's own functions: check them, import them, hash their source. Users' modules win over ours.

A study names a function of a file as `file.py:function`, and an object of the Python program that made it as `python:name`.

A user's folder may hold its own `models/`, `spaces/` or `search.py`, the names of our packages. Only worker processes
import these files, after everything of ours that a worker needs. Then our modules leave `sys.modules` under the names that
the user's folder also has, so that `import models.blocks` imports the user's module.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from search.errors import UsageError
from search.spec.vocabulary import closest

_OURS = ("search", "spaces", "models")
HOME = Path(__file__).resolve().parents[2]
"""The folder of our packages."""
PROGRAM = "python:"
"""The prefix of the names that a study has for objects of the Python program that made it."""

# The objects of that program, in its workers: name without the prefix -> object.
_given: dict[str, Any] = {}
# Our modules that made way for the user's of the same names.
_hidden: dict[str, ModuleType] = {}


def give(objects: Mapping[str, Any]) -> None:
    """Set what the names of a Python program's objects stand for in this process, a worker of its study."""
    _given.update(objects)


def import_file(path: Path) -> ModuleType:
    """Import a file of the user's, whose folder comes first in `sys.path`; UsageError with the cause if that fails."""
    _prefer_folder(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} can't be imported as Python")
    imported = sys.modules.get(path.stem)
    if imported is not None and Path(getattr(imported, "__file__", None) or "") == path:
        return imported
    module = importlib.util.module_from_spec(spec)
    # Register the module under its stem, so that `import my_model` in a sibling file gets the same one.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[path.stem]
        raise UsageError(
            f"{path} can't be imported: {type(error).__name__}: {error}; mend the file and try again"
        ) from error
    return module


@dataclass(frozen=True, slots=True)
class Reference:
    """`file.py:function` of a study file, resolved against the folder of that file."""

    path: Path
    function: str

    @classmethod
    def parse(cls, text: str, base: Path) -> Reference | None:
        """Parse `file.py:function` or `python:name`; None if `text` has another form."""
        if text.startswith(PROGRAM):
            return ObjectReference(base / text, text.removeprefix(PROGRAM))
        path, colon, function = text.rpartition(":")
        if not colon or not path.endswith(".py"):
            return None
        try:
            return cls((base / path).resolve(), function)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"{path!r} can't be a file's path: {getattr(error, 'strerror', None) or error}; mend it"
            ) from None

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"{self.path}:{self.function}"

    @property
    def place(self) -> str:
        """Where it stands, for errors."""
        return str(self.path)

    def check(self) -> None:
        """Raise UsageError unless the file is valid Python and defines the function. Does not run the file."""
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
        names = set(_bound_names(tree))
        if "*" not in names and self.function not in names:
            raise UsageError(
                f"{self.path} has no {self.function!r} at its top level{closest(self.function, names)}; "
                f"it has {', '.join(sorted(names)[:20]) or 'nothing'}"
            )

    def load(self) -> Callable[..., Any]:
        """Import the file and return its function; UsageError with the cause if it can't be imported."""
        module = import_file(self.path)
        function = getattr(module, self.function, None)
        # An instance of KerasTuner's HyperModel is not a function, but has the method `build`.
        if function is None or not (callable(function) or callable(getattr(function, "build", None))):
            raise UsageError(f"{self.path}: {self.function!r} is no function; received {type(function).__name__}")
        return function  # type: ignore[no-any-return]

    def source_hash(self) -> str:
        """Hash the file and the imported modules beside and below it: the source of the function."""
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
            with suppress(OSError):  # a module may be deleted after its import, or be inside an archive
                digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:32]


class ObjectReference(Reference):
    """`python:name` of a study that a Python program made; `path` names no file, only the folder of the study."""

    __slots__ = ()

    @property
    def label(self) -> str:
        return f"{PROGRAM}{self.function}"

    @property
    def place(self) -> str:
        return "the program"

    def check(self) -> None:
        """Do nothing: the program checked the object when it made the study."""

    def load(self) -> Any:
        """Return the object; UsageError in a process that the program did not start."""
        if self.function not in _given:
            raise UsageError(
                f"{self.label} is an object of the Python program that made the study; run the study there"
            )
        return _given[self.function]

    def source_hash(self) -> str:
        """Return "": the program hashes its objects itself."""
        return ""


def _bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that running `node` binds in its own scope, not inside functions and classes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound_names(child)


def prefer_folders(folders: Iterable[Path]) -> None:
    """Search modules in these folders first, in this order, also those with the names of our packages."""
    for folder in reversed(list(folders)):
        _prefer_folder(folder)


def _prefer_folder(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    other_folders = [Path(text).absolute() for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    other_folders = [other for other in other_folders if other != HOME]
    for name in _OURS:
        file = Path(getattr(sys.modules.get(name), "__file__", None) or "/")
        is_ours = file.is_relative_to(HOME / name)
        is_shadowed = not file.is_relative_to(folder) and _has_module(folder, name)
        if is_shadowed or (is_ours and any(_has_module(other, name) for other in other_folders)):
            for loaded in _family(name):
                module = sys.modules.pop(loaded)
                if is_ours:
                    _hidden[loaded] = module


@contextmanager
def our_modules() -> Iterator[None]:
    """Have our packages under their names while the context lasts, also those that made way for the user's.

    Functions of ours import modules when they run, so wrap those that run after a file of the user's was imported.
    """
    names = [name for name in _OURS if name in _hidden]
    theirs = bring_back()
    try:
        yield
    finally:
        for name in names:
            _hidden.update({loaded: sys.modules.pop(loaded) for loaded in _family(name)})
        sys.modules.update(theirs)


def bring_back() -> dict[str, ModuleType]:
    """Put our packages under their names again, and return the user's modules that stood there.

    For a process in which no code of the user's runs from here on.
    """
    theirs = {loaded: sys.modules.pop(loaded) for name in _OURS if name in _hidden for loaded in _family(name)}
    sys.modules.update(_hidden)
    _hidden.clear()
    return theirs


def _family(name: str) -> list[str]:
    return [loaded for loaded in sys.modules if loaded == name or loaded.startswith(f"{name}.")]


def _has_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()
