"""An ensemble of a study's best configs, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ensembled:
    """One model that averages the best configs of a study.

    Attributes:
        trials: of its members, the best one first.
        retrained: those whose weights were not kept, and that were trained again.
        values: its metrics on the validation rows, with the prefix `val_`.
        best: the same of the best trial alone.
        lines: what the user has to know about the file.
    """

    study: str
    objective: str
    trials: tuple[int, ...]
    retrained: tuple[int, ...]
    values: Mapping[str, float]
    best: Mapping[str, float | None]
    lines: tuple[str, ...]
