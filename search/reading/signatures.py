"""Whether a function of a user's file can be called with so many arguments, told from its source: nothing is run."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path


def misfit(path: Path, function: str, given: tuple[str, ...]) -> str:
    """Return why `function` can't be called with the positional arguments `given`, or nothing; what can't be told fits."""
    arguments = _arguments(path, function)
    if arguments is None:
        return ""
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    least = len(names) - len(arguments.defaults)
    asked = [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    fits = least <= len(given) and (len(given) <= len(names) or arguments.vararg is not None) and not asked
    if fits:
        return ""
    takes = ", ".join([*names, *(["*", *asked] if asked else [])])
    return f"{function}({takes}) can't be called as {function}({', '.join(given)}), which is how it is called"


def asks_for(path: Path, function: str, *names: str) -> bool:
    """Tell whether the first argument of `function` is called one of `names`."""
    arguments = _arguments(path, function)
    first = [*arguments.posonlyargs, *arguments.args][:1] if arguments else []
    return bool(first) and first[0].arg in names


def _arguments(path: Path, function: str) -> ast.arguments | None:
    """Return the arguments of the last plain definition of `function` at the top level of a file."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            # A decorator may change what it takes.
            found = None if node.decorator_list else node.args
        elif any(isinstance(inner, ast.Name) and inner.id == function for inner in _bound(node)):
            found = None
    return found


def _bound(node: ast.stmt) -> list[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    return [inner for inner in ast.walk(node) if isinstance(getattr(inner, "ctx", None), ast.Store)]
