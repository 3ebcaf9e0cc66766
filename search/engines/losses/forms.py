"""Losses and metrics that change the form of labels or outputs before they compute."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
from keras import ops
from keras.src import backend
from keras.src.losses.losses import LossFunctionWrapper

Shape = Literal["", "flat", "column", "one_hot"]
"""Shapes of labels or targets: (rows,), (rows, 1), one-hot rows; "" for any other, such as (rows, targets)."""


@dataclass(frozen=True)
class Form:
    """How to change labels and outputs.

    Attributes:
        given: the shape of labels before.
        labels: the shape of labels after; "" to leave them unchanged.
        width: of one-hot rows.
        outputs: "sigmoid" or "softmax" to turn logits into probabilities, "clip" to 0..1, "argmax", "above_0" or "above_half"
            to get class numbers; "" to leave outputs unchanged.
    """

    given: Shape = ""
    labels: Shape = ""
    width: int = 1
    outputs: str = ""

    @property
    def changes_nothing(self) -> bool:
        return not self.labels and not self.outputs

    def of_labels(self, y: Any) -> Any:
        """Return labels in the wanted shape."""
        if not self.labels:
            return y
        flat = ops.argmax(y, axis=-1) if self.given == "one_hot" else ops.reshape(y, (-1,))
        if self.labels == "one_hot":
            return ops.one_hot(ops.cast(flat, "int32"), self.width, dtype=keras.config.floatx())
        return flat if self.labels == "flat" else ops.reshape(flat, (-1, 1))

    def of_outputs(self, y: Any) -> Any:
        """Return outputs in the wanted form."""
        if not self.outputs:
            return y
        changed = {
            # "* 1": Keras on TensorFlow would keep the logits of these two and compute any cross-entropy from them.
            "sigmoid": lambda y: ops.sigmoid(y) * 1,
            "softmax": lambda y: ops.softmax(y) * 1,
            "clip": lambda y: ops.clip(y, 0.0, 1.0),
            "argmax": lambda y: ops.argmax(y, axis=-1),
            "above_0": lambda y: ops.cast(y > 0, "int32"),
            "above_half": lambda y: ops.cast(y > 0.5, "int32"),
        }[self.outputs](y)
        mask = backend.get_keras_mask(y)
        if mask is not None:
            backend.set_keras_mask(changed, mask)
        return changed


class FormedLoss(LossFunctionWrapper):  # type: ignore[misc]
    """A loss that gets labels and outputs in another form.

    Args:
        loss: one of Keras's, or the user's own that computes in `call`.
    """

    def __init__(self, loss: keras.losses.Loss, form: Form) -> None:
        # A subclass, or code of the user's, may compute something else in `call` than `fn` does.
        is_plain = getattr(loss.call, "__func__", None) is LossFunctionWrapper.call
        super().__init__(loss.fn if is_plain else loss.call, reduction=loss.reduction, name=loss.name, dtype=loss.dtype)
        # Share the dict, do not copy it: lanes write their label smoothing into it.
        self._fn_kwargs = loss._fn_kwargs if is_plain else {}
        self.form = form

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(self.form.of_labels(y_true), self.form.of_outputs(y_pred), **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "form": asdict(self.form)}


class FormedMetric(keras.metrics.Metric):  # type: ignore[misc]
    """A metric that gets labels and outputs in another form: accuracy cuts at a probability, not a logit, of 0.5."""

    def __init__(self, metric: keras.metrics.Metric, form: Form) -> None:
        super().__init__(name=metric.name)
        self.metric, self.form = metric, form

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        labels, outputs = self.form.of_labels(y_true), self.form.of_outputs(y_pred)
        self.metric.update_state(labels, outputs, sample_weight=sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        return {"metric": keras.saving.serialize_keras_object(self.metric), "form": asdict(self.form)}
