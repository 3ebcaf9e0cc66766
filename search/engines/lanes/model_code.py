"""Whether a model contains a user's code: then its parts' configs need not tell what they compute."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from functools import cached_property, partial, partialmethod
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import jax
import keras
import numpy as np
import optree

from search.engines.losses.forms import Form, FormedLoss, FormedMetric
from search.engines.optimizers import Decay

_OURS = (Form, FormedLoss, FormedMetric, Decay)
_FOLDERS = tuple(f"{Path(str(package.__file__)).parent}/" for package in (keras, jax, np, optree))
_STANDARD = f"{sysconfig.get_path('stdlib')}/"
_GENERATED = frozenset(("__new__", "__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__"))
_INSTALLED = frozenset(("site-packages", "dist-packages"))
_PACKAGES = frozenset(("keras", "jax", "jaxlib", "numpy", "optree", "ml_dtypes"))
_LEAVES = (type(None), bool, int, float, complex, str, bytes, np.ndarray, np.generic, np.dtype, jax.Array, ModuleType)
_checked: WeakKeyDictionary[type, tuple[tuple[int, ...], bool]] = WeakKeyDictionary()


def has_user_code(model: keras.Model) -> bool:
    """Return whether anything that a model holds is written, or was replaced, outside Keras, JAX and NumPy.

    Every object that can be reached from the model is looked at; what is unknown counts as user code.
    """
    seen: dict[int, Any] = {}
    pending = [model]
    while pending:
        part = pending.pop()
        if isinstance(part, _LEAVES) or id(part) in seen:
            continue
        seen[id(part)] = part  # kept alive, so that no other object gets its id
        if not _is_known(part):
            return True
        pending += _held_by(part)
    return False


def _is_known(part: Any) -> bool:
    if isinstance(part, FunctionType):
        return _is_of_library(part)
    kind = part if isinstance(part, type) else type(part)
    return kind in _OURS or all(map(_is_unchanged, kind.__mro__))


def _held_by(part: Any) -> Iterator[Any]:
    if isinstance(part, type):
        return
    if isinstance(part, FunctionType):
        yield from (part.__defaults__, part.__kwdefaults__)
        yield from part.__closure__ or ()
    elif isinstance(part, CellType):
        with suppress(ValueError):  # it is empty
            yield part.cell_contents
    elif isinstance(part, MethodType):
        yield from (part.__func__, part.__self__)
    elif isinstance(part, partial):
        yield from (part.func, part.args, part.keywords)
    elif isinstance(part, Mapping):
        yield from (*part.keys(), *part.values())
    elif isinstance(part, list | tuple | Set):
        yield from part
    yield from getattr(part, "__dict__", {}).values()
    for kind in type(part).__mro__:
        slots = vars(kind).get("__slots__", ())
        yield from (getattr(part, name, None) for name in ((slots,) if isinstance(slots, str) else slots))
    yield getattr(part, "__wrapped__", None)


def _is_unchanged(kind: type) -> bool:
    """Return whether a class is a library's, with the methods that it was defined with."""
    package = kind.__module__.partition(".")[0]
    if package in sys.stdlib_module_names:
        return True
    if package not in _PACKAGES:
        return False
    entries = [value for name, value in vars(kind).items() if not name.startswith("__") or callable(value)]
    ids = tuple(map(id, entries))
    checked = _checked.get(kind)
    if checked is None or checked[0] != ids:
        checked = _checked[kind] = ids, all(map(_is_entry_known, entries))
    return checked[1]


def _is_of_library(function: FunctionType) -> bool:
    file = function.__code__.co_filename
    if file == "<string>":  # named tuples and dataclasses make their methods of text
        return function.__name__ in _GENERATED
    return file.startswith(_FOLDERS) or (file.startswith(_STANDARD) and not _INSTALLED & set(Path(file).parts))


def _is_entry_known(value: Any) -> bool:
    """Return whether an entry of a library's class is a constant, or code of a library."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, cached_property):
        value = value.func
    if isinstance(value, property):
        return all(one is None or _is_entry_known(one) for one in (value.fget, value.fset, value.fdel))
    if isinstance(value, FunctionType):
        return _is_of_library(value)
    if isinstance(value, partialmethod):
        return False
    return (
        not callable(value)
        or isinstance(value, type)
        or type(value).__module__.partition(".")[0] in {*_PACKAGES, "builtins"}
    )
