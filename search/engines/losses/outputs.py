"""What a model gives: how many outputs a row, and whether they are logits or probabilities.

The last layer decides between these two if it is Keras's; else the values of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal

import keras
import numpy as np
from keras.src import backend
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from numpy.typing import NDArray

from search.data import Data
from search.engines.heads import first_rows
from search.errors import UsageError

End = Literal["logits", "probabilities", ""]

NOT_FINITE = "model.build: the untrained model's outputs are not finite; look at its layers, and at data.scale"

# Rows to try a model on, spread over all training rows.
_ROWS = 64
# Probabilities are in 0..1, and a softmax sums to 1, within this tolerance: code may compute one as 1 minus the others.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2, "float16": 1e-2}
# Layers that end in their `activation`.
_ACTIVATED = (keras.layers.Dense, keras.layers.EinsumDense, BaseConv, BaseConvTranspose, keras.layers.Activation)
# Layers that change no value in evaluation.
_PASSING = (
    "Reshape", "Flatten", "Permute", "Identity", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization", "Squeeze", "ExpandDims", "Cast",
)  # fmt: skip
_SQUASHING = ("softmax", "sigmoid", "hard_sigmoid")


def output_shape(model: keras.Model, x: Any, index: int | None = None) -> tuple[int | None, ...] | None:
    """Return the shape of a model's only output (None if it has several), or of the output at `index` of the flat ones."""
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [])
    if not outputs:
        with backend.StatelessScope():
            outputs = keras.tree.flatten(model(first_rows(x, 2), training=False))
    if index is None and len(outputs) > 1:
        return None
    # TensorFlow's shapes are not tuples.
    return tuple(None if size is None else int(size) for size in outputs[index or 0].shape)


def width_of(model: keras.Model, data: Data, index: int | None = None) -> int | None:
    """Return a model's number of outputs per row; 0 if a row has more dimensions.

    `index` picks one of several output arrays; without it, a model of several gives None.
    """
    shape = output_shape(model, data.x_train, index)
    if shape is None:
        return None
    return shape[1] or 0 if len(shape) == 2 else 0


def _refuse_several(model: keras.Model, x: Any, y: Any) -> None:
    """Refuse a model of several inputs or outputs where the study's rows are one array."""
    if type(model).compute_loss is not keras.Model.compute_loss or type(model).train_step is not keras.Model.train_step:
        return  # its own code may handle them
    for what, letter, given in (("inputs", "x", x), ("outputs", "y", y)):
        tensors = keras.tree.flatten(getattr(model, what, None) or [])
        if len(tensors) > 1 and hasattr(given, "shape"):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise UsageError(
                f"model.build: the model has {len(tensors)} {what}, {shapes}, and {letter} is 1 array; "
                f"let the data function return {letter} as a dictionary by the names of the {what}, or let the builder "
                f"return a model of one, or one whose own train_step or compute_loss takes {letter}"
            )


def outputs_with_a_loss(model: keras.Model, x: Any, y: Any) -> Any:
    """Return a compiled model's outputs; None if it or its loss raises, and UsageError if the cause is their number."""
    try:
        predicted = model(x, training=False)
        model.compute_loss(x, y, predicted)
    except BaseException:  # noqa: BLE001 (the user's layers and loss may raise anything)
        _refuse_several(model, x, y)
        return None
    return predicted


def end_of(model: keras.Model, index: int | None = None) -> End:
    """Return what an output of a model ends in if its last layer or operation is Keras's and settles it; else ""."""
    with suppress(AttributeError, IndexError, TypeError, KeyError):
        return _end_at(model.outputs[index or 0])
    return ""


def end_from_outputs(model: keras.Model, x: Any, index: int | None = None) -> End:
    """Determine from a model's outputs whether they are logits or probabilities; "" if that is not clear.

    Outputs outside of 0..1 are logits. Rows that all sum to 1 are probabilities. The model's state does not change.
    """
    rows = spread_rows(x)
    sums_to_one, has_outputs = True, False
    for outputs in _outputs(model, rows, index):
        has_outputs = True
        tolerance = _TOLERANCE.get(model.compute_dtype, 1e-3)
        if outputs.min() < -tolerance or outputs.max() > 1 + tolerance:
            return "logits"
        sums_to_one &= outputs.shape[-1] > 1 and np.allclose(outputs.sum(axis=-1), 1.0, atol=tolerance)
    if has_outputs and sums_to_one:
        return "probabilities"
    return _end_of_call(model, x, index)


def is_finite(model: keras.Model, x: Any, index: int | None = None) -> bool:
    """Whether a model's outputs are finite, for some of the rows of `x`."""
    return bool(np.isfinite(_output(model, spread_rows(x), index)).all())


def spread_rows(x: Any, count: int = _ROWS) -> Any:
    """Return some rows of an array, or of each array of a dictionary or tuple, evenly from the first to the last."""
    return keras.tree.map_structure(
        lambda array: array[np.linspace(0, len(array) - 1, min(len(array), count)).astype(int)], x
    )


def _output(model: keras.Model, inputs: Any, index: int | None) -> NDArray[np.float32]:
    # The scope discards what layers write (seeds, statistics).
    with backend.StatelessScope():
        all_outputs = keras.tree.flatten(model(inputs, training=False))
    if index is None:
        (outputs,) = all_outputs
    else:
        outputs = all_outputs[index]
    array: NDArray[np.float32] = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    return array


def _outputs(model: keras.Model, rows: Any, index: int | None) -> Iterator[NDArray[np.float32]]:
    """Yield a model's finite outputs for rows, for the same rows scaled to extremes, and for noise."""

    def noise(x: NDArray[Any]) -> NDArray[Any]:
        drawn: NDArray[Any] = np.random.default_rng(0).normal(size=x.shape) * (1 + 10 * np.abs(x).max())
        return drawn

    changes: tuple[Callable[[NDArray[Any]], NDArray[Any]], ...] = (
        lambda x: x,
        lambda x: x * 1e3,
        lambda x: x * -1e3,
        noise,
    )
    for number, change in enumerate(changes):
        try:
            array = _output(model, keras.tree.map_structure(lambda x: change(x).astype(x.dtype), rows), index)  # noqa: B023
        except Exception:
            if number == 0:
                raise
            continue  # the model does not accept such rows: an embedding takes ids only
        if np.isfinite(array).all():
            yield array


def _end_of_call(model: keras.Model, x: Any, index: int | None) -> End:
    """Return what the `call` of a model class ends in, by calling it with symbolic tensors."""
    if hasattr(model, "_functional") or type(model).call is keras.Model.call:
        return ""
    try:
        with backend.StatelessScope():
            is_one = hasattr(x, "shape")
            symbols = keras.tree.map_structure(
                lambda a: keras.KerasTensor((None, *a.shape[1:]), "float32" if is_one else str(a.dtype)), x
            )
            outputs = keras.tree.flatten(model.call(symbols))
            return _end_at(outputs[index or 0]) if index is not None or len(outputs) == 1 else ""
    except Exception:  # noqa: BLE001 (the user's code may not accept symbolic tensors)
        return ""


def _end_at(tensor: Any) -> End:
    while True:
        operation, node, index = tensor._keras_history
        kind = type(operation)
        if isinstance(operation, keras.Model):
            tensor = operation.outputs[index]
            continue
        if not kind.__module__.startswith("keras."):
            return ""
        is_identity = kind is keras.layers.Activation and operation.activation is keras.activations.linear
        if kind is keras.layers.Average:
            # An average of probabilities is one, and so is that of logits.
            ends = {_end_at(each) for each in operation._inbound_nodes[node].input_tensors}
            return ends.pop() if len(ends) == 1 else ""
        if kind.__name__ not in _PASSING and not is_identity:
            break
        tensor = operation._inbound_nodes[node].input_tensors[0]
    if kind is keras.layers.Softmax or (kind.__module__.endswith("ops.nn") and kind.__name__ in ("Softmax", "Sigmoid")):
        return "probabilities"
    if not isinstance(operation, _ACTIVATED):
        return ""
    if operation.activation is keras.activations.linear:
        return "logits"
    return "probabilities" if getattr(operation.activation, "__name__", "") in _SQUASHING else ""
