"""A small convolutional network for images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from models.arguments import widths

if TYPE_CHECKING:
    from search.data import DataInfo

# Identifies this builder in every study that uses it. Change it whenever a config builds a different model than before.
REVISION = "0afd54a2cf7fea32ebbeea98e27b9659"


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build blocks of convolution and pooling, then dense layers; outputs are raw, as many as `data.outputs`.

    Reads `filters` (one per block, or one number for one block; default [32, 64]), `kernel_size` (3), `activation` ("relu"),
    `batch_norm` (false, in the blocks), `units` (widths of the dense layers, or one number for one layer; default 128),
    `dropout` (0.0, rate after each dense layer), `initializer` ("glorot_uniform"). Images (height, width) get a channel axis.
    ValueError if the data are not images.
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
    for filters in widths(config.get("filters", [32, 64])):
        layers.append(
            keras.layers.Conv2D(filters, config.get("kernel_size", 3), padding="same", kernel_initializer=initializer)
        )
        if config.get("batch_norm", False):
            layers.append(keras.layers.BatchNormalization())
        layers += [keras.layers.Activation(config.get("activation", "relu")), keras.layers.MaxPooling2D()]
    layers.append(keras.layers.Flatten())
    for units in widths(config.get("units", 128)):
        activation = config.get("activation", "relu")
        layers += [
            keras.layers.Dense(units, activation=activation, kernel_initializer=initializer),
            keras.layers.Dropout(config.get("dropout", 0.0)),
        ]
    # Pass all layers at once: `Sequential.add` would rebuild the network for every layer.
    return keras.Sequential([*layers, keras.layers.Dense(data.outputs)])
