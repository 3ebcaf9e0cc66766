"""Imports manyfit's own packages before a user's of the same names can be found; run as a file, it starts a worker.

`search`, `spaces` and `models` are common names, and PYTHONPATH comes before what is installed. The packages are imported
from this file's own folder. `sys.path` stays as it is, so that everything else is found where the user wants it.
Nothing here imports anything but the standard library before that.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("spaces", "models", "search")


def own_packages_first() -> None:
    """Import our packages from beside this one, whatever else bears their names."""
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
