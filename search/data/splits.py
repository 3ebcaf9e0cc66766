"""Choose the rows for training, validation and test; scale and fingerprint them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.data import folds
from search.data.cuts import last_rows, whole_groups
from search.data.parts import Parts
from search.data.stored_images import StoredImages
from search.data.targets import Targets
from search.data.windows import POSITION, is_panel
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.folds import Fold
    from search.data.parts import Array
    from search.spec.settings import DataSection


def divide(
    parts: Parts, targets: Targets, section: DataSection, seed: int, fold: Fold | None = None
) -> dict[str, tuple[str, Array]]:
    """Choose the rows of each split: split -> (split of the source, row numbers in it).

    Whole groups or the last rows in order, if the source has such roles; else rows by chance, stratified by class. With
    `fold` the validation rows are those of a fold, which `folds.check` has allowed.

    Raises DataError if a split can't hold the classes that it must.
    """
    import numpy as np

    state = int(np.random.SeedSequence([seed, 7]).generate_state(1)[0])
    rows = {split: np.arange(len(part.x)) for split, part in parts.splits.items()}
    if section.limit is not None and section.window is None:
        rows |= _limited(rows, targets, section.limit, state)
    chosen = {split: (split, index) for split, index in rows.items()}
    fractions = {"test": section.test, **({"validation": section.validation} if fold is None else {})}
    cut = {split: fraction for split, fraction in fractions.items() if split not in rows and fraction > 0}
    roles, all_rows = parts.splits["train"].roles, rows["train"]
    remaining, total = all_rows, len(all_rows)
    labels = targets.y["train"] if targets.class_names else None
    has_whole_groups = "group" in roles and not is_panel(roles)
    if cut and has_whole_groups:
        _check_groups(parts.name, roles["group"][all_rows], len(cut) + 1)
    for done, (split, fraction) in enumerate(cut.items()):
        count = max(1, round(fraction * total))
        if has_whole_groups:
            remaining, taken = whole_groups(remaining, all_rows, fraction, roles["group"], labels, state)
        elif (order := roles["order"] if is_panel(roles) else roles.get(POSITION, roles.get("order"))) is not None:
            remaining, taken = last_rows(remaining, count, order, parts.name)
        else:
            if labels is not None:
                _check_shares(parts.name, targets, labels[remaining], len(cut) - done + 1, (split, count))
            elif len(remaining) - count < 2:
                raise DataError(f"{parts.name}: {total} rows are too few to split; give more, or a larger limit")
            remaining, taken = _cut(remaining, count, labels, state)
        chosen[split] = ("train", taken)
    if fold is not None:
        remaining, judged = folds.divide(parts, targets, remaining, fold, state)
        chosen["validation"] = ("train", judged)
    chosen["train"] = ("train", remaining)
    check_learnable(parts, targets, chosen)
    return chosen


def _check_groups(name: str, groups: Array, needed: int) -> None:
    """Check that there is a group for each split."""
    import numpy as np

    count = len(np.unique(groups))
    if count < needed:
        raise DataError(
            f"{name}: {count} {'group is' if count == 1 else 'groups are'} too few for {needed} splits, each of which needs "
            "groups of its own; add rows of other groups, give splits of your own, or remove group",
            key="data.group",
        )


def _limited(rows: Mapping[str, Array], targets: Targets, limit: int, state: int) -> dict[str, Array]:
    """Keep `limit` rows of training and the source's own validation together, in proportion to their sizes."""
    import numpy as np

    splits = [split for split in ("validation", "train") if split in rows]
    total = sum(len(rows[split]) for split in splits)
    if total <= limit:
        return {}
    kept: dict[str, Array] = {}
    for split in splits:
        index = rows[split]
        count = limit - len(kept.get("validation", ())) if split == "train" else round(limit * len(index) / total)
        count = max(1, min(count, len(index)))
        if count == len(index):
            continue
        labels = targets.y[split] if targets.class_names else None
        if labels is not None:
            counts = np.bincount(labels)
            counts = counts[counts > 0]
            if counts.min() < 2 or min(count, len(index) - count) < len(counts):
                labels = None  # too few rows to stratify; `check_learnable` refuses if a class is then missing
        kept[split] = _cut(index, count, labels, state)[1]
    return kept


def _cut(index: Array, count: int, labels: Array | None, state: int) -> tuple[Array, Array]:
    """Take `count` of the rows at random, stratified by `labels`; return (remaining, taken)."""
    from sklearn.model_selection import train_test_split

    stratify = None if labels is None else labels[index]
    remaining, taken = train_test_split(index, test_size=count, random_state=state, stratify=stratify)
    return remaining, taken


def _check_shares(name: str, targets: Targets, labels: Array, needed: int, taken: tuple[str, int]) -> None:
    """Check that every class has `needed` rows: one for each split to cut and one to train on."""
    import numpy as np

    counts = np.bincount(labels, minlength=len(targets.class_names))
    present = np.flatnonzero(counts)
    split, count = taken
    for label in present:
        if counts[label] < needed:
            raise DataError(
                f"{name}: class {targets.class_names[label]!r} has {counts[label]} of the {len(labels)} rows "
                f"to split, and needs {needed}, one for each split; add rows, remove the class, raise limit, "
                'give splits of your own, or use task = "regression" if these are not classes'
            )
    if min(count, len(labels) - count) < len(present):
        raise DataError(
            f"{name}: {count} {split} rows and {len(labels) - count} others can't each hold all of "
            f"{len(present)} classes; give more rows, or change {split} in [data]"
        )


def check_learnable(parts: Parts, targets: Targets, rows: Mapping[str, tuple[str, Array]]) -> None:
    """Refuse fewer than two training rows, and labels of another split that no training row has."""
    import numpy as np

    _, train = rows["train"]
    if len(train) < 2:
        raise DataError(
            f"{parts.name}: {len(train)} training row is left; give at least two (more data, a larger limit)"
        )
    if not targets.class_names:
        return
    known = np.unique(targets.y["train"][train])
    if len(known) < 2:
        raise DataError(
            f"{parts.name}: one class only among the training rows, {targets.class_names[known[0]]!r}; "
            "add rows of another"
        )
    for split, (origin, index) in rows.items():
        unseen = ~np.isin(targets.y[origin][index], known)
        if unseen.any():
            row = int(index[unseen.argmax()])
            name = targets.class_names[targets.y[origin][row]]
            raise DataError(
                f"{parts.splits[origin].place(row)}: class {name!r} of the {split} rows has no training row; "
                "add some, remove the class, or raise limit"
            )


def uneven(
    parts: Parts,
    targets: Targets,
    section: DataSection,
    rows: Mapping[str, tuple[str, Array]],
    fold: Fold | None = None,
) -> Iterator[str]:
    """Yield warnings on splits by group, order or column that lack a class, or have far more or fewer rows than asked for."""
    import numpy as np

    roles = parts.splits["train"].roles
    if not {"group", "order", "split", POSITION} & set(roles):
        return
    total = sum(len(index) for origin, index in rows.values() if origin == "train")
    for split, (origin, index) in rows.items():
        if origin != "train" or split == "train":
            continue
        share, wanted = len(index) / total, getattr(section, split)
        if fold is not None and split == "validation":
            wanted = (1 - len(rows.get("test", ("", ()))[1]) / total) / fold.count
        if not 0.5 <= share / wanted <= 2 and abs(len(index) - wanted * total) >= 1:
            what = "groups are whole" if "group" in roles and not is_panel(roles) else "rows of one time stay together"
            yield f"{parts.name}: {split} has {share:.0%} of the rows instead of {wanted:.0%}, because {what}"
    if not targets.class_names:
        return
    present = {split: set(np.unique(targets.y[origin][index]).tolist()) for split, (origin, index) in rows.items()}
    for split in ("validation", "test"):
        if missing := sorted(present["train"] - present.get(split, present["train"])):
            names = ", ".join(repr(targets.class_names[label]) for label in missing[:5])
            yield f"{parts.name}: no {split} row is of the class {names}{', ...' if len(missing) > 5 else ''}"


@dataclass(frozen=True, eq=False)
class Scaling:
    """How rows of the source became rows for models; an exported model applies the same scaling itself.

    Attributes:
        kind: "none", "standard" or "minmax".
        divisor: for the kind "none": 255 for images in bytes, else 1.
        mean, spread: float64 (features,), for (x - mean) / spread; a constant column has the spread 1. None for "none".
    """

    kind: str = "none"
    divisor: float = 1.0
    mean: Array | None = None
    spread: Array | None = None


def scale(arrays: dict[str, Array], method: str, name: str, series: Array | None = None) -> Scaling:
    """Convert all features to float32 in place, images in bytes to 0..1; fit `method` on the training rows.

    `series`: for windows, the training rows that they are of, each once, (rows, features).
    """
    import numpy as np

    x = {key: array for key, array in arrays.items() if key.startswith("x_")}
    rows = x["x_train"] if series is None else series
    is_image = rows.dtype == np.uint8 and rows.ndim > 2
    if method == "none":
        for key, array in x.items():
            if isinstance(array, StoredImages):
                arrays[key] = array.scaled()
                continue
            arrays[key] = np.ascontiguousarray(array, np.float32)
            if is_image:
                arrays[key] /= np.float32(255)
        return Scaling(divisor=255.0 if is_image else 1.0)
    if rows.ndim != 2:
        raise DataError(
            f'{name}: scale = "{method}" is for flat rows; received rows of shape {rows.shape[1:]}; '
            "remove scale (images in bytes are scaled to 0..1 by themselves)"
        )
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    scaler = (StandardScaler() if method == "standard" else MinMaxScaler()).fit(rows.astype(np.float64))
    for key, array in x.items():
        scaled = scaler.transform(array.reshape(-1, array.shape[-1]).astype(np.float64))
        arrays[key] = np.ascontiguousarray(scaled.reshape(array.shape), np.float32)
    # MinMaxScaler multiplies by its scale_, StandardScaler divides.
    if method == "standard":
        return Scaling(method, mean=scaler.mean_, spread=scaler.scale_)
    return Scaling(method, mean=scaler.data_min_, spread=1 / scaler.scale_)


def fingerprint(arrays: Mapping[str, Array]) -> str:
    """Return a digest of the bytes, shapes and dtypes of all arrays, as 32 hex digits."""
    import numpy as np

    digest = hashlib.blake2b(digest_size=16)
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        if isinstance(array, StoredImages):
            digest.update(array.digest)
            continue
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
