"""The objects of a Python program that its study uses: functions, classes and data that stand in no file.

Nothing here pickles or unpickles; `search.python.handing` does the one, `search.workers.handover` the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.spec.settings import Settings
from search.spec.usercode import PROGRAM


@dataclass(frozen=True, eq=False)
class Given:
    """The objects of a program, by the names that the settings of its study have for them.

    Attributes:
        names: with their prefix: `python:build`.
        hashes: of all that determines the code among them, by names for people; "" for what can't be compared.
        texts: the source of the code, or statements of its constants where there is no source.
        parcels: the objects, pickled as `search.workers.handover` describes; empty until workers are needed.
    """

    names: frozenset[str]
    hashes: Mapping[str, str] = field(default_factory=dict)
    texts: Sequence[str] = ()
    parcels: Sequence[Any] = ()


def object_names(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, name) of every object of a Python program that the settings name."""
    train = settings.train
    values = {
        "data.source": settings.data.source,
        "model.build": settings.model.build,
        "train.loss": train.loss,
        "train.metrics": train.metrics,
        "train.callbacks": train.callbacks,
    }
    for key, value in values.items():
        yield from _names(key, value)


def _names(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value.startswith(PROGRAM):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _names(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _names(f"{key}.{index}", inner)


def missing(settings: Settings, given: Given | None) -> tuple[str, str] | None:
    """Return the key and the error text of the first object that is not `given`; None if all are."""
    for key, name in object_names(settings):
        if given is None or name not in given.names:
            return key, (
                f"{name} is an object of the Python program that made the study, and no file holds it; run the study in that "
                'program, or name a function of a file, such as "my_model.py:build"'
            )
    return None


def check(settings: Settings, given: Given | None, database: Path) -> None:
    """Raise UsageError if the settings name an object that is not `given`."""
    if fault := missing(settings, given):
        raise UsageError(f"{database}: {fault[0]}: {fault[1]}")
