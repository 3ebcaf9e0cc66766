"""Tells builders of KerasTuner's form, `build(hp)`, from those of manyfit's, `build(config, data)`, by their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

HP_NAMES = ("hp", "hps", "hparams", "hyperparameters", "hyper_parameters")
"""Names of the argument `hp`, for a function that could also be called with two arguments."""


def takes_hp(positional: Sequence[str], required: int, *, has_varargs: bool = False) -> bool:
    """Return whether a function is a builder in KerasTuner's form.

    Args:
        positional: the names of its positional arguments, without `self`.
        required: how many of them have no default.
        has_varargs: whether it takes `*args`.
    """
    if required > 1 or not positional:
        return False
    takes_two = len(positional) > 1 or has_varargs
    return not takes_two or positional[0].lower() in HP_NAMES


def is_hypermodel(builder: Any) -> bool:
    """Return whether an object is a builder in KerasTuner's form: a function of hp, or a HyperModel's class or instance."""
    if isinstance(builder, type):
        build = inspect.getattr_static(builder, "build", None)
        is_derived = any(base.__name__ == "HyperModel" for base in builder.__mro__)
        return not _is_of_keras(builder) and (is_derived or (inspect.isfunction(build) and _takes_hp(build, skip=1)))
    return has_build(builder) or (callable(builder) and _takes_hp(builder))


def has_build(builder: Any) -> bool:
    """Return whether an object is an instance with a method `build`; a model of Keras is none."""
    return (
        not isinstance(builder, type) and callable(getattr(builder, "build", None)) and not _is_of_keras(type(builder))
    )


def _is_of_keras(kind: type) -> bool:
    # Keras's layers and models have `build`, too. By name, for a program need not have imported Keras.
    return any(str(base.__module__).partition(".")[0] == "keras" for base in kind.__mro__)


def _takes_hp(function: Callable[..., Any], *, skip: int = 0) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return False
    required = sum(p.default is p.empty for p in positional)
    has_varargs = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return takes_hp([p.name for p in positional], required, has_varargs=has_varargs)
