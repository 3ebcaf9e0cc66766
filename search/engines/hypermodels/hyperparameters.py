"""The `hp` that a builder in KerasTuner's form receives. Nothing here imports keras or keras_tuner.

Follows keras_tuner 1.4.8, engine/hyperparameters/hyperparameters.py: a hyperparameter is identified by its name and its
conditions, the first declaration counts, and an inactive one is registered but has the value None.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from search.engines.hypermodels import declared
from search.engines.hypermodels.declared import Declared, Parent


class HyperParameters:
    """Answers a builder's declarations.

    Args:
        source: returns the value of a hyperparameter that is declared for the first time and active; by default its default.

    Attributes:
        values: the active values by name.
        declarations: all hyperparameters in the order of their first declaration, with the inactive ones.
        drawn: the active ones whose values came from `source`, in order.
        redeclared: names that were declared again with other values than at first.
    """

    def __init__(self, source: Callable[[Declared], Any] | None = None) -> None:
        self._source = source or (lambda one: one.default)
        self._scopes: list[str] = []
        self._conditions: list[Parent] = []
        self.values: dict[str, Any] = {}
        self.declarations: dict[tuple[str, tuple[Parent, ...]], Declared] = {}
        self.drawn: list[Declared] = []
        self.redeclared: set[str] = set()

    def Int(  # noqa: N802 (KerasTuner's names)
        self, name: Any, min_value: Any, max_value: Any, step: Any = None, sampling: Any = "linear", default: Any = None,
        parent_name: Any = None, parent_values: Any = None,
    ) -> Any:  # fmt: skip
        """Return a whole number of min_value..max_value, both included."""
        with self._scope(parent_name, parent_values):
            bounds = (min_value, max_value)
            return self._answer(
                declared.integer(self._name(name), bounds, step, sampling, default, self._active_scopes())
            )

    def Float(  # noqa: N802
        self, name: Any, min_value: Any, max_value: Any, step: Any = None, sampling: Any = "linear", default: Any = None,
        parent_name: Any = None, parent_values: Any = None,
    ) -> Any:  # fmt: skip
        """Return a real number of min_value..max_value."""
        with self._scope(parent_name, parent_values):
            bounds = (min_value, max_value)
            return self._answer(declared.real(self._name(name), bounds, step, sampling, default, self._active_scopes()))

    def Choice(  # noqa: N802
        self, name: Any, values: Any, ordered: Any = None, default: Any = None, parent_name: Any = None,
        parent_values: Any = None,
    ) -> Any:  # fmt: skip
        """Return one of `values`."""
        with self._scope(parent_name, parent_values):
            return self._answer(declared.choice(self._name(name), values, ordered, default, self._active_scopes()))

    def Boolean(self, name: Any, default: Any = False, parent_name: Any = None, parent_values: Any = None) -> Any:  # noqa: N802
        """Return True or False."""
        with self._scope(parent_name, parent_values):
            return self._answer(declared.boolean(self._name(name), default, self._active_scopes()))

    def Fixed(self, name: Any, value: Any, parent_name: Any = None, parent_values: Any = None) -> Any:  # noqa: N802
        """Return `value`, which is not searched."""
        with self._scope(parent_name, parent_values):
            return self._answer(declared.fixed(self._name(name), value, self._active_scopes()))

    @contextmanager
    def name_scope(self, name: Any) -> Iterator[None]:
        """Put `name` and a slash before the names that are declared within."""
        self._scopes.append(str(name))
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: Any, parent_values: Any) -> Iterator[None]:
        """Make what is declared within active only while the parent has one of these values."""
        parent = self._name(parent_name)
        if (parent, self._active_scopes()) not in self.declarations:
            raise ValueError(f"the parent {parent!r} of a conditional scope is not declared")
        self._conditions.append(Parent.of(parent, parent_values))
        try:
            yield
        finally:
            self._conditions.pop()

    def get(self, name: Any) -> Any:
        """Return the value of an active hyperparameter; ValueError if it is inactive, KeyError if there is none."""
        full = self._name(name)
        if full in self.values:
            return self.values[full]
        if any(one.name == full for one in self.declarations.values()):
            raise ValueError(f"{full} is currently inactive.")
        raise KeyError(f"{full} does not exist.")

    def __getitem__(self, name: Any) -> Any:
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return self._name(name) in self.values

    @property
    def space(self) -> list[Declared]:
        """All hyperparameters that have been declared."""
        return list(self.declarations.values())

    def is_active(self, hyperparameter: Any) -> bool:
        """Return whether the conditions of a hyperparameter hold, given by name or as `space` lists it."""
        if isinstance(hyperparameter, Declared):
            return all(condition.holds(self.values) for condition in hyperparameter.conditions)
        return any(self.is_active(one) for one in self.space if one.name == str(hyperparameter))

    def copy(self) -> HyperParameters:
        """Return a copy with the same values, whose new declarations get their defaults and are not searched."""
        other = type(self)()
        other.values, other.declarations = dict(self.values), dict(self.declarations)
        return other

    def _answer(self, one: Declared) -> Any:
        first = self.declarations.setdefault(one.identity, one)
        is_new = first is one
        if not is_new and (first.kind, first.entry()) != (one.kind, one.entry()):
            self.redeclared.add(one.name)
        if not self.is_active(first):
            return None  # so that nothing relies on the value of an inactive one
        if is_new and any(condition.name == one.name for condition in one.conditions):
            raise ValueError(f"a conditional hyperparameter can't have its parent's name; received {one.name!r}")
        if one.name not in self.values:
            self.drawn.append(one)
            self.values[one.name] = self._source(one)
        return self.values[one.name]

    def _active_scopes(self) -> tuple[Parent, ...]:
        return tuple(self._conditions)

    def _name(self, name: Any) -> str:
        return "/".join([*self._scopes, str(name)])

    @contextmanager
    def _scope(self, parent_name: Any, parent_values: Any) -> Iterator[None]:
        if not parent_name:
            yield
            return
        with self.conditional_scope(parent_name, parent_values):
            yield


def new(source: Callable[[Declared], Any]) -> HyperParameters:
    """Return the `hp` for one call of a builder; if KerasTuner is loaded, also an instance of its HyperParameters."""
    theirs = getattr(sys.modules.get("keras_tuner"), "HyperParameters", None)
    if not isinstance(theirs, type) or issubclass(HyperParameters, theirs):
        return HyperParameters(source)
    return _both(theirs)(source)


@cache
def _both(theirs: type) -> type[HyperParameters]:
    return type("HyperParameters", (HyperParameters, theirs), {})
