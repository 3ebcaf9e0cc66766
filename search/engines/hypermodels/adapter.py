"""Builders in KerasTuner's form as `build(config, data)`: functions of `hp`, HyperModel classes and their instances."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras

from search.engines.hypermodels import hyperparameters, stand_in
from search.engines.hypermodels.declared import Declared
from search.engines.hypermodels.hyperparameters import HyperParameters
from search.errors import UsageError
from search.spec.builderforms import has_build, is_hypermodel
from spaces import Space, SpaceError

# Parameters that training reads although a builder declares them.
_SHARED = ("batch_size", "epochs")
# A name that is declared under several conditions is a parameter for each: NAME, NAME__2 ...
_MOST_OF_A_NAME = 20


class Missing(LookupError):  # noqa: N818 (a property of a config)
    """A builder asks for a hyperparameter that its config lacks."""

    def __str__(self) -> str:
        return str(self.args[0])


class HyperModelBuilder:
    """A builder in KerasTuner's form, called as `build(config, data)`.

    Args:
        hypermodel: a function of `hp`, or an object with `build(hp)`.
        space: of the study.
        fixed: the arguments of [model], which are values of hyperparameters that are not searched.

    Attributes:
        own_fit: the `fit` of a HyperModel that overrides it; None if `model.fit` trains its models.
    """

    def __init__(self, hypermodel: Any, space: Space, fixed: Mapping[str, Any]) -> None:
        self.hypermodel, self._space, self._fixed = hypermodel, space, fixed
        self._build = hypermodel.build if has_build(hypermodel) else hypermodel
        self._declare = getattr(hypermodel, "declare_hyperparameters", None)
        self.own_fit = _own_fit(hypermodel)
        self._hps: weakref.WeakKeyDictionary[keras.Model, HyperParameters] = weakref.WeakKeyDictionary()

    def __call__(self, config: Mapping[str, Any], data: Any) -> keras.Model:  # noqa: ARG002 (as builders are called)
        hp = hyperparameters.new(lambda one: self._value(one, config))
        model = self.build(hp)
        if isinstance(model, keras.Model):
            self._hps[model] = hp
        return model

    def build(self, hp: HyperParameters) -> keras.Model:
        """Build a model with the values of `hp`."""
        if callable(self._declare):
            self._declare(hp)
        return self._build(hp)

    def hp_of(self, model: keras.Model) -> HyperParameters:
        """Return the `hp` that a model was built with."""
        return self._hps[model]

    def unread(self, model: keras.Model, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is left of a config to compile a model: a builder's own parameters are not the optimizer's.

        `defaults` are the study's values for what is taken away.
        """
        # A `fit` of its own may ask for any of them later.
        own = {one.key() for one in self.hp_of(model).drawn} if self.own_fit is None else set(self._space)
        return {**defaults, **{key: config[key] for key in config if key not in own or key in _SHARED}}

    def _value(self, one: Declared, config: Mapping[str, Any]) -> Any:
        key = one.key()
        names = [key, *(f"{key}__{number}" for number in range(2, _MOST_OF_A_NAME))]
        given = [name for name in names if (name in self._space or name in self._fixed) and name in config]
        for name in given:
            if name in self._space and self._is_as_declared(one, name):
                return one.exact(config[name])
        if given:
            return _typed(one, config[given[0]])
        if one.is_single:
            assert one.listed is not None  # noqa: S101 (a single value is listed)
            return one.listed[0]
        raise Missing(
            f"the builder asks its hp for {one.name!r}, and this config has no {key!r}: add it to [space], or fix its value "
            "under [model]; if the space was found by running the builder, it asks only in cases that were not tried"
        )

    def _is_as_declared(self, one: Declared, name: str) -> bool:
        try:
            declared = Space.parse({"it": one.entry()})["it"]
        except SpaceError:
            return False
        return replace(self._space[name], when={}) == declared


def adapt(builder: Any, space: Space, fixed: Mapping[str, Any]) -> HyperModelBuilder | None:
    """Return a user's builder of KerasTuner's form as one of (config, data); None if it has another form.

    UsageError for a HyperModel class that can't be made without arguments.
    """
    if isinstance(builder, type):
        if not is_hypermodel(builder):
            return None
        missing = _required(builder)
        if missing:
            name = builder.__name__
            raise UsageError(
                f"model.build: {name} can't be made without {', '.join(missing)}; write hypermodel = {name}(...) into its "
                "file, and name hypermodel instead of the class"
            )
        return HyperModelBuilder(builder(), space, fixed)
    return HyperModelBuilder(builder, space, fixed) if is_hypermodel(builder) else None


def _required(builder: type) -> list[str]:
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _own_fit(hypermodel: Any) -> Callable[..., Any] | None:
    fit = getattr(type(hypermodel), "fit", None)
    inherited = [base for base in type(hypermodel).__mro__ if "fit" in vars(base)]
    if not callable(fit) or not inherited:
        return None
    is_default = inherited[0] is stand_in.HyperModel or (inherited[0].__module__ or "").startswith("keras_tuner.")
    return None if is_default else hypermodel.fit


def _typed(one: Declared, value: Any) -> Any:
    """Return a value of [space] or [model], whose bounds are the study file's, in the builder's type."""
    if one.kind == "Float":
        return float(value)
    return int(value) if one.kind == "Int" and float(value).is_integer() else value
