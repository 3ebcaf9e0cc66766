"""A module named keras_tuner for files that import KerasTuner only for its HyperModel, where KerasTuner is not installed.

It has HyperModel, HyperParameters and the errors; every other name raises an error that says how to install KerasTuner.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any, NoReturn

from search.engines.hypermodels.hyperparameters import HyperParameters
from search.errors import UsageError
from search.spec.usercode import Reference

NAME = "keras_tuner"
MISSING = (
    "KerasTuner is not installed, and manyfit stands in for its HyperModel, HyperParameters and errors only: "
    "`pip install keras-tuner`, or move what needs it (tuners, oracles, searches) into another file"
)


class HyperModel:
    """A class whose `build(hp)` returns a model, as keras_tuner.HyperModel."""

    def __init__(self, name: Any = None, tunable: bool = True) -> None:
        self.name, self.tunable = name, tunable
        self._build, self.build = self.build, self._build_wrapper  # type: ignore[method-assign]

    def build(self, hp: Any) -> Any:
        """Return a compiled model."""
        raise NotImplementedError

    def _build_wrapper(self, hp: Any, *args: Any, **kwargs: Any) -> Any:
        return self._build(hp if self.tunable else hp.copy(), *args, **kwargs)

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declare hyperparameters before `build`."""

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 (KerasTuner's signature)
        """Train a model."""
        return model.fit(*args, **kwargs)


class FailedTrialError(Exception):
    """Raised by a builder to fail its trial."""


class FatalError(Exception):
    """Raised by a builder to end the search."""


class FatalValueError(FatalError, ValueError):
    pass


class FatalTypeError(FatalError, TypeError):
    pass


class FatalRuntimeError(FatalError, RuntimeError):
    pass


def offer() -> None:
    """Let `import keras_tuner` import the stand-in, unless KerasTuner is installed or already imported."""
    if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
        return
    errors = _module(f"{NAME}.errors")
    for error in (FailedTrialError, FatalError, FatalValueError, FatalTypeError, FatalRuntimeError):
        setattr(errors, error.__name__, error)
    module = _module(NAME)
    module.__path__ = []  # a package, so that `from keras_tuner.errors import ...` works
    for name, value in {"HyperModel": HyperModel, "HyperParameters": HyperParameters, "errors": errors}.items():
        setattr(module, name, value)
    sys.modules |= {NAME: module, f"{NAME}.errors": errors}


def load(reference: Reference) -> Any:
    """Import a user's builder, with the stand-in where KerasTuner is missing; UsageError if that fails."""
    offer()
    try:
        return reference.load()
    except UsageError as error:
        if is_used() and NAME in str(error) and MISSING not in str(error):
            raise UsageError(f"{error}; {MISSING}") from None
        raise


def is_used() -> bool:
    """Return whether the module keras_tuner of this process is the stand-in."""
    return getattr(sys.modules.get(NAME), "HyperModel", None) is HyperModel


def _module(name: str) -> ModuleType:
    module = ModuleType(name, MISSING)

    def refuse(attribute: str) -> NoReturn:
        raise AttributeError(f"{name}.{attribute}: {MISSING}" if not attribute.startswith("__") else attribute)

    module.__getattr__ = refuse  # type: ignore[method-assign]
    return module
