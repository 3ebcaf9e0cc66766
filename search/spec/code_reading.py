"""What the code of a Python file imports and names. Nothing here runs the code.

Reading the code finds every import, at any depth and in functions that have not run yet. It needs no worker and takes
milliseconds.
"""

from __future__ import annotations

import ast
import functools
import os
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from search.spec.usercode import HOME

_OURS = tuple(HOME / name for name in ("search", "spaces", "models", "manyfit"))
_STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset(("site-packages", "dist-packages"))
SUFFIXES = (".py", ".so", ".pyd")
# A longer text in the code is not a path.
_LONGEST_PATH = 300


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


def syntax_tree(path: Path) -> ast.Module | None:
    """Return the syntax tree of a Python file; None if it can't be read or is not valid."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@dataclass
class ImportReader:
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
                if text.endswith(SUFFIXES) and candidate.is_file():
                    yield candidate.resolve(), candidate.stem
        folders = [folder / text for text in texts for folder in (path.parent, self.folder)]
        roots = [*self.roots, path.parent, *(folder for folder in folders if _is_folder(folder))]
        self.searched |= dict.fromkeys(roots)
        for node in nodes:
            for level, name in _modules(node):
                if level:
                    package = path.parents[level - 1] if level <= len(path.parents) else path.parent
                    yield from resolve(package, name)
                else:
                    for root in roots:
                        yield from resolve(root, name)


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


def resolve(root: Path, name: str) -> Iterator[tuple[Path, str]]:
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


def mentions(tree: ast.AST, name: str) -> bool:
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
