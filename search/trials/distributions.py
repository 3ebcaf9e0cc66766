"""Parameters as Optuna's distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import Choice, Float, Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def is_stored_as(parameter: Parameter, text: str) -> bool:
    """Return whether `text` is the distribution of a parameter, as JSON in Optuna's table."""
    from optuna.distributions import distribution_to_json, json_to_distribution

    expected = distribution(parameter)
    if text == distribution_to_json(expected):
        return True
    try:
        # Other text may be equal: an earlier Optuna wrote other names for the same distributions.
        return bool(json_to_distribution(text) == expected)
    except Exception:  # noqa: BLE001 (Optuna raises errors of several types for text that it can't parse)
        return False


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return the Optuna distribution of a parameter."""
    # This import takes a quarter of a second, and commands that only list studies don't need it.
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values())
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
