"""Models that Keras itself trains on TensorFlow alone."""

from __future__ import annotations

import keras
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)


def ending(*layers, data):
    return keras.Sequential([keras.Input(data.input_shape), *layers, L.Flatten(), L.Dense(data.outputs)])


@entry("tokens")
def integer_lookup(config, data):
    return ending(L.IntegerLookup(vocabulary=list(range(1, 17))), L.Embedding(17, 4), data=data)


@entry("large_numbers")
def integer_lookup_of_large_numbers(config, data):
    inputs = keras.Input(data.input_shape, dtype="int64")
    x = L.Embedding(65, 4)(L.IntegerLookup(vocabulary=list(range(20_000_000, 20_000_064)))(inputs))
    return keras.Model(inputs, L.Dense(data.outputs)(L.Flatten()(x)))


@entry("tokens")
def hashing(config, data):
    return ending(L.Hashing(8), L.Embedding(8, 4), data=data)
