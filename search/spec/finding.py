"""What a check of a study found. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["ok", "look", "stop"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one check.

    Attributes:
        name: of the check.
        level: "ok"; "look": probably not meant; "stop": a search would be wasted.
        text: what was measured, in words.
        advice: what to do; "" if nothing.
        numbers: the same as `text`, for programs.
    """

    name: str
    level: Level
    text: str
    advice: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """Its name, text and advice, as one line."""
        return "; ".join(filter(None, (f"{self.name}: {self.text}", self.advice)))
