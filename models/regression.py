"""A dense network for numbers to predict that are far from 0: it learns how far they are from their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build Dense layers, and outputs that are scaled to the targets by a last layer.

    Reads `units` (a list of widths; one number means one layer; default 64), `activation` ("relu"), `dropout` (0.0; after
    each hidden layer), `l2` (0.0; the penalty of all kernels), `target_mean` (0.0) and `target_scale` (1.0): about the mean
    and the standard deviation of the targets.
    """
    units = config.get("units", 64)
    penalty = config.get("l2", 0.0)
    layers: list[Any] = [keras.Input(data.input_shape)]
    for width in [units] if isinstance(units, int) else units:
        layers += [
            keras.layers.Dense(
                width,
                activation=config.get("activation", "relu"),
                kernel_regularizer=keras.regularizers.L2(penalty),
            ),
            keras.layers.Dropout(config.get("dropout", 0.0)),
        ]
    layers += [
        keras.layers.Dense(data.outputs, kernel_regularizer=keras.regularizers.L2(penalty)),
        keras.layers.Rescaling(config.get("target_scale", 1.0), offset=config.get("target_mean", 0.0)),
    ]
    return keras.Sequential(layers)
