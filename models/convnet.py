"""A convolutional network for small photos, with augmentation inside: pairs of convolutions, after VGG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build blocks of two convolutions with batch normalization, and pooling, for images (height, width, channels).

    Reads `flip` (false; at random, left to right), `shift` (0.0; the largest at random, as a share of height and width),
    `filters` (of each block; default [32, 64, 128]), `dropout` (0.0; after each block, and before the outputs) and `l2` (0.0;
    the penalty of all kernels). Augmentation works in training alone. Outputs are raw, `data.outputs` of them.
    """

    def convolution(filters: int) -> list[Any]:
        penalty = keras.regularizers.L2(config.get("l2", 0.0))
        return [
            keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                kernel_regularizer=penalty,
            ),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
        ]

    rate = config.get("dropout", 0.0)
    layers = [keras.Input(data.input_shape), *as_images(data), *augmentation(config)]
    for filters in config.get("filters", [32, 64, 128]):
        layers += [
            *convolution(filters),
            *convolution(filters),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(rate),
        ]
    penalty = keras.regularizers.L2(config.get("l2", 0.0))
    layers += [
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(rate),
        keras.layers.Dense(data.outputs, kernel_regularizer=penalty),
    ]
    return keras.Sequential(layers)


def as_images(data: DataInfo) -> list[keras.layers.Layer]:
    """Return what gives images (height, width) an axis of one channel; nothing for images that have channels."""
    shape = tuple(data.input_shape)
    if len(shape) not in (2, 3):
        raise ValueError(f"images have the shape (height, width) or (height, width, channels); received {shape}")
    return [keras.layers.Reshape((*shape, 1))] if len(shape) == 2 else []


def augmentation(config: Mapping[str, Any]) -> list[keras.layers.Layer]:
    """Return the layers of `flip` and `shift`."""
    layers: list[keras.layers.Layer] = [keras.layers.RandomFlip("horizontal")] if config.get("flip", False) else []
    if shift := config.get("shift", 0.0):
        layers.append(keras.layers.RandomTranslation(shift, shift, fill_mode="constant"))
    return layers
