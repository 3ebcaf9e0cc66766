"""A dense network for tables and flattened images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from models.arguments import widths

if TYPE_CHECKING:
    from search.data import DataInfo

# Identifies this builder in every study that uses it. Change it whenever a config builds a different model than before.
REVISION = "44ce7448cf4d24c5368ac2a4fcb0142a"


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build Dense layers with dropout between them; outputs are raw, as many as `data.outputs`.

    Reads `units` (layer widths, or one number for one layer; default [128, 128]), `activation` ("relu"), `dropout` (0.0,
    rate after each hidden layer), `initializer` ("glorot_uniform"), `batch_norm` (false), `l1` and `l2` (0.0, kernel
    penalties).
    """
    has_penalty = "l1" in config or "l2" in config
    layers = [keras.Input(data.input_shape)]
    if len(data.input_shape) > 1:
        layers.append(keras.layers.Flatten())
    for units in widths(config.get("units", [128, 128])):
        layers.append(
            keras.layers.Dense(
                units,
                kernel_initializer=config.get("initializer", "glorot_uniform"),
                # Even if both are 0: then trials that differ only in a penalty can share a compiled program.
                kernel_regularizer=keras.regularizers.L1L2(config.get("l1", 0.0), config.get("l2", 0.0))
                if has_penalty
                else None,
            )
        )
        if config.get("batch_norm", False):
            layers.append(keras.layers.BatchNormalization())
        layers += [
            keras.layers.Activation(config.get("activation", "relu")),
            keras.layers.Dropout(config.get("dropout", 0.0)),
        ]
    # Pass all layers at once: `Sequential.add` would rebuild the network for every layer, half of this function's time.
    return keras.Sequential([*layers, keras.layers.Dense(data.outputs)])
