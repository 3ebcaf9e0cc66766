"""What trying a study's data and builder has found out, before its first trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has its data and its builder, and both look sound.

    Attributes:
        data: `DataInfo` as a table.
        fingerprint: of the data.
        source: hash of the builder's source.
        files: hash of each file that the user's functions are made of, by its name.
        source_before: what `source` would be by the rule of manyfit 0.1.0, for studies that were begun by that.
        engine: which one it is; with engine = "auto" the worker has decided.
        why: the reason, if that is fit where lanes were possible.
        lanes: how many members it trains at a time (`places`), how many more it takes, to build their models meanwhile
            (`ahead`), in how many compiled `programs`, and in blocks of what `width`; empty for an engine without lanes.
        memory: bytes that all lanes together need, as the compiler estimates it, and bytes that they may have; 0: not known.
        warnings: what is allowed and probably not meant.
        model: parameters, layers and bytes of the model in the middle of the space; empty if its builder raised there.
        read: names that builder and callbacks asked their config for, whether they were in it or not.
        undrawn: parameters that no model was built with, since the builder raised: whether they are read is not known.
        compiles_itself: whether every model that was built came compiled.
        steps: of the shortest training in the space.
    """

    data: Mapping[str, Any]
    fingerprint: str
    source: str
    engine: str = "fit"
    why: str = ""
    lanes: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)
    warnings: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    source_before: str = ""
    read: tuple[str, ...] = ()
    undrawn: tuple[str, ...] = ()
    compiles_itself: bool = False
    steps: int = 0

    @property
    def places(self) -> int:
        """How many members it trains at a time."""
        return self.lanes.get("places", 1)

    @property
    def capacity(self) -> int:
        """How many members it takes: those that it trains, and those that it builds meanwhile."""
        return self.places + self.lanes.get("ahead", 0)
