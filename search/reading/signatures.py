"""Check the arguments of a function in a user's file from its source, without running it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Literal

from search.spec.builderforms import takes_hp
from search.spec.code_reading import syntax_tree


def call_error(path: Path, function: str, given: tuple[str, ...]) -> str:
    """Return why `function` rejects the positional arguments `given`; "" if it accepts them or the source can't show it."""
    arguments = _arguments(path, function)
    if arguments is None:
        return ""
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    required = len(names) - len(arguments.defaults)
    keywords = [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    is_accepted = required <= len(given) and (len(given) <= len(names) or arguments.vararg is not None)
    if is_accepted and not keywords:
        return ""
    takes = ", ".join([*names, *(["*", *keywords] if keywords else [])])
    return f"{function}({takes}) can't be called as {function}({', '.join(given)}), which is how it is called"


def form_of(path: Path, function: str) -> Literal["config", "hp", "unknown"]:
    """Return how a builder is called: with (config, data), or with KerasTuner's hp; "unknown" if only importing it shows."""
    if (arguments := _arguments(path, function)) is None:
        return "unknown"
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    is_optional = None not in arguments.kw_defaults
    names = [argument.arg for argument in positional]
    return "hp" if is_optional and takes_hp(names, required, has_varargs=arguments.vararg is not None) else "config"


def first_argument_is(path: Path, function: str, *names: str) -> bool:
    """Return whether the first argument of `function` has one of these `names`."""
    arguments = _arguments(path, function)
    first = [*arguments.posonlyargs, *arguments.args][:1] if arguments else []
    return bool(first) and first[0].arg in names


def _arguments(path: Path, function: str) -> ast.arguments | None:
    """Return the arguments of the last top-level definition of `function`; None if something else may replace it."""
    if (tree := syntax_tree(path)) is None:
        return None
    arguments = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            # A decorator may change the arguments.
            arguments = None if node.decorator_list else node.args
        elif any(isinstance(inner, ast.Name) and inner.id == function for inner in _assigned(node)):
            arguments = None
    return arguments


def _assigned(node: ast.stmt) -> list[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    return [inner for inner in ast.walk(node) if isinstance(getattr(inner, "ctx", None), ast.Store)]
