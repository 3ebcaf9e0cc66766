"""The convolutional network of Chollet's small-data example (Deep Learning with Python), with augmentation inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build four blocks of convolution and pooling, and a dense layer, for images (height, width, channels).

    Reads `augmentation` (0.0; 0 for none, 1 for flips, and turns, zooms and contrasts of up to a fifth), `filters` (default
    [32, 64, 128, 128]), `units` (512) and `dropout` (0.0, before the dense layer). Augmentation works in training alone.
    """
    layers: list[Any] = [keras.Input(data.input_shape)]
    if strength := config.get("augmentation", 0.0):
        layers += [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(0.2 * strength),
            keras.layers.RandomZoom(0.2 * strength),
            keras.layers.RandomContrast(0.2 * strength),
        ]
    for filters in config.get("filters", [32, 64, 128, 128]):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dropout(config.get("dropout", 0.0)),
        keras.layers.Dense(config.get("units", 512), activation="relu"),
        keras.layers.Dense(data.outputs),
    ]
    return keras.Sequential(layers)
