"""Hashes of functions that stand in no file: what they would compute depends on their source and on all that they reach.

Two runs of a notebook have equal hashes if the functions, the defaults, the closures and the globals that they read are
equal. What can't be compared has the hash "", and a warning says so. Nothing here imports keras.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import linecache
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from search.spec.usercode import PROGRAM

_VERSION = ".".join(map(str, sys.version_info[:2]))
# Plain values: their repr tells them apart.
_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis), type(NotImplemented),
    datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction, PurePath,
)  # fmt: skip
# Entries of a class that its source does not determine, or that repeat it. Pickling adds `__slotnames__`.
_OF_CLASSES = frozenset(
    (
        "__module__", "__qualname__", "__name__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__parameters__",
        "__static_attributes__", "__orig_bases__", "__abstractmethods__", "_abc_impl", "__dataclass_fields__",
        "__dataclass_params__", "__match_args__", "__slotnames__", "__annotations_cache__", "__annotate_func__",
    )
)  # fmt: skip
_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")


class _Unknown(Exception):  # noqa: N818 (it is no error)
    """A value of a kind that has no comparable content."""


@dataclass
class Hashes:
    """The hashes of functions and of all that they reach.

    Attributes:
        by_name: `python:name` of a function, a class, a global or a variable of a closure -> hash.
        texts: the source of the functions.
        warnings: on what can't be compared.
        main: functions and classes of the program's main module, by name.
        files: names of the files in which code of the main module stands, which may be notebook cells.
    """

    by_name: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    main: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    # Kept alive, so that no other object gets its id.
    _seen: dict[int, Any] = field(default_factory=dict)
    _pieces: dict[tuple[str, int], Any] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        """Add what `python:name` stands for, with all that it reaches."""
        if isinstance(value, FunctionType | type) and not is_importable(value):
            self._code(name, value)
        else:
            self._piece(name, value)

    def _piece(self, name: str, value: Any) -> None:
        """Add a value that is neither a function nor a class."""
        digest = hashlib.sha256()
        try:
            self._feed(digest, name, value)
        except _Unknown as unknown:
            self._set(name, "")
            self.warnings.append(
                f"{PROGRAM}{name} can't be compared with that of another run ({unknown}): if it changes, this study goes on "
                "as if it had not"
            )
        else:
            self._set(name, digest.hexdigest()[:32])

    def _set(self, name: str, value: str) -> None:
        key, count = f"{PROGRAM}{name}", 1
        while key in self.by_name:
            count += 1
            key = f"{PROGRAM}{name} ({count})"
        self.by_name[key] = value

    def _code(self, name: str, value: FunctionType | type) -> None:
        """Add a function or a class of the program itself; one of an importable module is compared by its file."""
        if id(value) in self._seen or is_importable(value):
            return
        self._seen[id(value)] = value
        if value.__module__ == "__main__" and "<" not in value.__qualname__:
            self.main[value.__qualname__.partition(".")[0]] = getattr(
                sys.modules["__main__"], value.__qualname__.partition(".")[0], value
            )
        if isinstance(value, type):
            self._class(name, value)
        else:
            self._function(name, value)

    def _function(self, name: str, function: FunctionType) -> None:
        code = function.__code__
        self.files.add(code.co_filename)
        text = source(code)
        if text is None:
            self.warnings.append(
                f"{PROGRAM}{name} has no source, so it is compared by its bytecode: another version of Python takes it for "
                "another function"
            )
            texts = [constant for constant in _constants(code) if isinstance(constant, str)]
            self.texts.append("\n".join(map(repr, texts)))
            content = repr((_VERSION, list(_bytecode(code))))
        else:
            self.texts.append(text)
            content = text
        self._set(name, hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32])
        if function.__defaults__ or function.__kwdefaults__:
            self._value(f"{name}: defaults", (function.__defaults__, function.__kwdefaults__))
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if variable == "__class__":
                continue  # the class has led here
            try:
                content = cell.cell_contents
            except ValueError:  # it is empty
                continue
            self._value(f"{name}: {variable}", content)
        for variable in sorted(_global_names(code)):
            if variable in function.__globals__:
                self._value(variable, function.__globals__[variable])

    def _class(self, name: str, kind: type) -> None:
        digest = hashlib.sha256(repr([base.__qualname__ for base in kind.__bases__]).encode())
        for base in kind.__bases__:
            self._code(base.__name__, base)
        try:
            for key, entry in vars(kind).items():
                # Looking at the annotations of a class without any adds a table of none.
                if key in _OF_CLASSES or (key == "__annotations__" and not entry):
                    continue
                for function in _functions(entry):
                    # Methods that dataclasses make of a text follow from the fields.
                    if function.__code__.co_filename != "<string>":
                        self._code(f"{name}.{key}", function)
                if key == "__annotations__":
                    digest.update(repr({name: str(kind) for name, kind in entry.items()}).encode())
                elif not _functions(entry):
                    digest.update(key.encode())
                    self._feed(digest, f"{name}.{key}", entry)
        except _Unknown as unknown:
            self.warnings.append(f"{PROGRAM}{name} can't be compared with that of another run ({key} is {unknown})")
            self._set(name, "")
        else:
            self._set(name, digest.hexdigest()[:32])

    def _value(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType):
            return  # compared by the files that a worker imports
        if isinstance(value, FunctionType | type):
            self._code(value.__name__ if ":" not in name else name, value)
        elif (name, id(value)) not in self._pieces:
            self._pieces[name, id(value)] = value
            self._piece(name, value)

    def _feed(self, digest: Any, name: str, value: Any, depth: int = 0) -> None:  # noqa: PLR0912 (a case for each kind)
        """Add a value to a digest; _Unknown for one whose content can't be read."""
        if depth > 50:
            raise _Unknown("nested too deeply")
        inner = functools.partial(self._feed, digest, name, depth=depth + 1)
        digest.update(f"\0{type(value).__qualname__}:".encode())
        if isinstance(value, enum.Enum):
            digest.update(value.name.encode())
        elif isinstance(value, _PLAIN):
            digest.update(repr(value).encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                inner(key)
                inner(item)
        elif isinstance(value, list | tuple):
            for item in value:
                inner(item)
        elif isinstance(value, set | frozenset):
            parts = []
            for item in value:
                part = hashlib.sha256()
                self._feed(part, name, item, depth + 1)
                parts.append(part.digest())
            digest.update(b"".join(sorted(parts)))
        elif isinstance(value, FunctionType | type):
            digest.update(f"{value.__module__}.{value.__qualname__}".encode())
            self._code(f"{name}: {value.__qualname__}", value)
        elif isinstance(value, MethodType):
            inner(value.__func__)
            inner(value.__self__)
        elif isinstance(value, functools.partial):
            for item in (value.func, value.args, value.keywords):
                inner(item)
        elif isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType | type(None)):
            digest.update(f"{value.__module__}.{value.__qualname__}".encode())
        elif isinstance(value, ModuleType):
            digest.update(value.__name__.encode())
        elif isinstance(value, property | staticmethod | classmethod | functools.cached_property):
            for function in _functions(value):
                inner(function)
        elif isinstance(value, SimpleNamespace) or _is_plain_object(value):
            inner(type(value))
            inner(vars(value))
        elif not self._feed_array(digest, inner, value):
            raise _Unknown(f"a {type(value).__module__}.{type(value).__qualname__}".replace("a builtins.", "a "))

    def _feed_array(self, digest: Any, inner: Any, value: Any) -> bool:
        """Add an array or a table to a digest; return False for anything else."""
        import numpy as np

        root = type(value).__module__.partition(".")[0]
        if root == "pandas" and hasattr(value, "to_numpy"):
            columns = value.items() if hasattr(value, "columns") else [(getattr(value, "name", None), value)]
            for name, column in columns:
                inner((repr(name), str(column.dtype)))
                inner(column.to_numpy())
            if hasattr(value, "index"):
                inner(value.index.to_numpy())
            return True
        if isinstance(value, np.ufunc):
            digest.update(value.__name__.encode())
            return True
        if isinstance(value, np.dtype):
            digest.update(str(value).encode())
            return True
        if not (hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype")):
            return False
        try:
            array = np.asarray(value)
        except Exception:  # noqa: BLE001 (another library's array may refuse)
            return False
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.dtype.kind in "OT":
            inner(array.tolist())
        else:
            digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
        return True


def is_importable(value: FunctionType | type) -> bool:
    """Return whether a fresh process can import a function or class, so that cloudpickle hands over only its name."""
    if value.__module__ in (None, "__main__"):
        return False
    module: Any = sys.modules.get(value.__module__)
    if module is None:
        return False
    try:
        return functools.reduce(getattr, value.__qualname__.split("."), module) is value
    except AttributeError:
        return False


def source(code: CodeType) -> str | None:
    """Return the source of a function or lambda; None if there is none, or if the file has changed since it was run."""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return None
    text = "".join(lines)
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = compile(text, code.co_filename, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            compiled = compile(tree, code.co_filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not any(_is_same(one, code) for one in _nested(compiled)):
        return None
    nodes = [node for node in ast.walk(tree) if isinstance(node, _DEFINITIONS) and _defines(node, code)]
    if not nodes:
        return None
    node = max(nodes, key=lambda one: (one.lineno, one.col_offset))  # the innermost
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment(text, node)
    return textwrap.dedent("".join(lines[_first_line(node) - 1 : node.end_lineno]))


_DEFINITIONS = (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _defines(node: ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef, code: CodeType) -> bool:
    if not isinstance(node, ast.Lambda):
        return node.name == code.co_name and _first_line(node) == code.co_firstlineno
    begin, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    inside = [
        begin <= (line, column) and (end_line, end_column) <= end
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column is not None
        # The instructions that begin a function have an empty span.
        if (line, column) != (end_line, end_column)
    ]
    return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno and all(inside)


def _nested(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _nested(constant)


def _is_same(one: CodeType, other: CodeType) -> bool:
    return (
        one.co_name == other.co_name
        and one.co_firstlineno == other.co_firstlineno
        and list(_bytecode(one)) == list(_bytecode(other))
    )


def _bytecode(code: CodeType) -> Iterator[Any]:
    """Yield what a code object computes, without line numbers and file names."""
    yield code.co_code
    yield (
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags & 0xF,
    )
    for constant in code.co_consts:
        if isinstance(constant, frozenset):
            yield sorted(map(repr, constant))  # texts have another order in each process
        else:
            yield list(_bytecode(constant)) if isinstance(constant, CodeType) else repr(constant)


def _constants(code: CodeType) -> Iterator[Any]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        else:
            yield constant


def _global_names(code: CodeType) -> set[str]:
    return {
        str(instruction.argval)
        for one in (code, *_nested(code))
        for instruction in dis.get_instructions(one)
        if instruction.opname in _READS_GLOBAL
    }


def _functions(entry: Any) -> list[FunctionType]:
    """Return the functions of an entry of a class: a method, a property, and so on."""
    if isinstance(entry, staticmethod | classmethod):
        entry = entry.__func__
    if isinstance(entry, functools.cached_property):
        entry = entry.func
    parts = (entry.fget, entry.fset, entry.fdel) if isinstance(entry, property) else (entry,)
    return [part for part in parts if isinstance(part, FunctionType)]


def _is_plain_object(value: Any) -> bool:
    """Return whether an object of a class of the program holds nothing but its attributes."""
    kind = type(value)
    return (
        not is_importable(kind)
        and hasattr(value, "__dict__")
        and not any({"__reduce__", "__reduce_ex__", "__slots__"} & vars(base).keys() for base in kind.__mro__[:-1])
        and not any(is_importable(base) for base in kind.__mro__[:-1])
    )
