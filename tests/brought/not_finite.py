"""Models whose outputs are not numbers, or are too many, whatever they are trained on."""

import keras
from keras import layers as L
from keras import ops


class Broken(L.Layer):
    def __init__(self, value, rows):
        super().__init__()
        self.value, self.rows = value, rows

    def call(self, x):
        return ops.where(ops.arange(ops.shape(x)[0])[:, None] < self.rows, self.value, ops.softmax(x))


def build(config, data):
    x = keras.Input(data.input_shape)
    first, second = L.Dense(data.outputs, name="one")(x), L.Dense(data.outputs, name="two")(x)
    kind = config["kind"]
    if kind == "outputs":
        return keras.Model(x, [first, second])
    if kind == "outputs by name":
        return keras.Model(x, {"one": first, "two": second})
    if kind == "compiled":
        model = keras.Model(x, [first, second])
        model.compile("sgd", ["mse", "mse"])
        return model
    if kind == "inputs":
        other = keras.Input((3,))
        return keras.Model([x, other], L.Dense(data.outputs)(L.Concatenate()([x, other])))
    if kind == "one of two":
        model = keras.Model(x, [first, second])
        model.compile("sgd", [keras.losses.SparseCategoricalCrossentropy(from_logits=True), None])
        return model
    value, rows = {"nan": (float("nan"), 9999), "inf": (float("inf"), 9999), "one nan": (float("nan"), 1)}[kind]
    return keras.Model(x, Broken(value, rows)(first))
