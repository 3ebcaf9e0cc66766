"""The samplers, pruners, data sources, storages and engines that a study chooses by name: ours and other packages'.

Ours are listed here and imported on first use. Another package adds one by an entry point in a group such as
`manyfit.samplers`; a program adds one by `register`. docs/extending.md shows both.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from search.errors import UsageError


class Registry:
    """Implementations of one kind, by name. Iterating yields the names: ours, then the registered, then the installed.

    Args:
        kind: a plural noun, which also names the group of entry points: "samplers".
        ours: name -> "module:attribute" of each of ours.
    """

    def __init__(self, kind: str, ours: Mapping[str, str]) -> None:
        self.kind, self._ours = kind, dict(ours)
        self._added: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._ours, *self._added, *self._installed()]))

    def __contains__(self, name: object) -> bool:
        # The installed come last: reading the entry points of all packages takes a while.
        return name in self._ours or name in self._added or name in self._installed()

    def register(self, name: str, thing: Any) -> None:
        """Add `thing` under `name` until this process ends; ValueError if the name is taken."""
        if name in self:
            raise ValueError(f"{self.kind} have a {name!r} already")
        self._added[name] = thing

    def get(self, name: str) -> Any:
        """Return the implementation `name`; KeyError if there is none, UsageError if another package's can't be imported."""
        if name in self._ours:
            module, _, attribute = self._ours[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in self._added:
            return self._added[name]
        entry = self._installed()[name]
        try:
            return entry.load()
        except Exception as error:
            package = entry.dist.name if entry.dist is not None else entry.value
            raise UsageError(
                f"{name!r} of the package {package} can't be imported: {type(error).__name__}: {error}"
            ) from error

    def _installed(self) -> dict[str, metadata.EntryPoint]:
        return {entry.name: entry for entry in metadata.entry_points(group=f"manyfit.{self.kind}")}


_OPTUNA = "search.policies.samplers.from_optuna"

SAMPLERS = Registry(
    "samplers",
    {
        "bayes": "search.policies.samplers.bayes:BayesSampler",
        "random": f"{_OPTUNA}:Random",
        "tpe": f"{_OPTUNA}:Tpe",
        "gp": f"{_OPTUNA}:Gp",
        "cmaes": f"{_OPTUNA}:CmaEs",
        "qmc": f"{_OPTUNA}:Qmc",
        "grid": f"{_OPTUNA}:Grid",
    },
)
PRUNERS = Registry(
    "pruners",
    {
        name: f"search.policies.pruners:{class_name}"
        for name, class_name in {
            "none": "Nothing",
            "halving": "Halving",
            "hyperband": "Hyperband",
            "median": "Median",
            "percentile": "Percentile",
            "patient": "Patient",
        }.items()
    },
)
SOURCES = Registry("sources", {"sklearn": "search.data.sources:Sklearn", "keras": "search.data.sources:KerasData"})
STORAGES = Registry(
    "storages", {"sqlite": "search.storage.store:Store", "memory": "search.storage.memory:MemoryStorage"}
)
ENGINES = Registry(
    "engines",
    {"fit": "search.engines.fit:make", "lanes": "search.engines.lanes.engine:make"},
)
