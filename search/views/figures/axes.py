"""The axis of a parameter: its scale, its values as they stand on it, and its name as text of Plotly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from search.views.printable import label
from search.views.text import short
from spaces import Choice, Float, Int, Parameter

_LONGEST = 24
# Space beyond the ends of a range, as a share of it.
_PAD = 0.04


def axis(parameter: Parameter) -> dict[str, Any]:
    """Return the settings of a parameter's axis."""
    if isinstance(parameter, Choice):
        return {"type": "category", "categoryorder": "array", "categoryarray": labels(parameter.values())}
    low, high = (math.log10(end) for end in _ends(parameter)) if parameter.log else _ends(parameter)
    # All of the range, so that values at its ends are seen there.
    scale = {"range": [low - _PAD * (high - low), high + _PAD * (high - low)]}
    return (
        {**scale, "type": "log", "dtick": 1, "exponentformat": "power"}
        if parameter.log
        else {**scale, "type": "linear"}
    )


def _ends(parameter: Float | Int) -> tuple[float, float]:
    return parameter.low, parameter.high


def values(parameter: Parameter, params: Sequence[Any]) -> list[Any]:
    """Return params as they stand on their parameter's axis."""
    if not isinstance(parameter, Choice):
        return list(params)
    known = dict(zip(parameter.values(), labels(parameter.values()), strict=True))
    return [known[param] for param in params]


def labels(params: Sequence[object]) -> list[str]:
    """Return a label for each of different params. Plotly takes equal labels for one place, so these get a number."""
    texts = [shown(param) for param in params]
    counts = Counter(texts)
    return [text if counts[text] == 1 else f"{text} #{number}" for number, text in enumerate(texts, 1)]


def shown(param: object) -> str:
    """Return a param as a label, cut if it is long."""
    text = short(param)
    return label(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def params_text(params: Mapping[str, Any]) -> str:
    """Return params as lines of a hover text."""
    return "<br>".join(f"{label(name)} {shown(param)}" for name, param in params.items())
