"""What was guessed, for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guess:
    """A guess: of what, which, why, and how to say otherwise, as a clause.

    Attributes:
        key, comment: a key of the study file, such as "data.scale", and what its comment says instead of the usual one.
    """

    what: str
    value: str
    why: str
    otherwise: str
    key: str = ""
    comment: str = ""


def of_quantities(which: str, otherwise: str) -> Guess:
    """Return the guess that whole numbers which float32 would round are quantities, and no ids; `which` they are."""
    return Guess(
        "warning",
        f"whole numbers above 16777216 are taken for quantities and standardised: {which}",
        "float32 would round them as they are",
        f"if they are ids, {otherwise}",
        "data.scale",
        f"standardised, also whole numbers that float32 would round: {which}; if they are ids, {otherwise}",
    )
