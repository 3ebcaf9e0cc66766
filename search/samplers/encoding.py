"""A space as numbers: every config a point of the unit cube, and the distances between configs that a process sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces import Choice, Float, Parameter, Space, is_number

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One parameter on [0, 1], so that a point drawn evenly there is a value drawn evenly on the parameter's own scale.

    Attributes:
        labels: of a parameter with a list of values, in their order; each has an equal share of [0, 1]. Empty: a range.
        is_ordered: whether neighbours in that list are alike. Choices that are all numbers are sorted, for 32 lies between
            16 and 64; of other choices any two differ by as much as any others.
        low, high: ends of a range, its logarithms if it is logarithmic.
    """

    labels: tuple[Any, ...] = ()
    is_ordered: bool = True
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False
    is_whole: bool = False

    @classmethod
    def of(cls, parameter: Parameter) -> _Axis:
        if isinstance(parameter, Choice):
            labels = parameter.values()
            is_ordered = len(labels) > 1 and all(is_number(label) for label in labels)
            return cls(tuple(sorted(labels) if is_ordered else labels), is_ordered)
        values = None if parameter.log else parameter.values()
        if values is not None:
            return cls(tuple(values))
        if isinstance(parameter, Float):
            ends = (parameter.low, parameter.high)
        else:  # each whole number has its share, those at the ends, too
            ends = (parameter.low - 0.5, parameter.high + 0.5)
        low, high = (math.log(end) for end in ends) if parameter.log else ends
        return cls(low=low, high=high, is_log=parameter.log, is_whole=not isinstance(parameter, Float))

    def snapped(self, u: Array) -> Array:
        """Move points to the nearest that stand for a value."""
        if self.labels:
            count = len(self.labels)
            middles: Array = (np.minimum(np.floor(u * count), count - 1) + 0.5) / count
            return middles
        if not self.is_whole:
            return u
        value = self.low + (self.high - self.low) * u
        # Half a number at each end is one rounding away from what is out of range.
        whole: Array = np.rint(np.clip(np.exp(value) if self.is_log else value, *self._whole_ends()))
        moved: Array = ((np.log(whole) if self.is_log else whole) - self.low) / (self.high - self.low)
        return moved

    def value(self, u: float, parameter: Parameter) -> Any:
        if self.labels:
            return self.labels[min(int(u * len(self.labels)), len(self.labels) - 1)]
        assert not isinstance(parameter, Choice)  # noqa: S101 (those have labels)
        if not self.is_whole and u in (0, 1):  # exp(log(x)) is x but for its last digit, and an end is often drawn
            return parameter.high if u else parameter.low
        value = self.low + (self.high - self.low) * u
        value = math.exp(value) if self.is_log else value
        # Near an end it may be out of range by its last digit, too.
        return min(max(round(value) if self.is_whole else value, parameter.low), parameter.high)

    def point(self, label: Any) -> float:
        if self.labels:
            return (self.labels.index(label) + 0.5) / len(self.labels)
        return ((math.log(label) if self.is_log else label) - self.low) / (self.high - self.low)

    def _whole_ends(self) -> tuple[float, float]:
        low, high = (math.exp(self.low), math.exp(self.high)) if self.is_log else (self.low, self.high)
        return round(low + 0.5), round(high - 0.5)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of features are.

    Attributes:
        groups: of shape (f,), the parameter of each column, in order.
        ranges: the parameters that have one column, from 0 to 1 along a range or a list of numbers: those that are warped.
    """

    groups: NDArray[np.intp]
    ranges: NDArray[np.intp]

    @property
    def columns(self) -> NDArray[np.intp]:
        """The columns of `ranges`."""
        return np.searchsorted(self.groups, self.ranges)


class Encoding:
    """Configs of a space as rows of numbers.

    A *point* is a row of [0, 1]^d, one number a parameter, 0 for one that is not active. *Features* are what distances are
    measured between; `layout` says what they are. Along the axes `unordered` no value is more alike
    than any other.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._axes = {name: _Axis.of(parameter) for name, parameter in space.items()}
        widths = [self._width(name) for name in space]
        self.unordered = [k for k, axis in enumerate(self._axes.values()) if not axis.is_ordered]
        ranges = [k for k, (name, axis) in enumerate(self._axes.items()) if axis.is_ordered and not space[name].when]
        self.layout = Layout(np.repeat(np.arange(len(widths)), widths), np.array(ranges, np.intp))

    def __len__(self) -> int:
        return len(self._axes)

    def labels(self, point: Sequence[float] | Array, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the config that a point stands for, but for the values of it that are given."""
        labels: dict[str, Any] = {}
        for u, (name, axis) in zip(point, self._axes.items(), strict=True):
            if self._space.is_active(name, labels):
                labels[name] = given[name] if given and name in given else axis.value(float(u), self._space[name])
        return labels

    def point(self, labels: Mapping[str, Any]) -> Array:
        """Return the point that stands for a config."""
        return np.array([axis.point(labels[name]) if name in labels else 0.0 for name, axis in self._axes.items()])

    def snapped(self, points: Array) -> Array:
        """Move points of shape (n, d) to where configs are: to whole numbers, to choices, and to 0 what is not active."""
        moved = np.column_stack([axis.snapped(points[:, k]) for k, axis in enumerate(self._axes.values())])
        return np.where(self._active(moved), moved, 0.0)

    def features(self, points: Array) -> Array:
        """Return points of shape (n, d), snapped, as features.

        Two different values of a choice are at distance 1, as are the ends of a range. A parameter that is not always active
        lies on an arc around the place of those configs that lack it, which is therefore as far from one value as from any
        other. Source: Swersky et al. 2014 (arXiv:1409.4011).
        """
        active = self._active(points)
        columns = []
        for k, (name, axis) in enumerate(self._axes.items()):
            u = points[:, k]
            if axis.labels and not axis.is_ordered:
                count = len(axis.labels)
                index = np.minimum((u * count).astype(int), count - 1)
                columns.append(np.eye(count)[index] * math.sqrt(0.5) * active[:, [k]])
            elif self._space[name].when:
                arc = np.column_stack([np.sin(u * math.pi / 2), np.cos(u * math.pi / 2)]) * math.sqrt(0.5)
                columns.append(arc * active[:, [k]])
            else:
                columns.append(u[:, None])
        return np.concatenate(columns, axis=1)

    def _width(self, name: str) -> int:
        axis = self._axes[name]
        if axis.labels and not axis.is_ordered:
            return len(axis.labels)
        return 2 if self._space[name].when else 1

    def _active(self, points: Array) -> NDArray[np.bool_]:
        active = np.ones(points.shape, dtype=bool)
        order = {name: k for k, name in enumerate(self._axes)}
        for name, k in order.items():
            for parent, values in self._space[name].when.items():
                axis, column = self._axes[parent], order[parent]
                if axis.labels:
                    count = len(axis.labels)
                    wanted = np.array([label in values for label in axis.labels])
                    index = np.minimum((points[:, column] * count).astype(int), count - 1)
                    holds = wanted[index]
                else:
                    holds = np.array([axis.value(u, self._space[parent]) in values for u in points[:, column]])
                active[:, k] &= active[:, column] & holds
        return active
