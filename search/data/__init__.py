"""Data sources -> arrays, splits and a fingerprint. Bad data raise an error here, before the first trial.

`check` is for the coordinator and takes milliseconds; `load` is for the worker. Importing this package or checking a
source does not import keras, scikit-learn, pandas, Pillow or numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data import dense, exact
from search.data.parts import validate
from search.data.roles import check_given, divided
from search.data.sources import has_own_shapes, locate
from search.data.splits import Scaling, check_learnable, divide, fingerprint, scale, uneven
from search.data.windows import cut, in_order
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.settings import DataSection


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The facts about the data that a builder gets.

    Attributes:
        input_shape: the shape of one row.
        task: "classification", "binary" or "regression".
        classes: the number of classes; 2 for binary, 0 for regression.
        outputs: numbers that a model must give for a row: one per class, 1 for binary, one per target for regression.
        class_names: the class of each label 0, 1, ...; empty for regression.
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
    """Rows as the source has them; an exported model takes rows of this form.

    Attributes:
        x_validation: the validation rows before any scaling.
        is_one_hot: whether the source's labels are one-hot rows.
    """

    x_validation: Array
    is_one_hot: bool = False


@dataclass(frozen=True, eq=False)
class Data:
    """Arrays to train on and to validate with; the test rows are held out, only counted and fingerprinted.

    Attributes:
        x_train, x_validation: float32, C-contiguous, (rows, *info.input_shape); int32 or int64 if they are whole numbers
            that float32 would change.
        y_train, y_validation: in the shape that the source gave. Labels are (rows,), (rows, 1) or one-hot rows, int32
            (float32 where the source has floats); a regression's targets are (rows,) or (rows, targets, ...), float32. A
            source without a shape of its own (a column of a table, a named data set) gives (rows, 1) for a model of one
            output and (rows,) for several classes.
        fingerprint: 32 hex digits of all splits' bytes, shapes and dtypes, test rows included. Of y only the numbers count:
            `targets` has its form and the names of its classes.
        warnings: remarks on data that were taken, or left out, and may not be meant.
        scaling: the scaling that turned `raw` rows into these.
        own_splits: which of "validation" and "test" the source has itself.
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
    own_splits: tuple[str, ...] = ()

    @property
    def targets(self) -> dict[str, Any]:
        """What the fingerprint leaves out: the classes' names, and the shape and dtype of targets as models get them."""
        more = ", ".join(map(str, self.y_train.shape[1:]))
        return {
            "classes": list(self.info.class_names),
            "shape": f"(rows, {more})" if more else "(rows,)",
            "dtype": str(self.y_train.dtype),
        }


def check(section: DataSection, base: Path) -> None:
    """Check what can be checked at once, without running the user's code; `base` is the study file's folder.

    Raises DataError: no such source or file, an .npz without its keys, a .csv without header or target, a
    folder without classes, a missing data function.
    """
    try:
        locate(section, base).check()
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None


def load(section: DataSection, base: Path, seed: int) -> Data:
    """Read, check, split and scale the data; the same arguments and files give the same arrays.

    The source's own splits are used as they are. Missing splits are cut from its training rows, test before
    validation, stratified by class; the fractions are of those rows (after `limit`). Images in bytes
    (uint8, rows of two or more dimensions) are scaled to 0..1; `scale` is fitted on the training rows. Targets that
    equal the features (an autoencoder's) are scaled in the same way. With `window`, rows become windows after they are split.

    Raises DataError, which names the file and, if possible, the row.
    """
    check(section, base)
    try:
        parts = divided(in_order(validate(locate(section, base).read(seed)), section))
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None
    targets = dense.any_targets_of(parts, section.task, keeps_shape=has_own_shapes(section, base))
    is_regression = targets.task == "regression"
    is_autoencoder = is_regression and section.window is None and dense.targets_are_features(parts)
    integer_dtype = exact.integer_dtype(parts, section.scale)
    warnings = (
        *parts.warnings,
        *check_given(parts),
        *exact.precision_warnings(parts, section.scale, is_regression=is_regression),
    )
    rows = divide(parts, targets, section, seed)
    warnings += tuple(uneven(parts, targets, section, rows))
    series = None
    if windows := cut(parts, section, rows, seed):
        series = parts.splits[windows["train"].origin].x[windows["train"].rows]
        rows = {split: (each.origin, each.targets) for split, each in windows.items()}
        check_learnable(parts, targets, rows)
    arrays: dict[str, Array] = {}
    shaped = {f"y_{split}": targets.shaped[origin][index] for split, (origin, index) in rows.items()}
    for split, (origin, index) in rows.items():
        x = parts.splits[origin].x
        arrays[f"x_{split}"] = windows[split].features(x) if windows else x[index]
        arrays[f"y_{split}"] = targets.y[origin][index]
    source_y = parts.splits["train"].y
    is_one_hot = targets.task != "regression" and source_y.ndim == 2 and source_y.shape[1] > 1
    raw = Raw(arrays["x_validation"], is_one_hot)
    if integer_dtype is None:
        scaling = scale(arrays, section.scale, parts.name, series)
        if is_autoencoder:
            dense.copy_features(arrays)
    else:
        exact.to_integers(arrays, integer_dtype)
        scaling = Scaling()
    info = DataInfo(
        input_shape=arrays["x_train"].shape[1:],
        task=targets.task,
        classes=len(targets.class_names),
        outputs=targets.outputs,
        class_names=targets.class_names,
        **{f"{split}_rows": len(index) for split, (_, index) in rows.items()},
    )
    if is_autoencoder:
        shaped = {key: arrays[key].reshape(y.shape) for key, y in shaped.items()}
    used = {key: {**arrays, **shaped}[key] for key in ("x_train", "y_train", "x_validation", "y_validation")}
    return Data(
        info=info,
        **used,
        fingerprint=fingerprint(arrays),
        raw=raw,
        scaling=scaling,
        warnings=warnings,
        own_splits=tuple(split for split in ("validation", "test") if split in parts.splits),
    )
