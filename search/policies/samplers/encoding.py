"""A space as numbers: each config is a point of the unit cube, and has features that distances are measured between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces import Choice, Float, Int, Parameter, Space, is_number

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One parameter on [0, 1]: a uniform draw there is a uniform draw on the parameter's own scale.

    Attributes:
        count: how many values it has, each with an equal share of [0, 1]; 0 for logarithmic ranges and those without steps.
        choices: the params of a choice, in order; `positions`: param -> its index there.
        is_ordered: whether neighbouring values are alike. Choices that are all numbers are sorted; any two values of another
            choice differ by the same distance.
        low, high: the ends of a range with count 0, as logarithms if it is logarithmic.
    """

    parameter: Parameter
    count: int = 0
    choices: tuple[Any, ...] = ()
    positions: Mapping[Any, int] = field(default_factory=dict)
    is_ordered: bool = True
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, parameter: Parameter) -> _Axis:
        if isinstance(parameter, Choice):
            choices = parameter.values()
            is_ordered = len(choices) > 1 and all(map(is_number, choices))
            choices = sorted(choices) if is_ordered else choices
            positions = {param: position for position, param in enumerate(choices)}
            return cls(parameter, len(choices), tuple(choices), positions, is_ordered)
        if not parameter.log and (count := parameter.count) is not None:
            return cls(parameter, count)
        if isinstance(parameter, Float):
            ends = (parameter.low, parameter.high)
        else:  # the whole numbers at the ends have a full share, too
            ends = (parameter.low - 0.5, parameter.high + 0.5)
        low, high = (math.log(end) for end in ends) if parameter.log else ends
        return cls(parameter, low=low, high=high)

    @property
    def is_log(self) -> bool:
        return not isinstance(self.parameter, Choice) and self.parameter.log

    def indices(self, u: Array) -> Array:
        """Return the indices of the values at points `u`, as floats."""
        return np.minimum(np.floor(u * self.count), self.count - 1)

    def snapped(self, u: Array) -> Array:
        """Move points to the nearest ones that are exactly a value."""
        if self.count:
            middles: Array = (self.indices(u) + 0.5) / self.count
            return middles
        parameter = self.parameter
        if not isinstance(parameter, Int):
            return u
        # Clip: the range was widened by 0.5 at each end, which may round to a number outside.
        whole = np.clip(np.rint(np.exp(self.low + (self.high - self.low) * u)), parameter.low, parameter.high)
        moved: Array = (np.log(whole) - self.low) / (self.high - self.low)
        return moved

    def value(self, u: float) -> Any:
        parameter = self.parameter
        if self.count:
            index = min(int(u * self.count), self.count - 1)
            return self.choices[index] if isinstance(parameter, Choice) else parameter.at(index)
        assert not isinstance(parameter, Choice)  # noqa: S101 (a choice has a count)
        # Ends are often drawn, and exp(log(x)) may differ from x in its last digit.
        if isinstance(parameter, Float) and u in (0, 1):
            return parameter.high if u else parameter.low
        value = self.low + (self.high - self.low) * u
        value = math.exp(value) if self.is_log else value
        # Clip: rounding may put a value near an end out of range by its last digit.
        return min(max(round(value) if isinstance(parameter, Int) else value, parameter.low), parameter.high)

    def point(self, param: Any) -> float:
        if self.count:
            parameter = self.parameter
            index = self.positions[param] if isinstance(parameter, Choice) else parameter.index(param)
            if isinstance(parameter, Float) and not parameter.divides:
                index = round(index)  # the top value, too, which may lie beside its step
            return float((index + 0.5) / self.count)
        return float(((math.log(param) if self.is_log else param) - self.low) / (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of features, by parameter. Parameters are counted from 0.

    Attributes:
        groups: of shape (f,), the parameter of each column, in order.
        ranges: the parameters with one column from 0 to 1 along a range or a list of numbers: only these are warped.
        unordered: the parameters with one column that holds the index of a choice's value, -1 where it is inactive.
    """

    groups: NDArray[np.intp]
    ranges: NDArray[np.intp]
    unordered: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @property
    def columns(self) -> NDArray[np.intp]:
        """The columns of `ranges`."""
        return np.searchsorted(self.groups, self.ranges)

    @property
    def unordered_columns(self) -> NDArray[np.intp]:
        """The columns of `unordered`."""
        return np.searchsorted(self.groups, self.unordered)


class Encoding:
    """Configs of a space as rows of numbers.

    A *point* is a row of [0, 1]^d: one number per parameter, 0 for an inactive one. *Features* are rows that distances are
    measured between (`gaussian_process.squared_distances`); `layout` describes their columns. `unordered` are the
    parameters whose values are all equally far apart.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._axes = {name: _Axis.of(parameter) for name, parameter in space.items()}
        self.unordered = [k for k, axis in enumerate(self._axes.values()) if not axis.is_ordered]
        on_arcs = [axis.is_ordered and bool(space[name].when) for name, axis in self._axes.items()]
        ranges = [k for k, axis in enumerate(self._axes.values()) if axis.is_ordered and not on_arcs[k]]
        self.layout = Layout(
            np.repeat(np.arange(len(space)), [2 if on_arc else 1 for on_arc in on_arcs]),
            np.array(ranges, np.intp),
            np.array(self.unordered, np.intp),
        )
        # (parameter, parent) -> for each value of the parent, whether it activates the parameter.
        self._activates = {
            (name, parent): np.array([param in values for param in self._axes[parent].choices])
            for name in space
            for parent, values in space.condition(name).items()
        }

    def __len__(self) -> int:
        return len(self._axes)

    def params(self, point: Sequence[float] | Array, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the params at a point; those in `given` replace the point's own."""
        params: dict[str, Any] = {}
        for u, (name, axis) in zip(point, self._axes.items(), strict=True):
            if self._space.is_active(name, params):
                params[name] = given[name] if given and name in given else axis.value(float(u))
        return params

    def point(self, params: Mapping[str, Any]) -> Array:
        """Return the point of a config."""
        return np.array([axis.point(params[name]) if name in params else 0.0 for name, axis in self._axes.items()])

    def snapped(self, points: Array) -> Array:
        """Move points of shape (n, d) to the nearest ones of configs, with 0 for inactive parameters."""
        moved = np.column_stack([axis.snapped(points[:, k]) for k, axis in enumerate(self._axes.values())])
        return np.where(self._active(moved), moved, 0.0)

    def features(self, points: Array) -> Array:
        """Return the features of snapped points of shape (n, d).

        Two values of a choice are at distance 1, as are the ends of a range. A config without the choice is at squared
        distance 0.5 from each of its values. A conditional range has two columns: its values lie on an arc around the origin.
        Configs without it are at the origin, equally far from all values. Source: Swersky et al. 2014 (arXiv:1409.4011).
        """
        active = self._active(points)
        columns = []
        for k, (name, axis) in enumerate(self._axes.items()):
            u = points[:, k]
            if not axis.is_ordered:
                columns.append(np.where(active[:, k], axis.indices(u), -1.0)[:, None])
            elif self._space[name].when:
                arc = np.column_stack([np.sin(u * math.pi / 2), np.cos(u * math.pi / 2)]) * math.sqrt(0.5)
                columns.append(arc * active[:, [k]])
            else:
                columns.append(u[:, None])
        return np.concatenate(columns, axis=1)

    def _active(self, points: Array) -> NDArray[np.bool_]:
        active = np.ones(points.shape, dtype=bool)
        order = {name: k for k, name in enumerate(self._axes)}
        for name, k in order.items():
            for parent, values in self._space.condition(name).items():
                axis, column = self._axes[parent], order[parent]
                if axis.choices:
                    holds = self._activates[name, parent][axis.indices(points[:, column]).astype(np.intp)]
                else:
                    holds = np.array([axis.value(u) in values for u in points[:, column]])
                active[:, k] &= active[:, column] & holds
        return active
