"""Data sources -> arrays, splits and a fingerprint; bad data are found here, before the first trial.

`check` is for the coordinator and takes milliseconds; `load` is for the worker. Importing this package or checking a
source brings in none of keras, scikit-learn, pandas, Pillow and numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.data import dense, exact
from search.data.parts import sound
from search.data.sources import gives_shapes, locate
from search.data.splits import Scaling, divide, fingerprint, scale
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.settings import DataSection


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
class Raw:
    """What the source itself has: an exported model takes such rows.

    Attributes:
        x_validation: the validation rows before any scaling, as the source has them.
        is_one_hot: the source's labels were one-hot rows.
    """

    x_validation: Array
    is_one_hot: bool = False


@dataclass(frozen=True, eq=False)
class Data:
    """Arrays to train and to judge by; the test rows are held out, only counted and fingerprinted.

    Attributes:
        x_train, x_validation: float32, C-contiguous, (rows, *info.input_shape); int32 or int64 if they are whole numbers
            that float32 would change.
        y_train, y_validation: in the shape that the source gave. Classes are (rows,), (rows, 1) or one-hot rows, int32
            (float32 where the source has floats); a regression's targets are (rows,) or (rows, targets, ...), float32. A
            source without a shape of its own (a column of a table, a named data set) gives (rows, 1) for a model of one
            output and (rows,) for several classes.
        fingerprint: 32 hex digits of all splits' bytes, shapes and dtypes, test rows included; the shape of y, which tells
            nothing about the values, does not count.
        warnings: lines on what was taken, or left out, and may not be meant.
        scaling: what turned `raw` rows into these.
    """

    info: DataInfo
    x_train: Array
    y_train: Array
    x_validation: Array
    y_validation: Array
    fingerprint: str
    raw: Raw
    scaling: Scaling
    warnings: tuple[str, ...] = ()


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
    (uint8, rows of two or more dimensions) are scaled to 0..1; `scale` is fitted on the training rows. Targets that
    are the features (an autoencoder's) are scaled as these are.

    Raises DataError, naming the file and, where there is one, the row.
    """
    check(section, base)
    try:
        parts = sound(locate(section, base).read(seed))
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None
    targets = dense.any_targets_of(parts, section.task, is_shaped=gives_shapes(section, base))
    is_regression = targets.task == "regression"
    repeats = is_regression and dense.are_features(parts)
    whole = exact.whole_dtype(parts, section.scale)
    warnings = (*parts.warnings, *exact.losses(parts, section.scale, is_regression=is_regression))
    rows = divide(parts, targets, section, seed)
    arrays: dict[str, Array] = {}
    handed = {f"y_{split}": targets.handed[origin][index] for split, (origin, index) in rows.items()}
    for split, (origin, index) in rows.items():
        arrays[f"x_{split}"] = parts.splits[origin].x[index]
        arrays[f"y_{split}"] = targets.y[origin][index]
    source_y = parts.splits["train"].y
    is_one_hot = targets.task != "regression" and source_y.ndim == 2 and source_y.shape[1] > 1
    raw = Raw(arrays["x_validation"], is_one_hot)
    if whole is None:
        scaling = scale(arrays, section.scale, parts.name)
        if repeats:
            dense.repeat_features(arrays)
    else:
        exact.keep(arrays, whole)
        scaling = Scaling()
    info = DataInfo(
        input_shape=arrays["x_train"].shape[1:],
        task=targets.task,
        classes=len(targets.class_names),
        outputs=targets.outputs,
        class_names=targets.class_names,
        **{f"{split}_rows": len(index) for split, (_, index) in rows.items()},
    )
    if repeats:
        handed = {key: arrays[key].reshape(y.shape) for key, y in handed.items()}
    used = {key: {**arrays, **handed}[key] for key in ("x_train", "y_train", "x_validation", "y_validation")}
    return Data(info=info, **used, fingerprint=fingerprint(arrays), raw=raw, scaling=scaling, warnings=warnings)
