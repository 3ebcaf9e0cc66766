"""What every loss and metric of Keras is made for, and how it gets that from a study's labels and a model's outputs.

The one place that knows. The user's own losses and metrics get what the data source and the model give; `pairing` sees to
their columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras

from search.data import Data
from search.engines import keras_names, logits
from search.engines.forms import Form, FormedLoss, FormedMetric, Shape
from search.engines.keras_names import Named
from search.errors import UsageError

Outputs = Literal["probabilities", "margins", "values", "scores", "classes", "embeddings", "sequences"]


@dataclass(frozen=True)
class Needs:
    """What a loss or metric is made for.

    Attributes:
        outputs: "probabilities"; "margins" around 0; "values" as close to the targets as can be; "scores", of which only the
            order matters; numbers of "classes"; "embeddings" of any length; "sequences".
        is_sparse: labels are whole numbers; if not, they have the shape of the outputs: columns, one-hot rows, targets.
        is_categorical: a row's outputs are one for each class, which exclude each other.
        is_flat: labels may be (rows,) only.
        is_of_bits: labels are 0 or 1.
    """

    outputs: Outputs
    is_sparse: bool = False
    is_categorical: bool = False
    is_flat: bool = False
    is_of_bits: bool = False


_OF_CLASSES = Needs("probabilities", is_categorical=True)
_PROBABILITIES, _MARGINS, _VALUES = Needs("probabilities"), Needs("margins"), Needs("values")

LOSSES: dict[str, Needs] = {
    "BinaryCrossentropy": _PROBABILITIES,
    "BinaryFocalCrossentropy": _PROBABILITIES,
    "CategoricalCrossentropy": _OF_CLASSES,
    "CategoricalFocalCrossentropy": _OF_CLASSES,
    "SparseCategoricalCrossentropy": Needs("probabilities", is_sparse=True, is_categorical=True),
    "CategoricalGeneralizedCrossEntropy": Needs("probabilities", is_sparse=True, is_categorical=True, is_flat=True),
    "KLDivergence": _PROBABILITIES,
    "Dice": _PROBABILITIES,
    "Tversky": _PROBABILITIES,
    "Hinge": _MARGINS,
    "SquaredHinge": _MARGINS,
    "CategoricalHinge": Needs("margins", is_categorical=True),
    **dict.fromkeys(
        ("CosineSimilarity", "Huber", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
         "MeanSquaredLogarithmicError", "Poisson"),
        _VALUES,
    ),
    "Circle": Needs("embeddings", is_sparse=True),
    "CTC": Needs("sequences"),
}  # fmt: skip
"""`tests/engines/test_objectives.py` holds these tables against the classes of the installed Keras."""

METRICS: dict[str, Needs] = {
    **dict.fromkeys(
        ("AUC", "BinaryAccuracy", "BinaryIoU", "F1Score", "FBetaScore", "FalseNegatives",
         "FalsePositives", "Precision", "PrecisionAtRecall", "Recall", "RecallAtPrecision", "SensitivityAtSpecificity",
         "SpecificityAtSensitivity", "TrueNegatives", "TruePositives"),
        Needs("probabilities", is_of_bits=True),
    ),
    "BinaryCrossentropy": _PROBABILITIES,
    "KLDivergence": _PROBABILITIES,
    "CategoricalCrossentropy": _OF_CLASSES,
    "SparseCategoricalCrossentropy": Needs("probabilities", is_sparse=True, is_categorical=True),
    "CategoricalAccuracy": Needs("scores", is_categorical=True),
    "TopKCategoricalAccuracy": Needs("scores", is_categorical=True),
    "SparseCategoricalAccuracy": Needs("scores", is_sparse=True, is_categorical=True),
    "SparseTopKCategoricalAccuracy": Needs("scores", is_sparse=True, is_categorical=True),
    "IoU": Needs("classes", is_sparse=True),
    "MeanIoU": Needs("classes", is_sparse=True),
    "OneHotIoU": Needs("classes", is_sparse=True, is_categorical=True),
    "OneHotMeanIoU": Needs("classes", is_sparse=True, is_categorical=True),
    "Hinge": _MARGINS,
    "SquaredHinge": _MARGINS,
    "CategoricalHinge": Needs("margins", is_categorical=True),
    **dict.fromkeys(
        ("ConcordanceCorrelation", "CosineSimilarity", "LogCoshError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
         "MeanSquaredError", "MeanSquaredLogarithmicError", "PearsonCorrelation", "Poisson", "R2Score",
         "RootMeanSquaredError"),
        _VALUES,
    ),
}  # fmt: skip
ACCURACIES = ("accuracy", "acc")


@dataclass(frozen=True)
class Target:
    """What a study's rows are judged against.

    Attributes:
        shape: of the labels or targets as they are handed over; "" for several targets a row.
        width: how many numbers a row of them has.
        classes: how many there are; 0 for regression.
        is_bits: all are 0 or 1.
        is_shares: all are in 0..1.
    """

    task: str
    shape: Shape
    width: int
    classes: int
    is_bits: bool
    is_shares: bool

    @classmethod
    def of(cls, data: Data) -> Target:
        """Describe the targets of a study's data."""
        y, info = data.y_train, data.info
        width = y.shape[1] if y.ndim == 2 else 1
        shape: Shape = "flat" if y.ndim == 1 else "column" if width == 1 else "one_hot" if info.classes else ""
        parts = (y, data.y_validation)
        is_bits = all(bool(((part == 0) | (part == 1)).all()) for part in parts)
        is_shares = all(bool(((part >= 0) & (part <= 1)).all()) for part in parts)
        return cls(info.task, shape, width, info.classes, is_bits, is_shares)


@dataclass(frozen=True)
class Rule:
    """What losses and metrics of one model get.

    Attributes:
        target: what it is judged against.
        width: how many outputs it gives a row; 0 where it gives something else than rows of numbers, which is left alone.
        squash: what makes probabilities of its outputs, "sigmoid" or "softmax"; "" where they are probabilities, or values.
        is_bounded: all outputs are within 0..1.
        is_categorical: a row's outputs exclude each other.
    """

    target: Target
    width: int
    squash: str = ""
    is_bounded: bool = False
    is_categorical: bool = False

    def loss(self, found: Named) -> keras.losses.Loss:
        """Make a loss of Keras's for this model; UsageError if it can't be computed from these labels and outputs."""
        needs = LOSSES.get(found.name)
        if found.takes_from_logits and found.from_logits is None:
            found = replace(found, from_logits=bool(self.squash))
        if needs is None or not self.width:
            return found.make()
        self._check(found, needs, LOSSES)
        outputs = self.squash if needs.outputs == "probabilities" and not found.takes_from_logits else ""
        # Keras's losses put (rows,) beside one output a row into a column themselves; in another form they are not asked to.
        does_keras = self.width == 1 and self.target.shape == "flat" and not outputs
        form = Form(self.target.shape, "" if does_keras else self._labels(needs), self.width, outputs)
        made = found.make()
        return made if form.changes_nothing else FormedLoss(made, form)

    def metric(self, found: Named) -> keras.metrics.Metric:
        """Make a metric of Keras's for this model; UsageError if it can't be computed from these labels and outputs."""
        if found.name == "Accuracy" and self.width:
            found = replace(found, kind=self._accuracy(found))
        needs = METRICS.get(found.name)
        if not self.width and found.takes_from_logits and found.from_logits is None:
            found = replace(found, from_logits=bool(self.squash))
        if needs is None or not self.width:
            return found.make()
        self._check(found, needs, METRICS)
        found = self._completed(found)
        found, outputs = self._outputs(found, needs)
        made = found.make()
        labels = self._labels(needs)
        if needs.outputs == "classes":
            labels, outputs = self._of_classes(made)
        elif needs.outputs in ("probabilities", "values") and not outputs and not self._has_probabilities(found):
            # Keras drops without a word what is outside of its evenly spaced thresholds.
            outputs = "clip" if getattr(made, "_thresholds_distributed_evenly", False) else ""
        elif found.takes_from_logits and not outputs and not found.from_logits and self._is_of_other_kind(needs):
            # Keras on TensorFlow would take the logits of a softmax for those of sigmoids, and the other way round.
            outputs = "clip"
        form = Form(self.target.shape, labels, self.width if self.width > 1 else self.target.classes, outputs)
        return made if form.changes_nothing else FormedMetric(made, form)

    def _labels(self, needs: Needs) -> Shape:
        """Return the shape that labels must be put into, or "" if they have it."""
        given = self.target.shape
        wanted: Shape
        if needs.is_sparse:
            # One number a row may stand in a column for most.
            wanted = "flat" if given == "one_hot" or needs.is_flat else given
        elif self.width == 1:
            wanted = "column"
        elif self.target.classes:
            wanted = "one_hot"
        else:
            wanted = given
        return "" if wanted == given and (wanted != "one_hot" or self.target.width == self.width) else wanted

    def _outputs(self, found: Named, needs: Needs) -> tuple[Named, str]:
        """Tell a metric that it gets logits, where it can be told, or else say what to do to the outputs."""
        if needs.outputs not in ("probabilities", "values") or not self.squash or found.from_logits is not None:
            return found, ""
        sigmoid, options = self.squash == "sigmoid", found.options
        if found.takes_from_logits and sigmoid != needs.is_categorical:
            return replace(found, from_logits=True), ""
        if sigmoid and found.name in ("BinaryAccuracy", "BinaryIoU") and options.get("threshold", 0.5) == 0.5:
            return found.told(threshold=0.0), ""
        cuts = ("Precision", "Recall", "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")
        if sigmoid and found.name in cuts and options.get("thresholds") is None and options.get("top_k") is None:
            return found.told(thresholds=0), ""
        return found, self.squash

    def _completed(self, found: Named) -> Named:
        """Fill in what makes a metric a number, and one of this task."""
        if found.name in ("F1Score", "FBetaScore"):
            if not self.is_categorical and found.options.get("threshold") is None:
                # Keras takes the highest output of a row for its class: the only one, here.
                found = found.told(threshold=0.5)
            if found.options.get("average") is None:
                found = found.told(average="macro")
        return found

    def _is_of_other_kind(self, needs: Needs) -> bool:
        return self.width > 1 and needs.is_categorical != self.is_categorical

    def _has_probabilities(self, found: Named) -> bool:
        return self.is_bounded or bool(self.squash) or bool(found.from_logits)

    def _of_classes(self, made: keras.metrics.Metric) -> tuple[Shape, str]:
        """Return how labels and outputs become what a metric of intersections over unions asks for."""
        if made.num_classes < self.target.classes:
            raise UsageError(
                f"train.metrics: {type(made).__name__} with num_classes = {made.num_classes} would leave out rows: the data "
                f"have {self.target.classes} classes; mend it"
            )
        given = self.target.shape
        labels: Shape = "flat" if made.sparse_y_true and given == "one_hot" else ""
        if not made.sparse_y_true:
            labels = "" if given == "one_hot" else "one_hot"
        if not made.sparse_y_pred:
            return labels, ""
        return labels, "argmax" if self.width > 1 else "above_0" if self.squash else "above_half"

    def _accuracy(self, found: Named) -> type[Any]:
        """Return the kind of accuracy that fits."""
        target = self.target
        if self.width == 1 and (target.is_bits or target.task == "binary"):
            return keras.metrics.BinaryAccuracy  # type: ignore[no-any-return]
        if target.classes and self.width > 1:
            is_one_hot = target.shape == "one_hot"
            return keras.metrics.CategoricalAccuracy if is_one_hot else keras.metrics.SparseCategoricalAccuracy  # type: ignore[no-any-return]
        if self.width > 1 and self.is_categorical:
            return keras.metrics.CategoricalAccuracy  # type: ignore[no-any-return]
        if target.is_bits:
            return keras.metrics.BinaryAccuracy  # type: ignore[no-any-return]
        raise UsageError(
            f'{found.key}: accuracy is of classes; the task is {target.task} with {self.width} outputs a row: name "mae" or '
            '"r2_score", say, or give classes'
        )

    def _check(self, found: Named, needs: Needs, table: Mapping[str, Needs]) -> None:
        for trouble in self._troubles(found, needs):
            raise UsageError(f"{found.key}: {found.name} {trouble}")
        lacks_from_logits = found.from_logits is not None and not found.takes_from_logits
        if lacks_from_logits and not (table is LOSSES and needs.outputs == "probabilities"):
            keras_names.refuse_option(found, "from_logits")

    def _troubles(self, found: Named, needs: Needs) -> Iterator[str]:
        """Yield why a loss or metric can't be computed, or would give a number that means nothing."""
        target, width = self.target, self.width
        if needs.outputs == "sequences":
            yield "is of sequences: it needs outputs (rows, steps, classes); this model gives one row of numbers for each row"
        if needs.is_sparse and not target.classes:
            yield 'needs labels of classes; the task is regression: use task = "classification", or another'
        if needs.outputs == "embeddings":
            return
        if not target.classes and needs.is_of_bits and not target.is_bits:
            yield 'is of labels 0 and 1; the task is regression, with other targets: use "mae" or "r2_score", say'
        if not target.classes and needs.outputs == "probabilities" and not target.is_shares:
            yield "is of shares in 0..1, and there are targets outside of that: scale the targets, or use another"
        if width < 2 and (needs.is_categorical or found.options.get("sparse_y_pred") is False):
            yield f"needs an output for each class; this model gives one a row: use {_of_one_output(found.name)}"
        if not target.classes and width != target.width:
            yield f"needs an output for each target: the model gives {width} outputs a row, the data have {target.width}"
        is_short = width < target.classes and (width > 1 or (target.classes > 2 and needs.outputs != "values"))
        if is_short:
            yield (
                f"needs an output for each class: the model gives {width} outputs a row, the data have {target.classes} "
                "classes; end it with data.outputs units"
            )
        of_a_row = found.name in ("PearsonCorrelation", "ConcordanceCorrelation") and found.options.get("axis", -1) != 0
        if of_a_row and width == 1:
            yield "is of the outputs of a row, and this model gives one: add axis = 0, for the rows of each batch"
        if (number := found.options.get("class_id")) is not None and not 0 <= number < width:
            yield f"has class_id = {number}; the model's outputs are numbered 0 to {width - 1}"
        if found.options.get("from_sorted_ids"):
            yield "with from_sorted_ids is of numbers of classes; this model gives an output for each: remove it"


def _of_one_output(name: str) -> str:
    if "Accuracy" in name:
        return "BinaryAccuracy"
    return {"CategoricalHinge": "Hinge", "CategoricalFocalCrossentropy": "BinaryFocalCrossentropy"}.get(
        name, "BinaryIoU" if "IoU" in name else "BinaryCrossentropy"
    )


def width_of(model: keras.Model, data: Data) -> int | None:
    """Return how many outputs a model gives a row; 0 for rows of more dimensions, None for several arrays of outputs."""
    shape = logits.output_shape(model, data.x_train)
    if shape is None:
        return None
    return shape[1] or 0 if len(shape) == 2 else 0


def rule_for(model: keras.Model, data: Data, loss: Named | str, width: int | None) -> Rule:
    """Return what losses and metrics of a model get; `loss` is one of Keras's, or the text of the user's own.

    UsageError where it matters whether the model gives logits and that can't be told.
    """
    target = Target.of(data)
    if width is None:
        return Rule(target, 0)
    needs = _needs(loss, target, width)
    end = logits.end_of(model)
    rule = Rule(
        target, width, is_bounded=end == "probabilities", is_categorical=_is_categorical(loss, needs, target, width)
    )
    if needs.outputs not in ("probabilities", "margins"):
        return rule
    if isinstance(loss, Named) and loss.from_logits is not None:
        end = "logits" if loss.from_logits else "probabilities"
    elif needs.outputs == "margins":
        end = end or "logits"
    else:
        end = end or logits.judged(model, data.x_train)
        if not end and isinstance(loss, Named):
            raise UsageError(_ask(loss))
    squash = ("softmax" if rule.is_categorical else "sigmoid") if end == "logits" else ""
    return replace(rule, squash=squash, is_bounded=end == "probabilities")


def loss_of_task(data: Data, width: int | None, label_smoothing: float | None) -> Named:
    """Return the loss of a study's task for a model of `width` outputs; UsageError if they are not the task's.

    `label_smoothing` is None where the study says nothing of it.
    """
    target, info = Target.of(data), data.info
    # Two outputs tell two classes apart as well as one does.
    if width and width not in ((1, 2) if info.task == "binary" else (info.outputs,)):
        what = f"{info.classes} classes" if info.classes else f"{info.outputs} targets"
        raise UsageError(
            f"model.build: the model gives {width} outputs a row, the data have {what}; "
            "end it with data.outputs units, or name the loss in train.loss"
        )
    smoothing = {} if label_smoothing is None else {"label_smoothing": label_smoothing}
    if not target.classes:
        return Named("train.loss", "", keras.losses.MeanSquaredError)
    if target.task == "binary" and width != 2:
        return Named("train.loss", "", keras.losses.BinaryCrossentropy, smoothing)
    if target.shape == "one_hot" or smoothing:
        return Named("train.loss", "", keras.losses.CategoricalCrossentropy, smoothing)
    return Named("train.loss", "", keras.losses.SparseCategoricalCrossentropy)


def _needs(loss: Named | str, target: Target, width: int) -> Needs:
    if isinstance(loss, Named):
        return LOSSES.get(loss.name, _VALUES)
    if not target.classes:
        return _VALUES
    return _PROBABILITIES if width == 1 else _OF_CLASSES


def _is_categorical(loss: Named | str, needs: Needs, target: Target, width: int) -> bool:
    """Whether a row's outputs exclude each other: one for each class, by the loss or by the labels."""
    name = loss.name if isinstance(loss, Named) else ""
    if width == 1 or name in ("BinaryCrossentropy", "BinaryFocalCrossentropy"):
        return False
    return needs.is_categorical or name == "KLDivergence" or bool(target.classes)


def _ask(loss: Named) -> str:
    return (
        "train.loss: whether this model gives probabilities or logits can't be told; "
        f'add loss = {{ name = "{loss.name}", from_logits = true }} (or false) to [train]'
    )
