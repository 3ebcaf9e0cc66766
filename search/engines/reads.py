"""Which names of a config a builder reads: a parameter that nothing reads is probably misspelt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from search.data import DataInfo
from search.engines.training import Trainer
from search.spec.vocabulary import TRAIN_PARAMETERS
from spaces import Choice, Space

# Models to build until every conditional parameter has been drawn; further branches of a larger space are not checked.
_MOST_CONFIGS = 8
# Further models to build in search of a read of names that the first ones have not read.
_MOST_SEARCHED = 32


class ReadConfig(Mapping[str, Any]):
    """A config that records which of its keys are read."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self._config[key]

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return key in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict, as `dict.copy` does; this reads every key."""
        return {key: self[key] for key in self}


@dataclass
class ReadRecorder:
    """Builds models and records which names their builder and the callbacks read from the config."""

    trainer: Trainer
    fixed: Mapping[str, Any]
    read: set[str] = field(default_factory=set)
    drawn: set[str] = field(default_factory=set)
    came_compiled: list[bool] = field(default_factory=list)

    def build(self, params: Mapping[str, Any]) -> keras.Model:
        """Build and compile the model of a config; errors of the builder pass through."""
        space = self.trainer.space
        config = ReadConfig({**self.fixed, **space.config(params)})
        came_compiled = False
        read: set[str] = set()

        def build(config: Mapping[str, Any], info: DataInfo) -> keras.Model:
            nonlocal came_compiled, read
            model = self.trainer.build(config, info)
            came_compiled = bool(getattr(model, "compiled", False))
            # Copy the names now: compiling reads more names than it uses, and its names are known anyway.
            read = set(config.read) if isinstance(config, ReadConfig) else set()
            return model

        model = replace(self.trainer, build=build).model(config, seed=0)
        for_callbacks = ReadConfig({**self.fixed, **space.config(params)})
        self.trainer.callbacks(for_callbacks)
        self.read |= read | for_callbacks.read
        self.drawn |= set(params)
        self.came_compiled.append(came_compiled)
        return model

    def try_more_configs(self) -> None:
        """Move one parameter at a time while names are unread: only one branch of the builder may read them."""
        space = self.trainer.space
        names = {*self.trainer.settings.model.arguments, *space} - set(TRAIN_PARAMETERS)
        for number, params in enumerate(_moved(space)):
            if names <= self.read or not self.came_compiled or number == _MOST_SEARCHED:
                return
            with suppress(BaseException):  # the user's builder; it fails again in the trial
                self.build(params)


def _moved(space: Space) -> Iterator[dict[str, Any]]:
    """Yield params in the middle of the space except for one: first all choices, then the ends of ranges."""
    for is_choice in (True, False):
        for name, parameter in space.items():
            if isinstance(parameter, Choice) != is_choice:
                continue
            values = parameter.values() if isinstance(parameter, Choice) else (parameter.high, parameter.low)
            for value in values:
                yield middle_with(space, name, value)


def branches(space: Space) -> Iterator[dict[str, Any]]:
    """Yield params in the middle of the space and of its branches, until every parameter has occurred."""
    middle = space.middle()
    yield middle
    seen, count = set(middle), 1
    for name in space:
        if name in seen or count == _MOST_CONFIGS:
            continue
        params = middle_with(space, name)
        if name in params:
            yield params
            seen |= set(params)
            count += 1


def middle_with(space: Space, name: str, value: Any = None) -> dict[str, Any]:
    """Return params in the middle of the space, except that the parameter `name` is active and has `value` if given."""
    params: dict[str, Any] = {}
    wanted = _conditions(space, name)
    if value is not None:
        wanted[name] = value
    for other, parameter in space.items():
        if space.is_active(other, params):
            params[other] = wanted[other] if other in wanted else parameter.middle()
    return params


def _conditions(space: Space, name: str) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for parent, values in space[name].when.items():
        wanted |= {parent: values[0], **_conditions(space, parent)}
    return wanted
