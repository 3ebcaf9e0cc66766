"""The builder of `hypermodels.py`, in KerasTuner's form: a dense network of searched depth, widths and optimizer."""

from __future__ import annotations

from typing import Any

import keras


def build(hp: Any) -> keras.Model:
    """Build a compiled classifier of 10 classes."""
    model = keras.Sequential([keras.layers.Flatten()])
    activation = hp.Choice("activation", ["relu", "tanh", "gelu"])
    for i in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Int(f"units_{i}", 16, 128, step=16), activation=activation))
        if hp.Boolean(f"dropout_{i}"):
            model.add(keras.layers.Dropout(hp.Float(f"rate_{i}", 0.1, 0.5)))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    optimizer = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[hp.Choice("optimizer", ["sgd", "adam"])]
    model.compile(optimizer(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
