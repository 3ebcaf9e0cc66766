"""A space as numbers: every config a point of the unit cube, and the distances between configs that a process sees."""

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
    """One parameter on [0, 1], so that a point drawn evenly there is a value drawn evenly on the parameter's own scale.

    Attributes:
        count: how many values it has, each with an equal share of [0, 1]. 0: a range without steps or a logarithmic one.
        labels: those of a choice, in their order.
        is_ordered: whether neighbours are alike. Choices that are all numbers are sorted, for 32 lies between 16 and 64; of
            other choices any two differ by as much as any others.
        low, high: ends of a range that is not counted, its logarithms if it is logarithmic.
    """

    parameter: Parameter
    count: int = 0
    labels: tuple[Any, ...] = ()
    places: Mapping[Any, int] = field(default_factory=dict)
    is_ordered: bool = True
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, parameter: Parameter) -> _Axis:
        if isinstance(parameter, Choice):
            labels = parameter.values()
            is_ordered = len(labels) > 1 and all(is_number(label) for label in labels)
            labels = sorted(labels) if is_ordered else labels
            places = {label: place for place, label in enumerate(labels)}
            return cls(parameter, len(labels), tuple(labels), places, is_ordered)
        # However many there are: a step is kept, and listed is nothing.
        if not parameter.log and (count := parameter.count) is not None:
            return cls(parameter, count)
        if isinstance(parameter, Float):
            ends = (parameter.low, parameter.high)
        else:  # each whole number has its share, those at the ends, too
            ends = (parameter.low - 0.5, parameter.high + 0.5)
        low, high = (math.log(end) for end in ends) if parameter.log else ends
        return cls(parameter, low=low, high=high)

    @property
    def is_log(self) -> bool:
        return not isinstance(self.parameter, Choice) and self.parameter.log

    def indices(self, u: Array) -> Array:
        """Return which of its values points stand for, as whole numbers from 0."""
        return np.minimum(np.floor(u * self.count), self.count - 1)

    def snapped(self, u: Array) -> Array:
        """Move points to the nearest that stand for a value."""
        if self.count:
            middles: Array = (self.indices(u) + 0.5) / self.count
            return middles
        parameter = self.parameter
        if not isinstance(parameter, Int):
            return u
        # Half a number at each end is one rounding away from what is out of range.
        whole = np.clip(np.rint(np.exp(self.low + (self.high - self.low) * u)), parameter.low, parameter.high)
        moved: Array = (np.log(whole) - self.low) / (self.high - self.low)
        return moved

    def value(self, u: float) -> Any:
        parameter = self.parameter
        if self.count:
            index = min(int(u * self.count), self.count - 1)
            return self.labels[index] if isinstance(parameter, Choice) else parameter.at(index)
        assert not isinstance(parameter, Choice)  # noqa: S101 (those are counted)
        if isinstance(parameter, Float) and u in (
            0,
            1,
        ):  # exp(log(x)) is x but for its last digit, and an end is often drawn
            return parameter.high if u else parameter.low
        value = self.low + (self.high - self.low) * u
        value = math.exp(value) if self.is_log else value
        # Near an end it may be out of range by its last digit, too.
        return min(max(round(value) if isinstance(parameter, Int) else value, parameter.low), parameter.high)

    def point(self, label: Any) -> float:
        if self.count:
            parameter = self.parameter
            place = self.places[label] if isinstance(parameter, Choice) else parameter.index(label)
            return float((place + 0.5) / self.count)
        return float(((math.log(label) if self.is_log else label) - self.low) / (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of features are.

    Attributes:
        groups: of shape (f,), the parameter of each column, in order.
        ranges: the parameters that have one column, from 0 to 1 along a range or a list of numbers: those that are warped.
        unordered: the parameters whose one column says which of a choice's values it is, -1 for none: any two differ alike.
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

    A *point* is a row of [0, 1]^d, one number a parameter, 0 for one that is not active. *Features* are what distances are
    measured between (`process.squared_distances`); `layout` says what they are. Along the axes `unordered`
    no value is more alike than any other.
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
        # By parameter and parent, which of the parent's values are meant.
        self._wanted = {
            (name, parent): np.array([label in values for label in self._axes[parent].labels])
            for name in space
            for parent, values in space.condition(name).items()
        }

    def __len__(self) -> int:
        return len(self._axes)

    def params(self, point: Sequence[float] | Array, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the config that a point stands for, but for the values of it that are given."""
        params: dict[str, Any] = {}
        for u, (name, axis) in zip(point, self._axes.items(), strict=True):
            if self._space.is_active(name, params):
                params[name] = given[name] if given and name in given else axis.value(float(u))
        return params

    def point(self, params: Mapping[str, Any]) -> Array:
        """Return the point that stands for a config."""
        return np.array([axis.point(params[name]) if name in params else 0.0 for name, axis in self._axes.items()])

    def snapped(self, points: Array) -> Array:
        """Move points of shape (n, d) to where configs are: to whole numbers, to choices, and to 0 what is not active."""
        moved = np.column_stack([axis.snapped(points[:, k]) for k, axis in enumerate(self._axes.values())])
        return np.where(self._active(moved), moved, 0.0)

    def features(self, points: Array) -> Array:
        """Return points of shape (n, d), snapped, as features.

        Two different values of a choice are at distance 1, as are the ends of a range, and at half the square of that from
        configs that lack it. A parameter along a range that is not always active
        lies on an arc around the place of those configs that lack it, which is therefore as far from one value as from any
        other. Source: Swersky et al. 2014 (arXiv:1409.4011).
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
                if axis.labels:
                    holds = self._wanted[name, parent][axis.indices(points[:, column]).astype(np.intp)]
                else:
                    holds = np.array([axis.value(u) in values for u in points[:, column]])
                active[:, k] &= active[:, column] & holds
        return active
