"""A dense network for tables and flattened images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build Dense layers with dropout between them, ending in one raw output a class (or one, or one a target).

    Reads `units` (list of layer widths, default [128, 128]), `activation` ("relu"), `dropout` (0.0, rate after
    each hidden layer), `initializer` ("glorot_uniform"), `batch_norm` (false), `l1` and `l2` (0.0, kernel penalties).
    """
    model = keras.Sequential([keras.Input(data.input_shape)])
    if len(data.input_shape) > 1:
        model.add(keras.layers.Flatten())
    l1, l2 = config.get("l1", 0.0), config.get("l2", 0.0)
    for units in config.get("units", [128, 128]):
        model.add(
            keras.layers.Dense(
                units,
                kernel_initializer=config.get("initializer", "glorot_uniform"),
                kernel_regularizer=keras.regularizers.L1L2(l1, l2) if l1 or l2 else None,
            )
        )
        if config.get("batch_norm", False):
            model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.Activation(config.get("activation", "relu")))
        model.add(keras.layers.Dropout(config.get("dropout", 0.0)))
    model.add(keras.layers.Dense(data.outputs))
    return model
