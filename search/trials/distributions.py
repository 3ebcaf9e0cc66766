"""Parameters as Optuna's distributions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spaces import Choice, Float, Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def is_stored_as(parameter: Parameter, text: str) -> bool:
    """Return whether `text` is the distribution of a parameter, as JSON in Optuna's table."""
    from optuna.distributions import distribution_to_json, json_to_distribution

    expected = [distribution(parameter)]
    if isinstance(parameter, Float) and not parameter.divides:
        expected.append(_lowered(parameter))
    if text in map(distribution_to_json, expected):
        return True
    try:
        # Other text may be equal: an earlier Optuna wrote other names for the same distributions.
        return json_to_distribution(text) in expected
    except Exception:  # noqa: BLE001 (Optuna raises errors of several types for text that it can't parse)
        return False


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return the Optuna distribution of a parameter."""
    # This import takes a quarter of a second, and commands that only list studies don't need it.
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values())
    if isinstance(parameter, Float):
        # Optuna lowers `high` if the step does not divide the range exactly. Without a step all values are contained.
        step = parameter.step if parameter.divides else None
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=step)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def distribution_with(parameter: Parameter, values: Iterable[Any]) -> BaseDistribution:
    """Return the distribution of a parameter, without its step if one of `values` lies between Optuna's steps.

    Samplers of earlier versions drew such values; in ranges of very many steps Optuna also rejects correct ones.
    """
    expected = distribution(parameter)
    if isinstance(parameter, Choice) or all(expected._contains(expected.to_internal_repr(value)) for value in values):
        return expected
    return distribution(replace(parameter, step=None) if isinstance(parameter, Float) else replace(parameter, step=1))


def _lowered(parameter: Float) -> BaseDistribution:
    """Return what earlier versions stored for a step that does not divide its range exactly."""
    from optuna.distributions import FloatDistribution

    with warnings.catch_warnings(action="ignore"):
        return FloatDistribution(parameter.low, parameter.high, step=parameter.step)
