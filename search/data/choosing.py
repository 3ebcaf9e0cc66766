"""Which rows of its source each split of a study has, or which windows of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.data import folds
from search.data.splits import check_learnable, divide, uneven
from search.data.stored_images import StoredImages
from search.data.windows import Windows, cut, of_groups

if TYPE_CHECKING:
    from search.data.folds import Fold
    from search.data.parts import Array, Parts
    from search.data.several import Bundle
    from search.data.targets import Targets
    from search.spec.settings import DataSection


@dataclass(frozen=True, eq=False)
class Chosen:
    """The rows of each split.

    Attributes:
        rows: split -> (split of the source, row numbers in it); of windows, those of their targets.
        windows: split -> windows; empty without them.
        judged: the split whose rows judge models.
    """

    rows: Mapping[str, tuple[str, Array]]
    windows: Mapping[str, Windows] = field(default_factory=dict)
    judged: str = "validation"

    @property
    def training(self) -> tuple[str, Array]:
        """The split of the source that training rows are of, and their numbers; with windows, each row once."""
        windows = self.windows.get("train")
        return self.rows["train"] if windows is None else (windows.origin, windows.rows)

    def of(self, by_split: Mapping[str, Array]) -> dict[str, Array]:
        """Return targets, weights or other values of rows, by split."""
        return {split: by_split[origin][index] for split, (origin, index) in self.rows.items()}

    def features(self, by_split: Mapping[str, Array]) -> dict[str, Array]:
        """Return features by split: rows, or windows of rows."""
        if self.windows:
            return {split: self.windows[split].features(by_split[origin]) for split, (origin, _) in self.rows.items()}
        return {split: _chosen(by_split[origin], index, split) for split, (origin, index) in self.rows.items()}


def choose(
    bundle: Bundle, targets: Mapping[str, Targets], section: DataSection, seed: int, fold: Fold | None = None
) -> tuple[Chosen, list[str]]:
    """Choose the rows of each split, by the first output that has classes; return them and warnings.

    Raises DataError if a split can't hold the classes or windows that it must, or if the data allow no folds.
    """
    if fold is not None:
        folds.check(bundle, section)
    first = next((name for name in targets if targets[name].class_names), next(iter(targets)))
    parts = bundle.outputs[first]
    rows = divide(parts, targets[first], section, seed, fold) if bundle.stream is None else _all_rows(parts)
    warnings = list(uneven(parts, targets[first], section, rows, fold))
    windows = cut(parts, section, rows, seed)
    if windows:
        warnings += of_groups(parts, windows)
        rows = {split: (each.origin, each.targets) for split, each in windows.items()}
    if bundle.stream is None:  # the sample may lack a class
        for name, given in targets.items():
            check_learnable(bundle.outputs[name], given, rows)
    return Chosen(rows, windows), warnings


def _all_rows(parts: Parts) -> dict[str, tuple[str, Array]]:
    import numpy as np

    return {split: (split, np.arange(len(part.x))) for split, part in parts.splits.items()}


def _chosen(x: Array, index: Array, split: str) -> Array:
    """Return rows of the features; images that stay in their files are read for validation only."""
    # Validation rows are evaluated every epoch, as one array.
    if isinstance(x, StoredImages) and split != "validation":
        rows: Any = x.taken(index)
    else:
        rows = x[index]
    chosen: Array = rows
    return chosen
