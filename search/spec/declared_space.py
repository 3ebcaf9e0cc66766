"""The space that a builder in KerasTuner's form asks for, known by running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DeclaredSpace:
    """What a builder asked for when a worker ran it.

    Attributes:
        space: a [space] table.
        start: the config of the builder's defaults, without values that a parameter does not have.
        epochs: how many epochs the hypermodel's own `fit` trains for; 0 if it leaves that to its caller.
        remarks: what differs from KerasTuner's search, for the user.
        builds: how many models were built.
    """

    space: Mapping[str, Any]
    start: Mapping[str, Any]
    epochs: int = 0
    remarks: tuple[str, ...] = ()
    builds: int = 0
