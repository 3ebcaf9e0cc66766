"""Imports manyfit's packages before a user's modules of the same names. Run as a file, it starts a worker.

`search`, `spaces` and `models` are common names, and PYTHONPATH comes before installed packages. So they are imported from
the folder above this file. `sys.path` does not change: all other imports work as the user expects.
Before that, nothing here imports anything but the standard library.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("spaces", "models", "search")


def own_packages_first() -> None:
    """Import our packages from the folder of this one, even if other modules have the same names."""
    home = str(Path(__file__).resolve().parent.parent)
    for name in PACKAGES:
        spec = PathFinder.find_spec(name, [home])
        if name in sys.modules or spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


if __name__ == "__main__":
    own_packages_first()
    from search.workers.worker import run

    run(int(sys.argv[1]))
