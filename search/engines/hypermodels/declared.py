"""Hyperparameters as a builder in KerasTuner's form declares them. Nothing here imports keras or keras_tuner.

Values, defaults and errors follow keras_tuner 1.4.8, engine/hyperparameters/hp_types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from search.spec.settings import MOST_EPOCHS, TrainSection
from search.spec.vocabulary import TRAIN_NUMBERS, TRAIN_PARAMETERS, optimizer_class

# A range in more multiplied steps than this has no list of values.
MOST_LISTED = 10_000

SAMPLINGS = ("linear", "log", "reverse_log")

# Names that mean something else in [space].
_RESERVED = {"use"} | (set(TrainSection.model_fields) - TRAIN_PARAMETERS)


@dataclass(frozen=True, slots=True)
class Parent:
    """A condition: another hyperparameter has one of these values."""

    name: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, values: Any) -> Parent:
        """Return the condition with its values as KerasTuner converts them; TypeError for values of another type."""
        listed = list(values) if isinstance(values, list | tuple) else [values]
        if not listed:
            raise ValueError(f"the conditional scope of {name!r} needs at least one parent value; received none")
        first = listed[0]
        if isinstance(first, str):
            listed = [str(value) for value in listed]
        elif isinstance(first, int) and not isinstance(first, bool):
            listed = [int(value) for value in listed]
        elif not isinstance(first, bool | float):
            raise TypeError(f"parent values are int, float, str or bool; received {listed} of {type(first)}")
        return cls(name, tuple(listed))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether the active `values` fulfil this condition."""
        return self.name in values and values[self.name] in self.values


@dataclass(frozen=True)
class Declared:
    """A hyperparameter. Its name and its conditions identify it.

    Attributes:
        kind: "Int", "Float", "Choice", "Boolean" or "Fixed".
        listed: its values in order; None if there are too many to list, or real numbers between two bounds.
        low, high, log, step: of a range that is searched as a range; step 0 for every real number.
        is_range: whether it is searched as a range, and not as a list of values.
        remark: what the search does otherwise than KerasTuner; "" if nothing.
    """

    kind: str
    name: str
    default: Any
    conditions: tuple[Parent, ...] = ()
    listed: tuple[Any, ...] | None = None
    low: float = 0
    high: float = 0
    step: float = 0
    log: bool = False
    is_range: bool = False
    remark: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, tuple[Parent, ...]]:
        """What KerasTuner tells hyperparameters apart by."""
        return self.name, self.conditions

    @property
    def is_single(self) -> bool:
        """Whether it has one value only."""
        return self.listed is not None and len(self.listed) == 1

    def entry(self) -> dict[str, Any]:
        """Return it as an entry of [space]."""
        if not self.is_range:
            assert self.listed is not None  # noqa: S101 (only ranges are not listed)
            return {"choices": list(self.listed)}
        table: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.log:
            table["log"] = True
        if self.step not in (0, 1) or (self.step and self.kind == "Float"):
            table["step"] = self.step
        return table

    def exact(self, value: Any) -> Any:
        """Return a drawn value in the type, and to the last digit, of KerasTuner's own."""
        if self.kind == "Float" and self.is_range:
            if not self.step:
                return float(value)
            return self.low + round((value - self.low) / self.step) * self.step
        return int(value) if self.kind == "Int" else value

    def probes(self, most: int) -> list[Any]:
        """Return at most `most` values that are spread over all of them, both ends and the default included."""
        if self.listed is None:
            shares = [index / (most - 2) for index in range(most - 1)]
            values = [self._at(share) for share in shares]
        elif len(self.listed) <= most:
            return list(self.listed)
        else:
            last = len(self.listed) - 1
            values = [self.listed[round(index * last / (most - 2))] for index in range(most - 1)]
        return list(dict.fromkeys([*values, self.default]))

    def _at(self, share: float) -> Any:
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        if self.kind == "Int":
            return int(self.low + (value - self.low) // (self.step or 1) * (self.step or 1))
        return self.exact(value)

    def key(self) -> str:
        """Return the name of its parameter: its own, unless [space] can't have that name.

        Training itself reads some names, such as `optimizer`. Values that training would not take get another name.
        """
        name = re.sub(r"\W", "_", self.name)
        if not name.isidentifier():
            name = f"_{name}"
        return f"{name}_" if name in _RESERVED or not self._is_trainable_as(name) else name

    def _is_trainable_as(self, name: str) -> bool:
        if name not in TRAIN_PARAMETERS:
            return True
        values: Iterable[Any] = (self.low, self.high) if self.listed is None else self.listed
        values = list(values)
        try:
            if name == "optimizer":
                names = [optimizer_class(value) for value in values]
                return len(set(names)) == len(names)
            for value in values:
                if name in TRAIN_NUMBERS:
                    TRAIN_NUMBERS[name].check(name, value)
        except (ValueError, AttributeError):
            return False
        return name in TRAIN_NUMBERS or all(type(value) is int and 1 <= value <= MOST_EPOCHS for value in values)


def fixed(name: str, value: Any, conditions: tuple[Parent, ...]) -> Declared:
    """Declare a value that is not searched."""
    return Declared("Fixed", name, value, conditions, (value,))


def boolean(name: str, default: Any, conditions: tuple[Parent, ...]) -> Declared:
    """Declare False or True."""
    if default not in (True, False):
        raise ValueError(f"`default` must be True or False; received {default!r} for {name!r}")
    return Declared("Boolean", name, bool(default), conditions, (False, True))


def choice(name: str, values: Any, ordered: Any, default: Any, conditions: tuple[Parent, ...]) -> Declared:
    """Declare one of several values; ValueError or TypeError where KerasTuner raises it."""
    values = list(values) if values is not None else []
    if not values:
        raise ValueError(f"`values` must be provided for `Choice`; received none for {name!r}")
    kinds = {type(value) for value in values}
    if len(kinds) > 1:
        raise TypeError(f"a `Choice` can contain only one type of value; received {values} for {name!r}")
    # Booleans become 0 and 1: KerasTuner's check for int comes first.
    kind = next((kind for kind in (str, int, float) if isinstance(values[0], kind)), None)
    if kind is None:
        raise TypeError(f"a `Choice` can contain only int, float, str or bool; received {values} for {name!r}")
    values = [kind(value) for value in values]
    if default is not None:
        default = kind(default) if kind is not float else default
        if default not in values:
            raise ValueError(f"the default should be one of the choices; received {default!r} of {values} for {name!r}")
    if ordered and kind is str:
        raise ValueError(f"`ordered` must be False for choices that are not numbers; received {ordered!r} for {name!r}")
    listed = tuple(dict.fromkeys(values))
    remarks = []
    if len(listed) < len(values):
        remarks.append("it lists a value twice, which is drawn here as often as any other")
    if ordered is False and kind is not str and len(listed) > 2:
        remarks.append("ordered = False is not kept: samplers take numbers as ordered")
    return Declared(
        "Choice", name, values[0] if default is None else default, conditions, listed, remark="; ".join(remarks)
    )


def integer(
    name: str, bounds: tuple[Any, Any], step: Any, sampling: Any, default: Any, conditions: tuple[Parent, ...]
) -> Declared:
    """Declare a whole number of bounds[0]..bounds[1], both included; ValueError where KerasTuner raises it."""
    low, high = _whole(bounds[0], "min_value", name), _whole(bounds[1], "max_value", name)
    sampling = _sampling(sampling, name, low, high, step)
    step = _whole(step, "step", name) if step is not None else 1 if sampling == "linear" else None
    default = low if default is None else default
    if step is not None and step <= 0:
        raise ValueError(f"`step` must be above 0; received {step} for {name!r}")
    if step is not None and sampling != "linear":
        listed = tuple(dict.fromkeys(int(value) for value in _multiplied(low, high, step, sampling, name)))
        return Declared("Int", name, default, conditions, listed)
    by = step or 1
    count = (high - low) // by + 1
    remark = _reverse_remark(sampling)
    top = low + (count - 1) * by
    values = tuple(range(low, top + 1, by)) if count <= MOST_LISTED else None
    return Declared(
        "Int", name, default, conditions, values, low, top, by, log=sampling == "log", is_range=True, remark=remark
    )  # fmt: skip


def real(
    name: str, bounds: tuple[Any, Any], step: Any, sampling: Any, default: Any, conditions: tuple[Parent, ...]
) -> Declared:
    """Declare a real number of bounds[0]..bounds[1]; ValueError where KerasTuner raises it."""
    low, high = float(bounds[0]), float(bounds[1])
    sampling = _sampling(sampling, name, low, high, step)
    default = low if default is None else default
    if step is None:
        single = (low,) if low == high else None
        return Declared(
            "Float", name, default, conditions, single, low, high, log=sampling == "log", is_range=True,
            remark=_reverse_remark(sampling),
        )  # fmt: skip
    step = float(step)
    if step <= 0:
        raise ValueError(f"`step` must be above 0; received {step} for {name!r}")
    if sampling != "linear":
        return Declared("Float", name, default, conditions, tuple(_multiplied(low, high, step, sampling, name)))
    count = int((high - low) // step + 1)
    if count == 1:
        return Declared("Float", name, default, conditions, (low,), low, low, step, is_range=True)
    listed = tuple(low + index * step for index in range(count)) if count <= MOST_LISTED else None
    # In decimals: 3 steps of 0.1 end at 0.3.
    top = float(Decimal(str(low)) + (count - 1) * Decimal(str(step)))
    remark = ""
    if math.isclose(top + step, high, rel_tol=1e-9):
        rounded = "as (max_value - min_value) // step rounds down"
        remark = f"its max_value {high} is never drawn, {rounded}: so it is in KerasTuner"
    return Declared("Float", name, default, conditions, listed, low, top, step, is_range=True, remark=remark)


def _reverse_remark(sampling: str) -> str:
    return "sampling = 'reverse_log' is drawn as 'linear': the same values, but not as many near max_value" * (
        sampling == "reverse_log"
    )


def _multiplied(low: float, high: float, step: float, sampling: str, name: str) -> Sequence[float]:
    """Return low, low * step, low * step^2 ..., or for "reverse_log" their mirror images."""
    count = int(math.log(high / low, step) + 1e-8) + 1
    if count > MOST_LISTED:
        raise ValueError(f"`step` = {step} makes {count:,} values of {name!r}; at most {MOST_LISTED:,} can be listed")
    values = [low * math.pow(step, index) for index in range(count)]
    return values if sampling == "log" else [high + low - value for value in values]


def _whole(value: Any, argument: str, name: str) -> int:
    if int(value) != value:
        raise ValueError(f"{argument} must be an int; received {value!r} of {type(value)} for {name!r}")
    return int(value)


def _sampling(sampling: Any, name: str, low: float, high: float, step: Any) -> str:
    if low > high:
        raise ValueError(f"min_value {low} is greater than max_value {high} for {name!r}")
    sampling = "linear" if sampling is None else str(sampling).lower()
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}; received {sampling!r} for {name!r}")
    if sampling != "linear" and low <= 0:
        raise ValueError(f"sampling = {sampling!r} needs min_value above 0; received {low} for {name!r}")
    if sampling != "linear" and step is not None and step <= 1:
        raise ValueError(f"sampling = {sampling!r} needs a step above 1; received {step} for {name!r}")
    return str(sampling)
