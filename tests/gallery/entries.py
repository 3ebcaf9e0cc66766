"""The gallery's models: what a model is trained on, with which configs, and how it is compiled. No pytest here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RATES = (0.003, 0.02, 0.01)
"""The learning rates of the three members of an entry that names none."""


@dataclass(frozen=True)
class Entry:
    """A model of the gallery.

    Attributes:
        build: the builder; it may compile its model, which then keeps its own loss and metrics.
        rows: the function of `rows.py` that gives its data.
        configs: what its members differ in.
        train: what [train] says. `task`: what [data] says of it; "" for what the labels tell.
        no_lanes: what the reason must name if the model can't train in lanes; "" if it must train in lanes.
        may_refuse: it can train in lanes, and a refusal is sound, too, if it says why.
        is_chaotic: rounding grows beyond the tolerance; the comparison then has to show that fit itself does so, too.
        no_file: why no file of it can give the same values in another process; "" if one must.
        tolerance: how far apart curves may be, of a value above 1 as a share of it.
    """

    name: str
    build: Callable[..., Any]
    rows: str
    configs: Sequence[Mapping[str, Any]]
    train: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    epochs: int = 3
    batch_size: int = 32
    no_lanes: str = ""
    may_refuse: bool = False
    is_chaotic: bool = False
    no_file: str = ""
    tolerance: float = 1e-5

    @property
    def reference(self) -> str:
        """Name the builder as a study file does."""
        return f"{inspect.getfile(self.build)}:{self.build.__name__}"

    @property
    def space(self) -> dict[str, Any]:
        """Return a space that holds all configs."""
        values: dict[str, list[Any]] = {}
        for config in self.configs:
            for name, value in config.items():
                if value not in values.setdefault(name, []):
                    values[name].append(value)
        return {
            name: {"low": min(found), "high": max(found)}
            if len(found) > 1 and all(isinstance(value, float) for value in found)
            else found
            for name, found in values.items()
        }


GALLERY: dict[str, dict[str, Entry]] = {}
"""Group -> name -> entry. A group is a file of builders, and is compared in one process."""


def entry(
    rows: str, configs: Sequence[Mapping[str, Any]] = (), **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a builder to the gallery. Tuples are values of a searched parameter, one a member; all else is the entry's."""
    searched = {name: value for name, value in more.items() if isinstance(value, tuple)}
    said = {name: value for name, value in more.items() if name not in searched}

    def add(build: Callable[..., Any]) -> Callable[..., Any]:
        columns = {"learning_rate": RATES, **searched}
        made = configs or [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        group = Path(inspect.getfile(build)).stem.removeprefix("models_")
        assert not any(build.__name__ in entries for entries in GALLERY.values()), "names are those of files, too"
        GALLERY.setdefault(group, {})[build.__name__] = Entry(build.__name__, build, rows, made, **said)
        return build

    return add
