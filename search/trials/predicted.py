"""Predictions of new rows, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Predicted:
    """A written table of predictions.

    Attributes:
        outputs: what was predicted, by output: `classes` and their counts, or `lowest`, `mean` and `highest`.
        lines: remarks on the rows and on the model.
    """

    rows: int
    columns: tuple[str, ...]
    outputs: Mapping[str, Mapping[str, Any]]
    lines: tuple[str, ...]
