"""Data sources -> arrays, splits and a fingerprint; bad data are found here, before the first trial.

`check` is for the coordinator and takes milliseconds; `load` is for the worker. Nothing here imports keras.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import DataError
from search.sources import Part, Parts, locate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.settings import DataSection

    Array = NDArray[Any]

_FLOAT32_MAX = 3.4028234663852886e38
FEW_CLASSES = 20
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a builder is told of the data.

    Attributes:
        input_shape: of one row.
        task: "classification", "binary" or "regression".
        classes: how many; 2 for binary, 0 for regression.
        outputs: what a model must give for a row: one a class, 1 for binary, one a target for regression.
        class_names: what each label 0, 1, ... stands for; empty for regression.
    """

    input_shape: tuple[int, ...]
    task: str
    classes: int
    outputs: int
    class_names: tuple[str, ...] = ()
    train_rows: int = 0
    validation_rows: int = 0
    test_rows: int = 0


@dataclass(frozen=True, eq=False)
class Data:
    """Arrays to train and to judge by; the test rows are held out, only counted and fingerprinted.

    Attributes:
        x_train, x_validation: float32, C-contiguous, (rows, *info.input_shape).
        y_train, y_validation: int32 (rows,) for classes; float32 (rows,) or (rows, targets) for regression.
        fingerprint: 32 hex digits of all splits' bytes, shapes and dtypes, test rows included.
    """

    info: DataInfo
    x_train: Array
    y_train: Array
    x_validation: Array
    y_validation: Array
    fingerprint: str


def check(section: DataSection, base: Path) -> None:
    """Check what can be known at once, running nothing of the user's; `base` is the study file's folder.

    Raises DataError: no such source or file, an .npz without its keys, a .csv without header or target, a
    folder without classes, a data function that is not there.
    """
    try:
        locate(section, base).check()
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None


def load(section: DataSection, base: Path, seed: int) -> Data:
    """Read, check, split and scale the data; the same arguments and files give the same arrays.

    Splits of the source's own are used as they are. What it lacks is cut from its training rows, test before
    validation, every class in its share; the fractions are of those rows (after `limit`). Images in bytes
    (uint8, rows of two or more dimensions) are scaled to 0..1; `scale` is fitted on the training rows.

    Raises DataError, naming the file and, where there is one, the row.
    """
    check(section, base)
    try:
        parts = _sound(locate(section, base).read(seed))
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None
    targets = _targets(parts, section.task)
    rows = _divide(parts, targets, section, seed)
    _check_learnable(parts, targets, rows)
    arrays: dict[str, Array] = {}
    for split, (origin, index) in rows.items():
        arrays[f"x_{split}"] = parts.splits[origin].x[index]
        arrays[f"y_{split}"] = targets.y[origin][index]
    _scale(arrays, section.scale, parts.name)
    info = DataInfo(
        input_shape=arrays["x_train"].shape[1:],
        task=targets.task,
        classes=len(targets.class_names),
        outputs=targets.outputs,
        class_names=targets.class_names,
        **{f"{split}_rows": len(index) for split, (_, index) in rows.items()},
    )
    used = {key: arrays[key] for key in ("x_train", "y_train", "x_validation", "y_validation")}
    return Data(info=info, **used, fingerprint=_fingerprint(arrays))


def _sound(parts: Parts) -> Parts:
    """Check features and lengths; return the parts with (rows,) made (rows, 1)."""
    splits = {split: _sound_part(part, split, parts.name) for split, part in parts.splits.items()}
    train = splits["train"].x
    for split, part in splits.items():
        if part.x.shape[1:] != train.shape[1:]:
            raise DataError(
                f"{parts.name}: rows have the shape {train.shape[1:]} in training and {part.x.shape[1:]} in "
                f"{split}; make them equal"
            )
        if (part.x.dtype == "uint8") != (train.dtype == "uint8"):
            raise DataError(
                f"{parts.name}: features are {train.dtype} in training and {part.x.dtype} in {split}; only "
                "bytes are scaled to 0..1, so save both as the same type"
            )
    return replace(parts, splits=splits)


def _sound_part(part: Part, split: str, name: str) -> Part:
    x, y = part.x, part.y
    for what, array, kinds in (("features", x, "biuf"), ("labels", y, "biufU")):
        if array.dtype.kind not in kinds:
            raise DataError(
                f"{name}: {split} {what} are of type {array.dtype}; give plain arrays of numbers"
                + (", true/false or text" if what == "labels" else ": encode text as numbers, join several inputs")
            )
        if array.ndim == 0 or array.size == 0:
            raise DataError(f"{name}: {split} {what} are empty (shape {array.shape}); give at least one row and column")
    if len(x) != len(y):
        raise DataError(f"{name}: {len(x)} rows of features but {len(y)} labels in {split}; there must be one for each")
    part = replace(part, x=x.reshape(-1, 1) if x.ndim == 1 else x)
    _check_finite(part, part.x, "feature")
    if y.dtype.kind == "f":
        _check_finite(part, y, "label")
    return part


def _check_finite(part: Part, values: Array, what: str) -> None:
    import numpy as np

    # NaN survives min and max: two passes without a copy, and the row is looked for only if there is one.
    if float(values.min()) >= -_FLOAT32_MAX and float(values.max()) <= _FLOAT32_MAX:
        return
    wide = values.astype(np.float64)
    row, *position = np.argwhere(~(np.abs(wide) <= _FLOAT32_MAX))[0].tolist()
    where = f" {tuple(position)}" if len(position) > 1 else f" {position[0]}" if position else ""
    if part.columns and what == "feature":
        where = f" {part.columns[position[0]]!r}"
    raise DataError(
        f"{part.place(row)}: {what}{where} is {wide[(row, *position)]}; all must be finite (and at most "
        "3.4e38): fill in or remove such rows"
    )


@dataclass(frozen=True, eq=False)
class _Targets:
    """What is to be learnt: y by the source's splits, int32 labels or float32 numbers."""

    task: str
    y: dict[str, Array]
    class_names: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        train = self.y["train"]
        return len(self.class_names) if self.task == "classification" else train.shape[1] if train.ndim == 2 else 1


def _targets(parts: Parts, wanted: str | None) -> _Targets:
    import numpy as np

    y = {split: _squeezed(part, split, parts.name) for split, part in parts.splits.items()}
    train = y["train"]
    for split, labels in y.items():
        if labels.shape[1:] != train.shape[1:] or (labels.dtype.kind == "U") != (train.dtype.kind == "U"):
            raise DataError(
                f"{parts.name}: labels are {train.dtype} of shape {train.shape} in training and "
                f"{labels.dtype} of shape {labels.shape} in {split}; make them alike"
            )
    task = wanted or parts.task
    if train.ndim == 2 and task != "regression":
        y, task = _from_one_hot(parts, y, task)
    task = task or _inferred(np.concatenate(list(y.values())))
    return _numbers(parts, y) if task == "regression" else _classes(parts, y, task)


def _squeezed(part: Part, split: str, name: str) -> Array:
    y = part.y
    if y.ndim > 2 or (y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind == "U"):
        raise DataError(
            f"{name}: {split} labels have the shape {y.shape}; give one label a row (rows,), one-hot rows "
            "(rows, classes) or numbers (rows, targets)"
        )
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _from_one_hot(parts: Parts, y: dict[str, Array], task: str | None) -> tuple[dict[str, Array], str | None]:
    """Turn one-hot rows into labels.

    Other rows of numbers are the targets of a regression, or a DataError where classes are asked for.
    """
    zeros_and_ones = True
    for split, labels in y.items():
        is_bit = ((labels == 0) | (labels == 1)).all(axis=1)
        zeros_and_ones &= bool(is_bit.all())
        bad = ~(is_bit & (labels.sum(axis=1) == 1))
        if bad.any() and (task is not None or zeros_and_ones):
            row = int(bad.argmax())
            raise DataError(
                f"{parts.splits[split].place(row)}: {labels[row].tolist()[:20]} is not one-hot; give one "
                "label a row or a single 1 in a row of zeros (several labels a row are not supported), or "
                'task = "regression"'
            )
    if not zeros_and_ones:
        return y, "regression"
    return {split: labels.argmax(axis=1) for split, labels in y.items()}, task


def _inferred(labels: Array) -> str:
    """Tell the task by the labels: text and true/false are classes, and so are whole numbers if they are few.

    Few is at most 20 different ones with two rows each on average; or 0, 1, ... k-1 without a gap, k at most
    1000, with ten rows each on average. All else is regression. The study file's `task` overrules this.
    """
    import numpy as np

    if labels.dtype.kind == "f" and (labels.ndim == 2 or (labels != np.floor(labels)).any()):
        return "regression"
    values = np.unique(labels)
    count, rows = len(values), len(labels)
    if labels.dtype.kind not in "Ub":
        is_few = count <= FEW_CLASSES and 2 * count <= rows
        is_numbered = count <= MOST_CLASSES and 10 * count <= rows and bool((values == np.arange(count)).all())
        if not (is_few or is_numbered):
            return "regression"
    return "binary" if count == 2 else "classification"


def _numbers(parts: Parts, y: Mapping[str, Array]) -> _Targets:
    import numpy as np

    for split, labels in y.items():
        if labels.dtype.kind in "Ub":
            row = next((row for row, label in enumerate(labels.tolist()) if not _is_number(label)), 0)
            raise DataError(
                f"{parts.splits[split].place(row)}: {labels[row].item()!r} is no number; for a regression "
                'all targets are numbers, for classes use task = "classification"'
            )
    return _Targets("regression", {split: np.ascontiguousarray(labels, np.float32) for split, labels in y.items()})


def _is_number(label: Any) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return not isinstance(label, bool)


def _classes(parts: Parts, y: Mapping[str, Array], task: str) -> _Targets:
    import numpy as np

    values = np.unique(np.concatenate(list(y.values())))
    if values.dtype.kind in "iuf":
        _check_labels(parts, y, is_signed=task == "binary" and values.tolist() == [-1, 1])
        values = values.astype(np.int64)
    names = tuple(str(value) for value in values.tolist())
    if len(names) < 2:
        raise DataError(
            f"{parts.name}: one class only, {names[0]!r}; there is nothing to tell apart: add rows of another"
        )
    if task == "binary" and len(names) != 2:
        raise DataError(
            f'{parts.name}: {len(names)} classes ({", ".join(names[:5])}, ...) where task = "binary" needs '
            '2; use task = "classification"'
        )
    if parts.class_names and values.tolist() == list(range(len(parts.class_names))):
        names = parts.class_names
    encoded = {split: np.searchsorted(values, labels).astype(np.int32) for split, labels in y.items()}
    return _Targets(task, encoded, names)


def _check_labels(parts: Parts, y: Mapping[str, Array], is_signed: bool) -> None:
    """Refuse labels that number no class; -1 and 1 may stand for two (`is_signed`)."""
    import numpy as np

    for split, labels in y.items():
        bad = (labels != np.floor(labels)) | ((labels < 0) & (not is_signed)) | (labels >= 2.0**31)
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"{parts.splits[split].place(row)}: the label {labels[row].item()} is out of range; classes "
                'are numbered 0, 1, 2, ...: mend it, or use task = "regression"'
            )


def _divide(parts: Parts, targets: _Targets, section: DataSection, seed: int) -> dict[str, tuple[str, Array]]:
    """Choose the rows of each split: split -> (split of the source, row numbers in it)."""
    import numpy as np

    state = int(np.random.SeedSequence([seed, 7]).generate_state(1)[0])
    rows = {split: np.arange(len(part.x)) for split, part in parts.splits.items()}
    if section.limit is not None:
        rows |= _limited(rows, targets, section.limit, state)
    chosen = {split: (split, index) for split, index in rows.items()}
    fractions = {"test": section.test, "validation": section.validation}
    cut = {split: fraction for split, fraction in fractions.items() if split not in rows and fraction > 0}
    left = rows["train"]
    total = len(left)
    labels = targets.y["train"] if targets.class_names else None
    for done, (split, fraction) in enumerate(cut.items()):
        count = max(1, round(fraction * total))
        if labels is not None:
            _check_shares(parts.name, targets, labels[left], len(cut) - done + 1, (split, count))
        elif len(left) - count < 2:
            raise DataError(f"{parts.name}: {total} rows are too few to split; give more, or a larger limit")
        left, taken = _cut(left, count, labels, state)
        chosen[split] = ("train", taken)
    return chosen | {"train": ("train", left)}


def _cut(index: Array, count: int, labels: Array | None, state: int) -> tuple[Array, Array]:
    """Take `count` of the rows at random, every class in its share; return (those left, those taken)."""
    from sklearn.model_selection import train_test_split

    stratify = None if labels is None else labels[index]
    left, taken = train_test_split(index, test_size=count, random_state=state, stratify=stratify)
    return left, taken


def _check_shares(name: str, targets: _Targets, labels: Array, need: int, taken: tuple[str, int]) -> None:
    """Make sure that every class has `need` rows: one for each split to be cut and one to train on."""
    import numpy as np

    counts = np.bincount(labels, minlength=len(targets.class_names))
    present = np.flatnonzero(counts)
    split, count = taken
    for label in present:
        if counts[label] < need:
            raise DataError(
                f"{name}: class {targets.class_names[label]!r} has {counts[label]} of the {len(labels)} rows "
                f"to split, and needs {need}, one for each split; add rows, remove the class, raise limit, "
                'give splits of your own, or use task = "regression" if these are no classes'
            )
    if min(count, len(labels) - count) < len(present):
        raise DataError(
            f"{name}: {count} {split} rows and {len(labels) - count} others can't each hold all of "
            f"{len(present)} classes; give more rows, or change {split} in [data]"
        )


def _limited(rows: Mapping[str, Array], targets: _Targets, limit: int, state: int) -> dict[str, Array]:
    """Keep `limit` rows of training and the source's own validation together, each in its share."""
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
                labels = None  # too few for shares: any rows will do, and what is then missing is found below
        kept[split] = _cut(index, count, labels, state)[1]
    return kept


def _check_learnable(parts: Parts, targets: _Targets, rows: Mapping[str, tuple[str, Array]]) -> None:
    """Refuse fewer than two training rows, and labels to be judged by that no training row has."""
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


def _scale(arrays: dict[str, Array], how: str, name: str) -> None:
    """Turn all features into float32 in place, bytes of images into 0..1; fit `how` on the training rows."""
    import numpy as np

    x = {key: array for key, array in arrays.items() if key.startswith("x_")}
    if how == "none":
        for key, array in x.items():
            arrays[key] = np.ascontiguousarray(array, np.float32)
            if array.dtype == np.uint8 and array.ndim > 2:
                arrays[key] /= np.float32(255)
        return
    if x["x_train"].ndim != 2:
        raise DataError(
            f'{name}: scale = "{how}" is for flat rows; received rows of shape {x["x_train"].shape[1:]}; '
            "remove scale (images in bytes are scaled to 0..1 by themselves)"
        )
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    scaler = (StandardScaler() if how == "standard" else MinMaxScaler()).fit(x["x_train"].astype(np.float64))
    for key, array in x.items():
        arrays[key] = np.ascontiguousarray(scaler.transform(array.astype(np.float64)), np.float32)


def _fingerprint(arrays: Mapping[str, Array]) -> str:
    import numpy as np

    digest = hashlib.blake2b(digest_size=16)
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
