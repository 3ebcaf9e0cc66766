"""Targets: the task, and the label or numbers of every row, inferred from what the source holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from search.data.parts import Part, Parts, is_number
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array

# More distinct numbers than this are a regression's targets, unless they count 0, 1, ... without a gap.
FEW_CLASSES = 20
_MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Targets:
    """The task and the targets of every split of the source.

    Attributes:
        y: int32 labels (rows,), or float32 numbers (rows,) or (rows, targets): for splits, weights and the fingerprint.
        shaped: the same values in the shape that the source gave, for losses and metrics.
    """

    task: str
    y: dict[str, Array]
    class_names: tuple[str, ...] = ()
    shaped: dict[str, Array] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        train = self.y["train"]
        return len(self.class_names) if self.task == "classification" else train.shape[1] if train.ndim == 2 else 1


def targets_of(parts: Parts, wanted: str | None, *, keeps_shape: bool = True) -> Targets:
    """Return the targets for the `wanted` task, or for the task that their values imply.

    With `keeps_shape`, losses and metrics get the shape that the source has, because the user chose it.
    """
    import numpy as np

    y = {split: _squeeze(part, split, parts.name) for split, part in parts.splits.items()}
    train = y["train"]
    for split, values in y.items():
        if values.shape[1:] != train.shape[1:] or (values.dtype.kind == "U") != (train.dtype.kind == "U"):
            raise DataError(
                f"{parts.name}: labels are {train.dtype} of shape {train.shape} in training and "
                f"{values.dtype} of shape {values.shape} in {split}; make them alike"
            )
    task = wanted or parts.task
    if train.ndim == 2 and task != "regression":
        y, task = _from_one_hot(parts, y, task)
    task = task or _infer_task(np.concatenate(list(y.values())))
    targets = _numbers(parts, y) if task == "regression" else _classes(parts, y, task)
    form = _source_form(parts.splits["train"].y, targets) if keeps_shape else _usual_form(targets)
    return replace(targets, shaped={split: form(values) for split, values in targets.y.items()})


def label_numbers(y: Array) -> Array:
    """Return labels in any form, (rows,), (rows, 1) or one-hot rows, as integers (rows,)."""
    import numpy as np

    return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype(np.int64)


def _source_form(given: Array, targets: Targets) -> Callable[[Array], Array]:
    """Return a function that gives targets the shape of `given`, and labels its dtype if that is float."""
    import numpy as np

    if targets.task == "regression":
        return lambda y: y.reshape(len(y), -1) if given.ndim == 2 else y
    dtype = np.float32 if given.dtype.kind == "f" else np.int32
    if given.ndim == 2 and given.shape[1] > 1:
        return lambda y: np.eye(len(targets.class_names), dtype=dtype)[y]
    return lambda y: y.astype(dtype).reshape(-1, *given.shape[1:])


def _usual_form(targets: Targets) -> Callable[[Array], Array]:
    """Return a function that gives targets the usual shape for Keras: a column for a model of one output."""
    return lambda y: y.reshape(-1, 1) if targets.outputs == 1 else y


def _squeeze(part: Part, split: str, name: str) -> Array:
    y = part.y
    if y.ndim > 2 or (y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind == "U"):
        raise DataError(
            f"{name}: {split} labels have the shape {y.shape}; give one label a row (rows,), one-hot rows "
            "(rows, classes) or numbers (rows, targets)"
        )
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _from_one_hot(parts: Parts, y: dict[str, Array], task: str | None) -> tuple[dict[str, Array], str | None]:
    """Convert one-hot rows to labels.

    Other rows of numbers are the targets of a regression, or a DataError if `task` is for classes.
    """
    zeros_and_ones = True
    for split, values in y.items():
        is_bit = ((values == 0) | (values == 1)).all(axis=1)
        zeros_and_ones &= bool(is_bit.all())
        bad = ~(is_bit & (values.sum(axis=1) == 1))
        if bad.any() and (task is not None or zeros_and_ones):
            row = int(bad.argmax())
            raise DataError(
                f"{parts.splits[split].place(row)}: {values[row].tolist()[:20]} is not one-hot; give one "
                'label a row or a single 1 in a row of zeros; for several labels a row, task = "regression" '
                'in [data] and loss = "binary_crossentropy" in [train]',
                fault="several labels",
            )
    if not zeros_and_ones:
        return y, "regression"
    return {split: values.argmax(axis=1) for split, values in y.items()}, task


def _infer_task(values: Array) -> str:
    """Infer the task from the targets: texts and booleans are classes, and so are few distinct whole numbers.

    Few is at most 20 distinct ones with two rows each on average; or 0, 1, ... k-1 without a gap, k at most
    1000, with ten rows each on average. All else is regression. The study file's `task` overrules this.
    """
    import numpy as np

    if values.dtype.kind == "f" and (values.ndim == 2 or (values != np.floor(values)).any()):
        return "regression"
    distinct = np.unique(values)
    count, rows = len(distinct), len(values)
    if values.dtype.kind not in "Ub":
        is_few = count <= FEW_CLASSES and 2 * count <= rows
        is_numbered = count <= _MOST_CLASSES and 10 * count <= rows and bool((distinct == np.arange(count)).all())
        if not (is_few or is_numbered):
            return "regression"
    return "binary" if count == 2 else "classification"


def _numbers(parts: Parts, y: Mapping[str, Array]) -> Targets:
    import numpy as np

    for split, values in y.items():
        if values.dtype.kind in "Ub":
            row = next((row for row, value in enumerate(values.tolist()) if not is_number(str(value))), 0)
            raise DataError(
                f"{parts.splits[split].place(row)}: {values[row].tolist()!r} is no number; for a regression "
                'all targets are numbers, for classes use task = "classification"'
            )
    return Targets("regression", {split: np.ascontiguousarray(values, np.float32) for split, values in y.items()})


def _classes(parts: Parts, y: Mapping[str, Array], task: str) -> Targets:
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
    return Targets(task, encoded, names)


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
