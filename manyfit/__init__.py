"""Hyperparameter search for Keras that loses nothing: `Study` searches, `load` opens what is stored.

The code is in `search`, `spaces` and `models`. It is imported when a name is first used: the command line stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from manyfit.start import own_packages

if TYPE_CHECKING:
    from search import __version__ as __version__
    from search.errors import DataError as DataError
    from search.errors import IdentityError as IdentityError
    from search.errors import ManyfitError as ManyfitError
    from search.errors import StoreError as StoreError
    from search.errors import UsageError as UsageError
    from search.python import Best as Best
    from search.python import Data as Data
    from search.python import Results as Results
    from search.python import Study as Study
    from search.python import load as load
    from spaces import Choice as Choice
    from spaces import Float as Float
    from spaces import Int as Int
    from spaces import SpaceError as SpaceError

_HOMES = {
    "search": ("__version__",),
    "search.errors": ("DataError", "IdentityError", "ManyfitError", "StoreError", "UsageError"),
    "search.python": ("Best", "Data", "Results", "Study", "load"),
    "spaces": ("Choice", "Float", "Int", "SpaceError"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605 (the names above)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'manyfit' has no attribute {name!r}; it has {', '.join(__all__)}")
    with own_packages():
        value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
