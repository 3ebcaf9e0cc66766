"""The three kinds of parameter a space is made of, each a value that checks itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Condition: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Parent parameter -> the values of it under which a parameter is drawn at all."""

# A grid of more points than this is nobody's intention, and listing it would take all memory.
MAX_GRID_CONFIGS = 100_000

# A message lists so many of the values of a choice.
_LISTED = 20

# Beyond it whole numbers and 64-bit reals part ways, and Optuna's samplers draw reals.
MAX_WHOLE = 2**53


class SpaceError(ValueError):
    """A parameter or space that can't be searched; `key` says which part of it, below its name."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Float:
    """A real parameter in [low, high]; `log` draws its exponent evenly, `step` draws from low, low + step ..."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        if self.step is None:
            return
        if self.log:
            raise SpaceError("step and log can't be used together; received both; drop one", "step")
        if not (math.isfinite(self.step) and self.step > 0):
            raise SpaceError(f"step must be above 0; received {self.step}", "step")
        steps = (self.high - self.low) / self.step
        is_one = math.isclose(steps, 1, abs_tol=1e-8)  # 64.1 - 64.0 is a little less than 0.1
        if not (1 <= steps <= MAX_WHOLE or is_one):
            fault = "at most high - low" if steps < 1 else "larger beside high - low"
            raise SpaceError(f"step must be {fault}; received {self.step} for {self.low}..{self.high}", "step")
        if not self._is_on_step(self.high):
            raise SpaceError(
                f"step must divide high - low; received {self.step} for {self.low}..{self.high}; "
                f"use high = {self.low + math.floor(steps) * self.step:.10g}",
                "step",
            )

    def values(self, points: int | None = None) -> list[float] | None:
        """List the values of a stepped parameter, or `points` evenly spread ones; None if it has no end of them."""
        if (count := self.count) is not None:
            return [self.at(i) for i in range(count)] if count <= MAX_GRID_CONFIGS else None
        if points is None:
            return None
        shares = [i / (points - 1) for i in range(1, points - 1)]
        if self.log:
            between = [self.low ** (1 - share) * self.high**share for share in shares]
        else:
            between = [self.low + (self.high - self.low) * share for share in shares]
        return [self.low, *between, self.high]

    def middle(self) -> float:
        """Return the value in the middle of the range, on the parameter's own scale."""
        if self.step is not None:
            return self.at(round((self.high - self.low) / self.step / 2))
        return math.sqrt(self.low) * math.sqrt(self.high) if self.log else self.low / 2 + self.high / 2

    def check(self, value: Any) -> float:
        """Return `value` as this parameter holds it; SpaceError if it is not in the range."""
        if not is_number(value):
            raise SpaceError(f"must be a number; received {value!r}")
        if not self.low <= value <= self.high:
            raise SpaceError(f"must lie in {self.low}..{self.high}; received {value!r}")
        if self.step is not None and not self._is_on_step(value):
            raise SpaceError(f"must lie in {self.low}..{self.high} in steps of {self.step}; received {value!r}")
        # 0.3 is meant where the third step of 0.1 comes to 0.30000000000000004.
        return float(value) if self.step is None else self.at(round(self.index(value)))

    @property
    def count(self) -> int | None:
        """How many values it has; None without a step."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def at(self, index: int) -> float:
        """Return the value so many steps above `low`."""
        # 3 * 0.1 is above 0.3, and Optuna would find it out of range.
        return min(self.low + index * (self.step or 0.0), self.high)

    def index(self, value: float) -> float:
        """Return how many steps above `low` a value lies: a whole number but for rounding."""
        return (value - self.low) / (self.step or 1.0)

    def _is_on_step(self, value: float) -> bool:
        """Tell whether `value` is low plus whole steps, to the digits that people write and that 64 bits hold."""
        index = self.index(value)
        rounding = 4 * math.ulp(max(abs(self.low), abs(self.high), self.high - self.low)) / (self.step or 1.0)
        return abs(index - round(index)) <= max(1e-8, min(1e-9 * index, 0.01), rounding)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole-number parameter in [low, high]; `log` draws its exponent evenly, `step` thins it out."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        if self.step < 1:
            raise SpaceError(f"step must be at least 1; received {self.step}", "step")
        if self.log and self.step != 1:
            raise SpaceError("step and log can't be used together; received both; drop one", "step")
        if self.step > self.high - self.low:
            raise SpaceError(
                f"step must be at most high - low; received {self.step} for {self.low}..{self.high}", "step"
            )
        if (self.high - self.low) % self.step:
            fitting = self.high - (self.high - self.low) % self.step
            raise SpaceError(
                f"step must divide high - low; received {self.step} for {self.low}..{self.high}; use high = {fitting}",
                "step",
            )

    def values(self, points: int | None = None) -> list[int] | None:  # noqa: ARG002 (one signature for all kinds)
        """List all values, or None if there are too many to try each."""
        return list(range(self.low, self.high + 1, self.step)) if self.count <= MAX_GRID_CONFIGS else None

    def middle(self) -> int:
        """Return the value in the middle of the range, on the parameter's own scale."""
        if self.log:
            return round(math.sqrt(self.low * self.high))
        return self.low + (self.high - self.low) // self.step // 2 * self.step

    def check(self, value: Any) -> int:
        """Return `value` as this parameter holds it; SpaceError if it is not in the range."""
        if not is_number(value) or value != int(value):
            raise SpaceError(f"must be a whole number; received {value!r}")
        if not self.low <= value <= self.high or (int(value) - self.low) % self.step:
            steps = "" if self.step == 1 else f" in steps of {self.step}"
            raise SpaceError(f"must lie in {self.low}..{self.high}{steps}; received {value!r}")
        return int(value)

    @property
    def count(self) -> int:
        """How many values it has."""
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> int:
        """Return the value so many steps above `low`."""
        return self.low + index * self.step

    def index(self, value: float) -> float:
        """Return how many steps above `low` a value lies."""
        return (value - self.low) / self.step


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values: texts, numbers, booleans, or lists and tables of them."""

    choices: tuple[Any, ...]
    when: Condition = field(default_factory=dict)
    _by_label: dict[Any, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.choices:
            raise SpaceError("a choice needs at least one value; received an empty list", "choices")
        kinds = {_kind(choice) for choice in self.choices}
        if len(kinds) > 1:
            raise SpaceError(
                f"the values of a choice must be of one kind; received {', '.join(sorted(kinds))}", "choices"
            )
        for choice in self.choices:
            _check_plain(choice)
        by_label: dict[Any, Any] = {}
        for choice in self.choices:
            label = self.label(choice)
            if label in by_label:
                raise SpaceError(f"each value may stand once; received {label!r} twice", "choices")
            by_label[label] = choice
        object.__setattr__(self, "_by_label", by_label)

    @staticmethod
    def label(value: Any) -> Any:
        """Return the plain value that stands for `value` in Optuna and in tables: lists and tables as JSON."""
        return json.dumps(value) if isinstance(value, list | dict) else value

    def value_of(self, label: Any) -> Any:
        """Return the choice that `label` stands for."""
        if label not in self._by_label:
            raise SpaceError(f"no such choice: {label!r}")
        return self._by_label[label]

    def values(self, points: int | None = None) -> list[Any]:  # noqa: ARG002
        """List the labels of all choices."""
        return list(self._by_label)

    def middle(self) -> Any:
        """Return the label of the first choice: people name their usual value first."""
        return self.label(self.choices[0])

    def check(self, value: Any) -> Any:
        """Return the label of `value`; SpaceError if it is none of the choices."""
        try:
            known = self.label(self._by_label[self.label(value)])
        except (KeyError, TypeError, ValueError):
            known = None
        # 1 and True are equal in Python and not in a study file.
        if known is None or isinstance(known, bool) != isinstance(value, bool):
            raise SpaceError(f"must be one of {self._listed()}; received {value!r}")
        return known

    def _listed(self) -> str:
        labels = self.values()
        if len(labels) <= _LISTED:
            return str(labels)
        return f"{', '.join(map(repr, labels[:_LISTED]))} ... ({len(labels):,} values)"


Parameter: TypeAlias = Float | Int | Choice


def _check_bounds(low: float, high: float, *, log: bool) -> None:
    for key, bound in (("low", low), ("high", high)):
        if not is_number(bound):
            raise SpaceError(f"bounds must be finite; received {bound}", key)
        if isinstance(bound, int) and abs(bound) > MAX_WHOLE:
            raise SpaceError(f"whole bounds must lie within -2^53..2^53; received {bound}", key)
    if low >= high:
        hint = "; a parameter of one value is fixed: write it under [train] or [model]" if low == high else ""
        raise SpaceError(f"low must be below high; received {low}..{high}{hint}", "low")
    if not math.isfinite(high - low):
        raise SpaceError(f"high - low must be finite; received {low}..{high}", "low")
    if log and low <= 0:
        raise SpaceError(f"log needs low above 0; received {low}", "low")


def is_number(value: Any) -> bool:
    """Tell whether `value` is finite, as a 64-bit real too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _kind(value: Any) -> str:
    for kind, types in (("booleans", bool), ("numbers", (int, float)), ("texts", str), ("lists", list)):
        if isinstance(value, types):
            return kind
    if isinstance(value, dict):
        return "tables"
    raise SpaceError(
        f"a choice is a text, number, boolean, list or table; received a {type(value).__name__}", "choices"
    )


def _check_plain(choice: Any) -> None:
    """Make sure that a choice can be stored as JSON: that no list in it holds a date, an inf or a nan."""
    try:
        # Scalars are not written out: there may be thousands of them.
        is_finite = bool(json.dumps(choice, allow_nan=False)) if isinstance(choice, list | dict) else _is_finite(choice)
    except ValueError:
        is_finite = False
    except TypeError:
        raise SpaceError(
            f"lists and tables in a choice hold texts, numbers and booleans; received {choice}", "choices"
        ) from None
    if not is_finite:
        raise SpaceError(f"the values of a choice must be finite; received {choice}", "choices")
    if not isinstance(choice, bool) and isinstance(choice, int) and abs(choice) > MAX_WHOLE:
        raise SpaceError(f"whole numbers must lie within -2^53..2^53; received {choice}", "choices")
