"""A dense network with what keeps it from learning its rows by heart: dropout of inputs and units, penalties, max-norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build Dense layers of the given widths, and one for the outputs.

    Reads `units` (a list of widths; one number means one layer; default 784), `activation` ("relu"), `initializer`
    ("glorot_uniform"), `input_dropout` and `dropout` (0.0; rates before the first and after each hidden layer), `l1` and `l2`
    (0.0; penalties of all kernels and biases), `max_norm` (none; the largest norm of the weights that lead to a unit),
    `output` ("linear"; the last activation: "softmax" and "sigmoid" give probabilities) and `spare_outputs` (0; outputs
    beyond one a class, which no row is labelled with).
    """

    def dense(width: int, activation: str) -> keras.layers.Layer:
        return keras.layers.Dense(
            width,
            activation=activation,
            kernel_initializer=config.get("initializer", "glorot_uniform"),
            kernel_regularizer=penalty(),
            bias_regularizer=penalty(),
            kernel_constraint=keras.constraints.MaxNorm(config["max_norm"]) if "max_norm" in config else None,
        )

    def penalty() -> keras.Regularizer | None:
        has_one = "l1" in config or "l2" in config
        return keras.regularizers.L1L2(config.get("l1", 0.0), config.get("l2", 0.0)) if has_one else None

    units = config.get("units", 784)
    layers = [keras.Input(data.input_shape), keras.layers.Flatten()]
    if "input_dropout" in config:
        layers.append(keras.layers.Dropout(config["input_dropout"]))
    for width in [units] if isinstance(units, int) else units:
        layers.append(dense(width, config.get("activation", "relu")))
        if "dropout" in config:
            layers.append(keras.layers.Dropout(config["dropout"]))
    layers.append(dense(data.outputs + config.get("spare_outputs", 0), config.get("output", "linear")))
    return keras.Sequential(layers)
