"""A small convolutional network for images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build convolutions with pooling, then one dense layer, ending in one raw output a class (or one, or one a target).

    Reads `filters` (list, one a block, default [32, 64]), `kernel_size` (3), `activation` ("relu"), `batch_norm`
    (false), `units` (width of the dense layer, default 128), `dropout` (0.0, before the last layer), `initializer`
    ("glorot_uniform"). Images without channels, (height, width), get one. ValueError if the data are no images.
    """
    shape = tuple(data.input_shape)
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        raise ValueError(
            f"cnn needs images of shape (height, width) or (height, width, channels); received rows of shape {shape}; "
            "use the builder mlp for tables"
        )
    initializer = config.get("initializer", "glorot_uniform")
    layers = [keras.Input(data.input_shape)]
    if len(data.input_shape) == 2:
        layers.append(keras.layers.Reshape(shape))
    for filters in config.get("filters", [32, 64]):
        layers.append(
            keras.layers.Conv2D(filters, config.get("kernel_size", 3), padding="same", kernel_initializer=initializer)
        )
        if config.get("batch_norm", False):
            layers.append(keras.layers.BatchNormalization())
        layers += [keras.layers.Activation(config.get("activation", "relu")), keras.layers.MaxPooling2D()]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(
            config.get("units", 128),
            activation=config.get("activation", "relu"),
            kernel_initializer=initializer,
        ),
        keras.layers.Dropout(config.get("dropout", 0.0)),
        keras.layers.Dense(data.outputs),
    ]
    # All at once: `Sequential.add` builds the network again for every layer.
    return keras.Sequential(layers)
