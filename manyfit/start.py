"""Imports manyfit's packages before a user's modules of the same names. Run as a file, it starts a worker.

`search`, `spaces` and `models` are common names, and PYTHONPATH comes before installed packages. So they are imported from
the folder above this file. `sys.path` does not change: all other imports work as the user expects. In a program or a notebook
that has modules of these names, too, ours leave `sys.modules` whenever no function of ours runs.
Before that, nothing here imports anything but the standard library.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = ("spaces", "models", "search")
_HOME = Path(__file__).resolve().parent.parent

# Modules that are taken out of sys.modules at present: ours while the program runs, the program's while we do.
_ours: dict[str, ModuleType] = {}
_theirs: dict[str, ModuleType] = {}
_depth = 0


def own_packages_first() -> None:
    """Import our packages from the folder of this one, even if other modules have the same names."""
    home = str(_HOME)
    for name in PACKAGES:
        spec = PathFinder.find_spec(name, [home])
        if name in sys.modules or spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


@contextmanager
def own_packages() -> Iterator[None]:
    """Have our packages under their names while the context lasts; a program's modules of these names come back after it."""
    global _depth  # noqa: PLW0603 (contexts are entered within each other)
    if not _depth:
        _swap_in()
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _swap_out()


@contextmanager
def users_packages() -> Iterator[None]:
    """Within `own_packages`, have the program's modules of these names back while the context lasts: code of theirs runs."""
    _swap_out()
    try:
        yield
    finally:
        _swap_in()


def _swap_in() -> None:
    for name in PACKAGES:
        if name in sys.modules and not _is_ours(sys.modules[name]):
            _theirs.update(_take_out(name))
        sys.modules.update({key: _ours.pop(key) for key in _family(name, _ours)})
    own_packages_first()


def _swap_out() -> None:
    for name in PACKAGES:
        has_theirs = bool(_family(name, _theirs))
        if has_theirs or _is_shadowed(name):
            _ours.update(_take_out(name))
            sys.modules.update({key: _theirs.pop(key) for key in _family(name, _theirs)})


def _take_out(name: str) -> dict[str, ModuleType]:
    return {key: sys.modules.pop(key) for key in _family(name, sys.modules)}


def _family(name: str, modules: dict[str, ModuleType]) -> list[str]:
    return [key for key in modules if key == name or key.startswith(f"{name}.")]


def _is_ours(module: ModuleType) -> bool:
    return Path(getattr(module, "__file__", None) or "/").is_relative_to(_HOME)


def _is_shadowed(name: str) -> bool:
    """Return whether `import name` would find a module of the program if ours were not there."""
    for folder in sys.path:
        path = Path(folder or ".").absolute()
        if path != _HOME and "site-packages" not in path.parts and "dist-packages" not in path.parts:
            spec = PathFinder.find_spec(name, [str(path)])
            if spec is not None and spec.origin is not None:
                return True
    return False


if __name__ == "__main__":
    gc.disable()  # while modules are imported, as in `search.engines.pins.no_collections`
    own_packages_first()
    from search.workers.worker import run

    gc.enable()
    run(*map(int, sys.argv[1:]))
