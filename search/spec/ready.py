"""What a worker reports before the first trial, after it has tried the data and the builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.spec.finding import Finding


@dataclass(frozen=True, slots=True)
class Ready:
    """The report of a worker whose data and builder work.

    Attributes:
        data: `DataInfo` as a table.
        fingerprint: of the data.
        targets: what the fingerprint leaves out: the names of the classes, and shape and dtype of the targets.
        source: hash of the builder's source.
        files: hash of each file of the user's functions, by its name.
        legacy_source: `source` by the rule of manyfit 0.1.0, to compare with studies that began with that version.
        engine: the engine; with engine = "auto" the worker has chosen it.
        why: the reason, if "auto" chose fit instead of lanes.
        lanes: how many members train at a time (`places`), how many more have their models built meanwhile (`ahead`),
            the number of compiled `programs`, and the `width` of a block; empty for an engine without lanes.
        structures: keys of the structures whose trials train in lanes; trials of others train by `model.fit` beside them.
            Empty if all train in lanes.
        counted: how that was decided, if not all do: `draws` of the space, how many `structures` they have, the `share` of
            trials expected in lanes, and the `most_used` structures; also `compile_s`, the seconds that the program of the
            largest model took. Empty if the study is resumed, and for an engine without lanes.
        memory: bytes that all lanes need, by the compiler's estimate, and bytes that they may use; 0 if unknown.
        warnings: remarks on what is allowed and probably not meant.
        model: parameters, layers and bytes of the model in the middle of the space; empty if the builder raised there.
        read: names that the builder and the callbacks read from their config, whether it had them or not.
        undrawn: parameters that no built model had, because the builder raised: whether it reads them is not known.
        compiles_itself: whether the builder compiled every model that was built.
        steps: training steps of the shortest training in the space.
        resumes: whether a member's training can resume from a checkpoint.
        columns: name, kind, number of features and remarks of each column of a table.
        kinds: the kind of each column of a table that is not all numbers.
        findings: what would waste a search, or needs a look; only for a new study.
        own_splits: which of "validation" and "test" the source has itself.
    """

    data: Mapping[str, Any]
    fingerprint: str
    source: str
    engine: str = "fit"
    why: str = ""
    lanes: Mapping[str, int] = field(default_factory=dict)
    structures: tuple[str, ...] = ()
    counted: Mapping[str, Any] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)
    warnings: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    legacy_source: str = ""
    read: tuple[str, ...] = ()
    undrawn: tuple[str, ...] = ()
    compiles_itself: bool = False
    steps: int = 0
    targets: Mapping[str, Any] = field(default_factory=dict)
    own_splits: tuple[str, ...] = ()
    resumes: bool = True
    columns: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Finding, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> int:
        """The number of members that train at a time."""
        return self.lanes.get("places", 1)

    @property
    def capacity(self) -> int:
        """The number of members that the worker accepts: those in training, and those whose models it builds meanwhile."""
        return self.places + self.lanes.get("ahead", 0)
