"""How the losses and metrics of a model get a study's labels and the model's outputs in the form that they need.

The user's own losses and metrics get labels and outputs unchanged, except that `pairing` may turn labels into a column or
back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from search.data import Data
from search.engines.losses.forms import Form, FormedLoss, FormedMetric, Shape
from search.engines.losses.keras_names import Named, refuse_option
from search.engines.losses.needs import CATEGORICAL, LOSSES, METRICS, PROBABILITIES, VALUES, Needs
from search.engines.losses.outputs import NOT_FINITE, end_from_outputs, end_of, is_finite, output_shape
from search.engines.losses.pairing import Rows
from search.errors import UsageError


@dataclass(frozen=True)
class Target:
    """The labels or targets of a study's rows.

    Attributes:
        shape: in which the data have them; "" for several targets a row.
        width: numbers per row.
        classes: number of classes; 0 for regression.
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

    def rows(self, width: int) -> Rows:
        """Return what the rows look like beside a model with `width` outputs per row."""
        return Rows(self.shape, width, self.classes, is_binary=self.task == "binary" or self.is_bits)


@dataclass(frozen=True)
class Rule:
    """How losses and metrics of one model get its labels and outputs.

    Attributes:
        target: the labels or targets of the study.
        width: outputs per row; 0 if outputs are not rows of numbers. Then labels stay unchanged.
        is_map: outputs have more than two axes, and the last has the length 1: one probability, logit or value per place.
        squash: what turns outputs into probabilities, "sigmoid" or "softmax"; "" if they are probabilities or values.
        is_bounded: all outputs are in 0..1.
        is_categorical: a row has one output per class, and exactly one class is right.
    """

    target: Target
    width: int
    squash: str = ""
    is_bounded: bool = False
    is_categorical: bool = False
    is_map: bool = False

    @property
    def decides_accuracy(self) -> bool:
        """Whether `metric` can make the accuracy that fits; otherwise Keras picks one by shapes, which takes no logits."""
        return bool(self.width) or (self.is_map and self.squash == "sigmoid")

    def loss(self, named: Named) -> keras.losses.Loss:
        """Make a loss of Keras's for this model; UsageError if it can't be computed from these labels and outputs."""
        needs = LOSSES.get(named.name)
        if named.takes_from_logits and named.from_logits is None:
            named = replace(named, from_logits=bool(self.squash))
        if needs is None or not self.width:
            return named.make()
        self._check(named, needs, LOSSES)
        outputs = self.squash if needs.outputs == "probabilities" and not named.takes_from_logits else ""
        # With one output a row, Keras's losses themselves reshape (rows,) to a column; a FormedLoss has to do it.
        keras_reshapes = self.width == 1 and self.target.shape == "flat" and not outputs
        form = Form(self.target.shape, "" if keras_reshapes else self._labels(needs), self.width, outputs)
        made = named.make()
        return made if form.changes_nothing else FormedLoss(made, form)

    def metric(self, named: Named) -> keras.metrics.Metric:
        """Make a metric of Keras's for this model; UsageError if it can't be computed from these labels and outputs."""
        if named.name == "Accuracy":
            named = replace(named, kind=self._accuracy(named) if self.width else keras.metrics.BinaryAccuracy)
        needs = METRICS.get(named.name)
        if not self.width and named.takes_from_logits and named.from_logits is None:
            named = replace(named, from_logits=bool(self.squash))
        if needs is None:
            return named.make()
        if not self.width:
            named, outputs = self._outputs(named, needs)
            return FormedMetric(named.make(), Form(outputs=outputs)) if outputs else named.make()
        self._check(named, needs, METRICS)
        named = self._completed(named)
        named, outputs = self._outputs(named, needs)
        made = named.make()
        labels = self._labels(needs)
        if needs.outputs == "classes":
            labels, outputs = self._class_numbers(made)
        elif needs.outputs in ("probabilities", "values") and not outputs and not self._has_probabilities(named):
            # Keras silently drops outputs outside of its evenly spaced thresholds.
            outputs = "clip" if getattr(made, "_thresholds_distributed_evenly", False) else ""
        elif named.takes_from_logits and not outputs and not named.from_logits and self._mismatches(needs):
            # Keras on TensorFlow would read the logits of a softmax as those of sigmoids, or the reverse.
            outputs = "clip"
        form = Form(self.target.shape, labels, self.width if self.width > 1 else self.target.classes, outputs)
        return made if form.changes_nothing else FormedMetric(made, form)

    def _labels(self, needs: Needs) -> Shape:
        """Return the shape that labels must be changed to, or "" if they already have it."""
        given = self.target.shape
        wanted: Shape
        if needs.is_sparse:
            # Most of these accept a column, too.
            wanted = "flat" if given == "one_hot" or needs.is_flat else given
        elif self.width == 1:
            wanted = "column"
        elif self.target.classes:
            wanted = "one_hot"
        else:
            wanted = given
        return "" if wanted == given and (wanted != "one_hot" or self.target.width == self.width) else wanted

    def _outputs(self, named: Named, needs: Needs) -> tuple[Named, str]:
        """Set up a metric for logits if its class can do that; otherwise return the squash for the outputs."""
        if needs.outputs not in ("probabilities", "values") or not self.squash or named.from_logits is not None:
            return named, ""
        sigmoid, options = self.squash == "sigmoid", named.options
        if named.takes_from_logits and sigmoid != needs.is_categorical:
            return replace(named, from_logits=True), ""
        if sigmoid and named.name in ("BinaryAccuracy", "BinaryIoU") and options.get("threshold", 0.5) == 0.5:
            return named.with_options(threshold=0.0), ""
        cuts = ("Precision", "Recall", "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")
        if sigmoid and named.name in cuts and options.get("thresholds") is None and options.get("top_k") is None:
            return named.with_options(thresholds=0), ""
        return named, self.squash

    def _completed(self, named: Named) -> Named:
        """Fill in options so that a metric gives one number that fits the task."""
        if named.name in ("F1Score", "FBetaScore"):
            if not self.is_categorical and named.options.get("threshold") is None:
                # Without a threshold, Keras takes a row's highest output as its class: always class 0 if there is one output.
                named = named.with_options(threshold=0.5)
            if named.options.get("average") is None:
                named = named.with_options(average="macro")
        return named

    def _mismatches(self, needs: Needs) -> bool:
        return self.width > 1 and needs.is_categorical != self.is_categorical

    def _has_probabilities(self, named: Named) -> bool:
        return self.is_bounded or bool(self.squash) or bool(named.from_logits)

    def _class_numbers(self, made: keras.metrics.Metric) -> tuple[Shape, str]:
        """Return how to change labels and outputs for an intersection-over-union metric."""
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

    def _accuracy(self, named: Named) -> type[Any]:
        """Return the accuracy class that fits."""
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
            f'{named.key}: accuracy is of classes; the task is {target.task} with {self.width} outputs a row: name "mae" or '
            '"r2_score", say, or give classes'
        )

    def _check(self, named: Named, needs: Needs, table: Mapping[str, Needs]) -> None:
        for problem in self._problems(named, needs):
            raise UsageError(f"{named.key}: {named.name} {problem}")
        lacks_from_logits = named.from_logits is not None and not named.takes_from_logits
        if lacks_from_logits and not (table is LOSSES and needs.outputs == "probabilities"):
            refuse_option(named, "from_logits")

    def _problems(self, named: Named, needs: Needs) -> Iterator[str]:
        """Yield the reasons why a loss or metric can't be computed or would be meaningless."""
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
        if width < 2 and (needs.is_categorical or named.options.get("sparse_y_pred") is False):
            yield f"needs an output for each class; this model gives one a row: use {_of_one_output(named.name)}"
        if not target.classes and width != target.width:
            yield f"needs an output for each target: the model gives {width} outputs a row, the data have {target.width}"
        is_short = width < target.classes and (width > 1 or (target.classes > 2 and needs.outputs != "values"))
        if is_short:
            yield (
                f"needs an output for each class: the model gives {width} outputs a row, the data have {target.classes} "
                "classes; end it with data.outputs units"
            )
        of_a_row = named.name in ("PearsonCorrelation", "ConcordanceCorrelation") and named.options.get("axis", -1) != 0
        if of_a_row and width == 1:
            yield "is of the outputs of a row, and this model gives one: add axis = 0, for the rows of each batch"
        if (number := named.options.get("class_id")) is not None and not 0 <= number < width:
            yield f"has class_id = {number}; the model's outputs are numbered 0 to {width - 1}"
        if named.options.get("from_sorted_ids"):
            yield "with from_sorted_ids is of numbers of classes; this model gives an output for each: remove it"


def _of_one_output(name: str) -> str:
    if "Accuracy" in name:
        return "BinaryAccuracy"
    return {"CategoricalHinge": "Hinge", "CategoricalFocalCrossentropy": "BinaryFocalCrossentropy"}.get(
        name, "BinaryIoU" if "IoU" in name else "BinaryCrossentropy"
    )


def rule_for(model: keras.Model, data: Data, loss: Named | str, width: int | None, index: int | None = None) -> Rule:
    """Return the rule for the losses and metrics of a model, or of one of its several outputs.

    `loss` is Keras's, or the entry of the user's own.

    UsageError if the loss depends on whether the model gives logits and that can't be determined.
    """
    target = Target.of(data)
    if width is None:
        return Rule(target, 0)
    needs = _needs(loss, target, width)
    end = end_of(model, index)
    rule = Rule(
        target,
        width,
        is_bounded=end == "probabilities",
        is_categorical=_is_categorical(loss, needs, target, width),
        is_map=not width and (output_shape(model, data.x_train, index) or (0,))[-1] == 1,
    )
    if needs.outputs not in ("probabilities", "margins"):
        return rule
    if isinstance(loss, Named) and loss.from_logits is not None:
        end = "logits" if loss.from_logits else "probabilities"
    elif needs.outputs == "margins":
        end = end or "logits"
    else:
        end = end or end_from_outputs(model, data.x_train, index)
        if not end and isinstance(loss, Named):
            raise UsageError(_ambiguity(loss) if is_finite(model, data.x_train, index) else NOT_FINITE)
    squash = ("softmax" if rule.is_categorical else "sigmoid") if end == "logits" else ""
    return replace(rule, squash=squash, is_bounded=end == "probabilities")


def loss_of_task(data: Data, width: int | None, label_smoothing: float | None) -> Named:
    """Return the default loss of a study's task for a model of `width` outputs; UsageError if `width` does not fit the task.

    `label_smoothing` is None if the study does not set it.
    """
    target, info = Target.of(data), data.info
    # Two classes need one output or two.
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
        return LOSSES.get(loss.name, VALUES)
    if not target.classes:
        return VALUES
    return PROBABILITIES if width == 1 else CATEGORICAL


def _is_categorical(loss: Named | str, needs: Needs, target: Target, width: int) -> bool:
    """Whether a row has one output per class and exactly one class is right, by the loss or by the labels."""
    name = loss.name if isinstance(loss, Named) else ""
    if width == 1 or name in ("BinaryCrossentropy", "BinaryFocalCrossentropy"):
        return False
    return needs.is_categorical or name == "KLDivergence" or bool(target.classes)


def _ambiguity(loss: Named) -> str:
    return (
        "train.loss: whether this model gives probabilities or logits can't be told from its outputs; "
        f'add loss = {{ name = "{loss.name}", from_logits = true }} (or false) to [train]'
    )
