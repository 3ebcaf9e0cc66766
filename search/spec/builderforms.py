"""Tells builders of KerasTuner's form, `build(hp)`, from those of manyfit's, `build(config, data)`, by their arguments."""

from __future__ import annotations

from collections.abc import Sequence

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
