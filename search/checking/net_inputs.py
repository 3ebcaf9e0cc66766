"""What goes into a model's first layer with weights, after all scaling and augmentation, in a worker process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.checking.data_checks import LARGE
from search.checking.exhibit import Exhibit, Grid, Images, image_shape, png_of
from search.checking.report import NotApplicable
from search.spec.finding import Finding

# Values that differ by less than this are hardly meant: images that were divided by 255 twice, say.
_SMALL = 0.01
_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)
_MOST_IMAGES, _MOST_COLUMNS = 12, 200


def values_of(model: keras.Model, x: Any) -> tuple[NDArray[Any], keras.layers.Layer]:
    """Return what the first layer with trainable weights gets in training for rows of one input, and this layer."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        raise NotApplicable(
            "the model has several inputs" if inputs else "only its own code knows what the model computes"
        )
    first = next((layer for layer in model.layers if layer.trainable_weights), None)
    if first is None:
        raise NotApplicable("no layer of the model has weights to train")
    if isinstance(first, keras.layers.Embedding):
        raise NotApplicable("the inputs are ids for an Embedding")
    try:
        tensors = keras.tree.flatten(first.input)
    except (AttributeError, ValueError):  # a layer that is called several times
        raise NotApplicable(f"the layer {first.name} is used more than once") from None
    if len(tensors) != 1 or "int" in str(tensors[0].dtype):
        raise NotApplicable(f"the layer {first.name} takes several inputs or whole numbers")
    before = keras.Model(model.inputs, tensors[0])
    return np.asarray(keras.ops.convert_to_numpy(before([np.asarray(x)], training=True)), np.float32), first


def finding(values: NDArray[Any], layer: keras.layers.Layer) -> Finding:
    """Return whether the first layer gets values of a size that trains well."""
    low, high, spread = float(values.min()), float(values.max()), float(values.std())
    text = f"the layer {layer.name} gets values from {low:.4g} to {high:.4g}, standard deviation {spread:.3g}"
    numbers = {"low": low, "high": high, "standard deviation": spread}
    if not np.isfinite(values).all():
        return Finding("into the net", "stop", text, "look at the layers before it", {})
    if isinstance(layer, _NORMALIZATIONS):
        return Finding("into the net", "ok", f"{text}, and normalizes them", numbers=numbers)
    if max(abs(low), abs(high)) > LARGE:
        advice = (
            'scale them: scale = "standard" in [data], or keras.layers.Normalization or Rescaling before this layer'
        )
        return Finding("into the net", "look", text, advice, numbers)
    if spread < _SMALL:
        advice = "these values hardly differ: are they scaled twice (data.scale, images in bytes, a Rescaling layer)?"
        return Finding("into the net", "look", text, advice, numbers)
    return Finding("into the net", "ok", text, numbers=numbers)


def exhibits(values: NDArray[Any]) -> Iterator[Exhibit]:
    """Yield the values as images, where they are, else as colours."""
    title = "What goes into the net, just before its first layer with weights"
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if (shape := image_shape(values)) is not None:
        images = values[:_MOST_IMAGES].reshape(-1, *shape)
        shown = tuple((png_of(image, low, high), "") for image in images)
        yield Images("training", "into-the-net", title, shown, note=f"From {low:.3g} (black) to {high:.3g} (white).")
        return
    flat = values.reshape(len(values), -1)
    some = flat[:, :_MOST_COLUMNS]
    more = f" The first {_MOST_COLUMNS} of {flat.shape[1]} values of each row." if some.shape[1] < flat.shape[1] else ""
    numbers = tuple(tuple(float(value) for value in row) for row in some)
    yield Grid("training", "into-the-net", title, "value", "row", numbers, note=f"{len(flat)} training rows.{more}")
