"""The three types of parameter: `Float`, `Int` and `Choice`. Each is a value that checks itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from spaces.shown import shown

Condition: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Parent parameter -> its values for which a parameter is active."""

# A larger grid is surely a mistake, and listing it would use up the memory. No range lists more values, either.
MAX_GRID_CONFIGS = 100_000

# A message lists at most so many values of a choice.
_LISTED = 20

# Float64 can't represent all larger whole numbers, and Optuna's samplers draw float64 values.
MAX_WHOLE = 2**53


class SpaceError(ValueError):
    """A parameter or space that can't be searched; `key` is the wrong part of it, below its name."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Float:
    """A real parameter in [low, high]; `log` draws its logarithm evenly, `step` draws from low, low + step ..."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_bounds(self.low, self.high, log=self.log)
        if self.step is None:
            return
        if self.log:
            raise SpaceError("step and log can't be used together; received both; drop one", "step")
        if not (math.isfinite(self.step) and self.step > 0):
            raise SpaceError(f"step must be above 0; received {self.step}", "step")
        steps = (self.high - self.low) / self.step
        is_one = math.isclose(steps, 1, abs_tol=1e-8)  # rounding: 64.1 - 64.0 is slightly less than 0.1
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
        """List the values of a stepped parameter, or `points` evenly spread ones; None if they can't be listed."""
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
            raise SpaceError(f"must be a number; received {shown(value)}")
        if not self.low <= value <= self.high:
            raise SpaceError(f"must lie in {self.low}..{self.high}; received {shown(value)}")
        if self.step is not None and not self._is_on_step(value):
            raise SpaceError(f"must lie in {self.low}..{self.high} in steps of {self.step}; received {shown(value)}")
        # Use the value of the step: the user writes 0.3, while three steps of 0.1 are 0.30000000000000004.
        return float(value) if self.step is None else self.at(round(self.index(value)))

    @property
    def count(self) -> int | None:
        """How many values it has; None without a step."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    @property
    def divides(self) -> bool:
        """Whether `step` divides high - low exactly, in decimals as Optuna computes; True without a step.

        A third as 0.3333333333 doesn't: the study file may round it, and `_is_on_step` tolerates that.
        """
        if self.step is None:
            return True
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return (high - low) % step == 0

    def at(self, index: int) -> float:
        """Return the value so many steps above `low`."""
        # Clip: 3 * 0.1 is above 0.3, which Optuna would refuse as out of range.
        return min(self.low + index * (self.step or 0.0), self.high)

    def nearest(self, value: float) -> float:
        """Return the listed value that is nearest to `value`; `value` itself without a step."""
        if (count := self.count) is None:
            return value
        return self.at(min(max(round(self.index(value)), 0), count - 1))

    def index(self, value: float) -> float:
        """Return how many steps above `low` a value lies: a whole number up to rounding."""
        return (value - self.low) / (self.step or 1.0)

    def _is_on_step(self, value: float) -> bool:
        """Return whether `value` is low plus whole steps, up to rounding in float64 and in what users write."""
        index = self.index(value)
        rounding = 4 * math.ulp(max(abs(self.low), abs(self.high), self.high - self.low)) / (self.step or 1.0)
        return abs(index - round(index)) <= max(1e-8, min(1e-9 * index, 0.01), rounding)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole-number parameter in [low, high]; `log` draws its logarithm evenly, `step` draws from low, low + step ..."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        _make_plain(self)
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

    def values(self, points: int | None = None) -> list[int] | None:  # noqa: ARG002 (one signature for all types)
        """List all values; None if there are too many to list."""
        return list(range(self.low, self.high + 1, self.step)) if self.count <= MAX_GRID_CONFIGS else None

    def middle(self) -> int:
        """Return the value in the middle of the range, on the parameter's own scale."""
        if self.log:
            return round(math.sqrt(self.low * self.high))
        return self.low + (self.high - self.low) // self.step // 2 * self.step

    def check(self, value: Any) -> int:
        """Return `value` as this parameter holds it; SpaceError if it is not in the range."""
        if not is_number(value) or value != int(value):
            raise SpaceError(f"must be a whole number; received {shown(value)}")
        if not self.low <= value <= self.high or (int(value) - self.low) % self.step:
            steps = "" if self.step == 1 else f" in steps of {self.step}"
            raise SpaceError(f"must lie in {self.low}..{self.high}{steps}; received {shown(value)}")
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
    """One of several values: texts, numbers, booleans, lists or tables. A *param* is a value, with the latter two as JSON."""

    choices: tuple[Any, ...]
    when: Condition = field(default_factory=dict)
    _by_param: dict[Any, Any] = field(init=False, repr=False, compare=False)

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
        by_param: dict[Any, Any] = {}
        for choice in self.choices:
            param = self.param_of(choice)
            if param in by_param:
                raise SpaceError(f"each value may stand once; received {shown(param)} twice", "choices")
            by_param[param] = choice
        object.__setattr__(self, "_by_param", by_param)

    @staticmethod
    def param_of(value: Any) -> Any:
        """Return the param of `value` for Optuna and tables: lists and tables become JSON."""
        return json.dumps(value) if isinstance(value, list | dict) else value

    def value_of(self, param: Any) -> Any:
        """Return the value with this param."""
        if param not in self._by_param:
            raise SpaceError(f"no such choice: {param!r}")
        return self._by_param[param]

    def values(self, points: int | None = None) -> list[Any]:  # noqa: ARG002
        """List the params of all choices."""
        return list(self._by_param)

    def middle(self) -> Any:
        """Return the param of the first choice: users write their usual value first."""
        return self.param_of(self.choices[0])

    def check(self, value: Any) -> Any:
        """Return the param of `value`; SpaceError if it is not one of the choices."""
        try:
            param = self.param_of(self._by_param[self.param_of(value)])
        except (KeyError, TypeError, ValueError):
            param = None
        # 1 == True in Python, but they are different values in a study file.
        if param is None or isinstance(param, bool) != isinstance(value, bool):
            raise SpaceError(f"must be one of {self._listed()}; received {shown(value)}")
        return param

    def _listed(self) -> str:
        params = self.values()
        if len(params) <= _LISTED:
            return shown(params)
        return f"{', '.join(map(shown, params[:_LISTED]))} ... ({len(params):,} values)"


Parameter: TypeAlias = Float | Int | Choice


def _make_plain(parameter: Float | Int) -> None:
    """Replace NumPy's numbers by Python's, which JSON stores."""
    for key in ("low", "high", "step"):
        value = getattr(parameter, key)
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            object.__setattr__(parameter, key, value.item())


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
    """Return whether `value` is a number that is finite in float64; booleans are not numbers."""
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
    """Raise SpaceError if JSON can't store a choice, because it holds a date, an inf or a nan."""
    try:
        # Scalars are checked without JSON for speed: there may be thousands of them.
        is_finite = bool(json.dumps(choice, allow_nan=False)) if isinstance(choice, list | dict) else _is_finite(choice)
    except ValueError:
        is_finite = False
    except TypeError:
        raise SpaceError(
            f"lists and tables in a choice hold texts, numbers and booleans; received {shown(choice)}", "choices"
        ) from None
    if not is_finite:
        raise SpaceError(f"the values of a choice must be finite; received {shown(choice)}", "choices")
    if not isinstance(choice, bool) and isinstance(choice, int) and abs(choice) > MAX_WHOLE:
        raise SpaceError(f"whole numbers must lie within -2^53..2^53; received {shown(choice)}", "choices")
