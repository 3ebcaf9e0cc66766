"""The files that the user's functions depend on: those that their code names, and those that the process has imported.

`code_reading` finds the files that the code names. The imported modules add names that are made at run time. Files that the
code reads as data stay unknown.
Nothing here imports keras, and nothing here runs the user's code.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import math
import os
import posixpath
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.spec import code_reading
from search.spec.code_reading import SUFFIXES, ImportReader, is_installed, resolve
from search.spec.usercode import Reference

if TYPE_CHECKING:
    from search.spec.settings import Settings


def references(settings: Settings, base: Path) -> list[tuple[str, Reference]]:
    """Return the user's functions that a study names, each with its path as the study file writes it."""
    train = settings.train
    entries = [settings.model.build, *train.objects, *train.callbacks]
    texts = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    pairs = []
    for text in texts:
        reference = Reference.parse(text, base) if isinstance(text, str) else None
        if reference is not None:
            pairs.append((str(text).rpartition(":")[0], reference))
    return pairs


def source_files(settings: Settings, base: Path) -> dict[str, Path]:
    """Return the files that the code of a study's functions names, by names that stay when the folder is moved."""
    files: dict[str, Path] = {}
    functions = references(settings, base)
    for _, reference in functions:
        for path, module in ImportReader(reference.path.parent).closure(reference.path).items():
            files.setdefault(_name(path, module, functions), path)
    return files


def imported_files(settings: Settings, base: Path) -> dict[str, Path]:
    """Return the user's files among this process's modules: beside and below the functions, or on PYTHONPATH."""
    functions = references(settings, base)
    if not functions:
        return {}
    files = {}
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "/")
        if name != "__main__" and path.suffix in SUFFIXES and not is_installed(path):
            files[_name(path, name, functions)] = path
    named = set(files.values())
    for text in list(_executed):
        path = Path(text)
        # Beside the study's folder, too; not what TensorFlow writes to the folder for temporary files.
        is_near = path.is_relative_to(base.parent) and not path.name.startswith("__autograph_generated")
        name = _name(path, path.stem, functions)
        is_theirs = path.suffix == ".py" and path not in named and not is_installed(path)
        if is_theirs and (is_near or not name.startswith("<")):
            files[posixpath.relpath(path, base) if name.startswith("<") else name] = path
    return files


_executed: set[str] = set()


@functools.cache  # a hook can't be removed: add it once
def record_executed() -> None:
    """From now on, record the files whose code this process executes, also those that become no module."""
    sys.addaudithook(_record)


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "exec":
        name = getattr(arguments[0], "co_filename", "")
        if name.endswith(".py"):
            _executed.add(os.path.abspath(name))  # noqa: PTH100 (a hook must be quick)


def executed() -> int:
    """Return how many files have been executed since `record_executed`."""
    return len(_executed)


def hashes(files: Mapping[str, Path], until: float = math.inf) -> dict[str, str]:
    """Return the hash of each file by its name; "" for one that can't be read, or was changed after the time `until`."""
    return {name: _hash(path, until) for name, path in sorted(files.items())}


def combine_hashes(files: Mapping[str, str]) -> str:
    """Return one hash of all files and their names."""
    lines = "".join(f"{name}\0{digest}\0" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def imported_since(known: Collection[str], settings: Settings, base: Path, began: float) -> dict[str, str]:
    """Return the hashes of the user's files that this process has imported and `known` lacks.

    A file that is newer than `began`, the time at which this process started, has the hash "", which is never compared: the
    builder may have written it, and may write it anew for each trial. So a file that a person changes between the start and
    its first import isn't compared either.
    Modules that no folder of the study explains, such as those that TensorFlow writes to /tmp, are left out: a later command
    could not find them.
    """
    files = {name: path for name, path in imported_files(settings, base).items() if name not in known}
    places = _places(files, settings, base)
    return hashes({name: path for name, path in files.items() if path.resolve() in places[name]}, began)


def changed_files(stored: Mapping[str, str], now: Mapping[str, str], settings: Settings, base: Path) -> list[str]:
    """Return the names of files whose hashes differ; files of `stored` that `now` lacks are read from the disk.

    A name in angle brackets is a module outside of the study's folders. It is compared only if it is found. A file whose
    stored hash is "" is not compared.
    """
    places = _places([name for name in stored if name not in now], settings, base)
    names = [name for name, digest in now.items() if digest and name not in stored]
    for name, digest in stored.items():
        current = {now[name]} if name in now else set(map(_hash, places[name]))
        if digest and current and digest not in current:
            names.append(name)
    return sorted(names)


def _places(names: Iterable[str], settings: Settings, base: Path) -> dict[str, list[Path]]:
    """Return where each file may be, by its name: one path, or for a module in angle brackets any number of them."""
    functions = references(settings, base)
    places = {name: [] if name.startswith("<") else _inside(name, functions) or [base / name] for name in names}
    if outside := [name for name in places if name.startswith("<")]:
        folders: dict[Path, None] = {}
        for _, reference in functions:
            reader = ImportReader(reference.path.parent)
            reader.closure(reference.path)
            folders |= reader.searched
        for name, folder in product(outside, folders):
            places[name] += [path for path, module in resolve(folder, name[1:-1]) if f"<{module}>" == name]
    return {name: [path.resolve() for path in paths] for name, paths in places.items()}


def _inside(name: str, functions: Iterable[tuple[str, Reference]]) -> list[Path]:
    """Return the paths that `_name` may have named so."""
    paths = []
    for text, reference in functions:
        folder = posixpath.dirname(text.replace(os.sep, "/"))
        inner = posixpath.relpath(name, folder or ".") if posixpath.isabs(name) == posixpath.isabs(folder) else ".."
        paths += [] if inner.startswith("..") else [reference.path.parent / inner]
    return paths


def mentions(settings: Settings, base: Path, name: str) -> bool:
    """Return whether the files of a study's functions contain the text `name`, or may compose it."""
    trees = (code_reading.syntax_tree(path) for path in source_files(settings, base).values() if path.suffix == ".py")
    return any(code_reading.mentions(tree, name) for tree in trees if tree is not None)


def mentioned(source: str, name: str) -> bool:
    """Return whether a piece of source contains the text `name`, or may compose it; True if it can't be parsed alone."""
    try:
        return code_reading.mentions(ast.parse(source), name)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True


def legacy_hash(settings: Settings, base: Path) -> str:
    """Return the source hash that manyfit 0.1.0 stored for a builder of one file; "" for any other builder."""
    files, functions = source_files(settings, base), references(settings, base)
    if len(files) != 1 or len(functions) != 1 or functions[0][0] != settings.model.build.rpartition(":")[0]:
        return ""
    path = functions[0][1].path
    try:
        return hashlib.sha256(path.name.encode() + b"\0" + path.read_bytes() + b"\0").hexdigest()[:32]
    except OSError:
        return ""


def _hash(path: Path, until: float = math.inf) -> str:
    # A module in a zip file has a path inside it.
    path = next((parent for parent in path.parents if parent.is_file()), path)
    try:
        return "" if path.stat().st_mtime > until else hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    except OSError:
        return ""


def _name(path: Path, module: str, functions: Iterable[tuple[str, Reference]]) -> str:
    for text, reference in functions:
        if path.is_relative_to(reference.path.parent):
            inner = path.relative_to(reference.path.parent).as_posix()
            return posixpath.normpath(posixpath.join(posixpath.dirname(text.replace(os.sep, "/")), inner))
    return f"<{module}>"


def is_imported(settings: Any, base: Path) -> bool:
    """Return whether this process has imported a file of the study's functions."""
    files = set(source_files(settings, base).values())
    return any(Path(getattr(module, "__file__", None) or "/") in files for module in list(sys.modules.values()))
