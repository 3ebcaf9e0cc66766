"""Models whose last layer is, or is not, an activation."""

import keras
from keras import layers as L
from keras import ops


class Linear(L.Layer):
    """A last layer of one's own with an activation inside that is not the last of it."""

    def __init__(self, units):
        super().__init__()
        self.inner, self.outer, self.activation = L.Dense(8), L.Dense(units), keras.activations.relu

    def call(self, x):
        return self.outer(self.activation(self.inner(x)))


class Squashed(Linear):
    def call(self, x):
        return ops.softmax(super().call(x)) if self.outer.units > 1 else ops.sigmoid(super().call(x))


class Small(Linear):
    """Logits that look like probabilities on most rows."""

    def call(self, x):
        return 0.5 + 0.01 * super().call(x)


class OneMinus(Linear):
    """A softmax whose last is computed from the others: it may come out below 0 by rounding."""

    def call(self, x):
        p = ops.softmax(super().call(x))
        return ops.concatenate([p[:, :-1], 1 - ops.sum(p[:, :-1], -1, keepdims=True) - 6e-8], -1)


class Clipped(Linear):
    def call(self, x):
        return ops.clip(super().call(x), 0, 1)


class Net(keras.Model):
    def __init__(self, units, activation):
        super().__init__()
        self.one, self.two = L.Dense(8, "relu"), L.Dense(units, activation)

    def call(self, x):
        return self.two(self.one(x))


class NetByName(Net):
    def call(self, x):
        return {"main": super().call(x)}


def named(shape, layer):
    inputs = keras.Input(shape)
    return keras.Model(inputs, {"main": layer(inputs)})


class Drawing(Linear):
    def __init__(self, units):
        super().__init__(units)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x):
        return super().call(x + 0.1 * keras.random.normal(ops.shape(x), seed=self.seeds))


def functional(function):
    def make(shape, units, task):
        inputs = keras.Input(shape)
        return keras.Model(inputs, function(L.Dense(units)(inputs), task))

    return make


def seq(*layers):
    return lambda shape, units, task: keras.Sequential([keras.Input(shape), *[layer(units, task) for layer in layers]])


squash = lambda task: "softmax" if task == "classification" else "sigmoid"
MODELS = {
    "own linear": seq(lambda u, t: Linear(u)),
    "small": seq(lambda u, t: Small(u)),
    "drawing": seq(lambda u, t: Drawing(u)),
    "own squashed": seq(lambda u, t: Squashed(u)),
    "one minus": seq(lambda u, t: OneMinus(u)),
    "clipped": seq(lambda u, t: Clipped(u)),
    "class linear": lambda s, u, t: Net(u, None),
    "class squashed": lambda s, u, t: Net(u, squash(t)),
    "by name": lambda s, u, t: named(s, L.Dense(u)),
    "class by name": lambda s, u, t: NetByName(u, None),
    "float32 at the end": seq(lambda u, t: L.Dense(u, squash(t)), lambda u, t: L.Activation("linear", dtype="float32")),
    "linear and dropout": seq(lambda u, t: L.Dense(u), lambda u, t: L.Dropout(0.1)),
    "reshaped": seq(lambda u, t: L.Dense(u, squash(t)), lambda u, t: L.Reshape((u,))),
    "nested": lambda s, u, t: keras.Sequential([keras.Input(s), keras.Sequential([L.Dense(4), L.Dense(u, squash(t))])]),
    "softmax layer": seq(
        lambda u, t: L.Dense(u), lambda u, t: L.Softmax() if t == "classification" else L.Activation("sigmoid")
    ),
    "operation": functional(lambda x, t: ops.softmax(x) if t == "classification" else ops.sigmoid(x)),
    "activation": functional(
        lambda x, t: keras.activations.softmax(x) if t == "classification" else keras.activations.sigmoid(x)
    ),
    "sum": functional(lambda x, t: x + 1.0),
    "tanh": seq(lambda u, t: L.Dense(u, "tanh")),
    "relu": seq(lambda u, t: L.Dense(u, "relu")),
    "recurrent": seq(lambda u, t: L.Reshape((3, 2)), lambda u, t: L.LSTM(u)),
}


def build(config, data):
    return MODELS[config["kind"]](
        data.input_shape, data.outputs, "classification" if data.task == "classification" else "binary"
    )
