"""Networks for sequences, of numbers or of token ids: a recurrent one, and a small transformer (Vaswani et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo


def recurrent(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build one recurrent layer for a series (steps, features), or for texts as token ids (length,).

    Reads `cell` ("gru"; or "lstm"), `units` (32), `both_ways` (false; true: also from the last step to the first), `width`
    (32; of the vector of each token) and `dropout` (0.0; before and after the recurrent layer). Padding of texts is masked.
    """
    cells = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
    layer = cells[config.get("cell", "gru")](config.get("units", 32))
    layers: list[Any] = [_inputs(data)]
    if _is_text(data):
        layers.append(keras.layers.Embedding(data.vocabulary_size, config.get("width", 32), mask_zero=True))
    return keras.Sequential(
        [
            *layers,
            keras.layers.Dropout(config.get("dropout", 0.0)),
            keras.layers.Bidirectional(layer) if config.get("both_ways", False) else layer,
            keras.layers.Dropout(config.get("dropout", 0.0)),
            keras.layers.Dense(data.outputs),
        ]
    )


def transformer(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build blocks of attention and dense layers for a series (steps, features), or for texts as token ids (length,).

    Reads `width` (32; of the vector of each step, a multiple of `heads`), `heads` (2), `blocks` (1), `dropout` (0.0; after
    attention, after the dense layers, and before the outputs) and `pooling` ("mean" of all steps; or "last": the last one
    alone, for a series). Each step has a learned vector that says its position. Padding of texts is a token like any other.
    """
    width, heads, rate = config.get("width", 32), config.get("heads", 2), config.get("dropout", 0.0)
    if width % heads:
        raise ValueError(f"width must be a multiple of heads; received {width} and {heads}")
    inputs = _inputs(data)
    steps = keras.layers.Embedding(data.vocabulary_size, width)(inputs) if _is_text(data) else inputs
    # The bias of this layer differs by step: it is the position's vector.
    x = keras.layers.EinsumDense(
        "btd,de->bte", (inputs.shape[1], width), bias_axes="te", bias_initializer="random_normal", name="positions"
    )(steps)
    for _ in range(config.get("blocks", 1)):
        normal = keras.layers.LayerNormalization()(x)
        attended = keras.layers.MultiHeadAttention(heads, width // heads)(normal, normal)
        x = keras.layers.Add()([x, keras.layers.Dropout(rate)(attended)])
        dense = keras.layers.Dense(2 * width, activation="gelu")(keras.layers.LayerNormalization()(x))
        x = keras.layers.Add()([x, keras.layers.Dropout(rate)(keras.layers.Dense(width)(dense))])
    x = keras.layers.LayerNormalization()(x)
    if config.get("pooling", "mean") == "last":
        x = keras.layers.Flatten()(keras.layers.Cropping1D((inputs.shape[1] - 1, 0))(x))
    else:
        x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(keras.layers.Dropout(rate)(x)))


def _is_text(data: DataInfo) -> bool:
    return len(data.input_shape) == 1


def _inputs(data: DataInfo) -> Any:
    return keras.Input(data.input_shape, dtype="int32" if _is_text(data) else "float32")
