"""The files that the user's functions depend on: those that their code names, and those that the process has imported.

Reading the code finds every import, at any depth and in functions that have not run yet. It needs no worker and takes
milliseconds. The imported modules add names that are made at run time. Files that the code reads as data stay unknown.
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
import sysconfig
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.spec.usercode import HOME, Reference

if TYPE_CHECKING:
    from search.spec.settings import Settings

_OURS = tuple(HOME / name for name in ("search", "spaces", "models", "manyfit"))
_STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset(("site-packages", "dist-packages"))
_SUFFIXES = (".py", ".so", ".pyd")
# A longer text in the code is not a path.
_LONGEST_PATH = 300


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
        for path, module in _Reader(reference.path.parent).closure(reference.path).items():
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
        if name != "__main__" and path.suffix in _SUFFIXES and not is_installed(path):
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
            reader = _Reader(reference.path.parent)
            reader.closure(reference.path)
            folders |= reader.searched
        for name, folder in product(outside, folders):
            places[name] += [path for path, module in _resolve(folder, name[1:-1]) if f"<{module}>" == name]
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
    trees = (syntax_tree(path) for path in source_files(settings, base).values() if path.suffix == ".py")
    return any(_mentions(tree, name) for tree in trees if tree is not None)


def mentioned(source: str, name: str) -> bool:
    """Return whether a piece of source contains the text `name`, or may compose it; True if it can't be parsed alone."""
    try:
        return _mentions(ast.parse(source), name)
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


def is_installed(path: Path) -> bool:
    return (
        bool(_INSTALLED & set(path.parts))
        or any(path.is_relative_to(folder) for folder in _OURS)
        or any(path.is_relative_to(folder) for folder in _STANDARD)
        or any(path.relative_to(folder).parts[0] in _packages(folder) for folder in path.parents)
    )


@functools.cache
def _packages(folder: Path) -> frozenset[str]:
    """Return what pip has put into a folder: `pip install --target` installs into any."""
    records = (file.read_text("utf-8", "replace").splitlines() for file in folder.glob("*.dist-info/RECORD"))
    return frozenset(line.partition(",")[0].partition("/")[0] for lines in records for line in lines)


def _name(path: Path, module: str, functions: Iterable[tuple[str, Reference]]) -> str:
    for text, reference in functions:
        if path.is_relative_to(reference.path.parent):
            inner = path.relative_to(reference.path.parent).as_posix()
            return posixpath.normpath(posixpath.join(posixpath.dirname(text.replace(os.sep, "/")), inner))
    return f"<{module}>"


def syntax_tree(path: Path) -> ast.Module | None:
    """Return the syntax tree of a Python file; None if it can't be read or is not valid."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@dataclass
class _Reader:
    """Follows imports from a file; `folder` is the first one that Python searches."""

    folder: Path
    roots: list[Path] = field(default_factory=list)
    # All folders in which `closure` has looked for modules.
    searched: dict[Path, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = [Path(text).absolute() for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
        self.roots = [self.folder, *(path for path in paths if path.is_dir() and path != HOME)]

    def closure(self, path: Path) -> dict[Path, str]:
        """Return the file and all that it imports, each with its module's name."""
        files: dict[Path, str] = {}
        pending = [(path, path.stem)]
        while pending:
            path, module = pending.pop()
            if path in files or not path.is_file() or (path != self.folder and is_installed(path)):
                continue
            files[path] = module
            if path.suffix == ".py" and (tree := syntax_tree(path)) is not None:
                pending += self._imports(tree, path)
        return files

    def _imports(self, tree: ast.AST, path: Path) -> Iterator[tuple[Path, str]]:
        nodes = list(ast.walk(tree))
        # Texts in the code may be folders that it adds to sys.path, or files that it runs.
        texts = [text for node in nodes for text in _paths(node)]
        for text in texts:
            for folder in (path.parent, self.folder):
                candidate = folder / text
                if text.endswith(_SUFFIXES) and candidate.is_file():
                    yield candidate.resolve(), candidate.stem
        folders = [folder / text for text in texts for folder in (path.parent, self.folder)]
        roots = [*self.roots, path.parent, *(folder for folder in folders if _is_folder(folder))]
        self.searched |= dict.fromkeys(roots)
        for node in nodes:
            for level, name in _modules(node):
                if level:
                    package = path.parents[level - 1] if level <= len(path.parents) else path.parent
                    yield from _resolve(package, name)
                else:
                    for root in roots:
                        yield from _resolve(root, name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _modules(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (level, dotted name) of every module that a node may import."""
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        yield node.level, module
        # A name that is imported from a package may be a module of it.
        yield from ((node.level, f"{module}.{alias.name}".strip(".")) for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if called in ("import_module", "__import__", "find_spec", "run_module") and isinstance(first, ast.Constant):
            text = str(first.value)
            yield len(text) - len(text.lstrip(".")), text.lstrip(".")


def _resolve(root: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that importing a dotted name from a folder runs: the __init__ of each package, and the module."""
    target, parts = root, [part for part in name.split(".") if part and part != "*"]
    if not parts and (root / "__init__.py").is_file():
        yield root / "__init__.py", root.name
    for depth, part in enumerate(parts, 1):
        dotted = ".".join(parts[:depth])
        target = target / part
        if (target / "__init__.py").is_file():
            yield target / "__init__.py", dotted
        elif (module := target.parent / f"{part}.py").is_file():
            yield module, dotted
            return
        elif _is_folder(target):
            continue
        else:
            yield from ((file, dotted) for file in target.parent.glob(f"{part}.*.so"))
            return


def _paths(node: ast.AST) -> Iterator[str]:
    """Yield texts that may be paths: constants, and constants that `/` or a call joins."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        parts = [node.value]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = [n.value for n in _operands(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    elif isinstance(node, ast.Call):
        parts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    else:
        return
    text = "/".join(parts)
    if 0 < len(text) < _LONGEST_PATH and text.isprintable():
        yield text


def _operands(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield from _operands(node.left)
        yield from _operands(node.right)
    else:
        yield node


@dataclass(frozen=True)
class _Texts:
    """The texts of a file: constants, names of arguments, and f-strings as their constant parts."""

    constants: frozenset[str]
    patterns: tuple[tuple[str, ...], ...]

    def __contains__(self, name: str) -> bool:
        return name in self.constants

    def can_compose(self, name: str) -> bool:
        """Return whether an f-string or a sum of texts may result in `name`."""
        return any(_contains_in_order(name, parts) for parts in self.patterns)


def _contains_in_order(name: str, parts: tuple[str, ...]) -> bool:
    at = 0
    for part in parts:
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _mentions(tree: ast.AST, name: str) -> bool:
    texts = _texts(tree)
    return name in texts or texts.can_compose(name)


def _texts(tree: ast.AST) -> _Texts:
    constants, patterns = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            constants.add(node.value)
        elif isinstance(node, ast.keyword | ast.arg) and node.arg:
            constants.add(node.arg)
        elif isinstance(node, ast.JoinedStr):
            parts = tuple(v.value for v in node.values if isinstance(v, ast.Constant) and isinstance(v.value, str))
            patterns += [parts] if parts else []
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            sides = [s.value for s in (node.left, node.right) if isinstance(s, ast.Constant)]
            parts = tuple(side.split("%")[0] for side in sides if isinstance(side, str))
            patterns += [parts] if any(parts) else []
    return _Texts(frozenset(constants), tuple(patterns))


def is_imported(settings: Any, base: Path) -> bool:
    """Return whether this process has imported a file of the study's functions."""
    files = set(source_files(settings, base).values())
    return any(Path(getattr(module, "__file__", None) or "/") in files for module in list(sys.modules.values()))
