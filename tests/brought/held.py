"""Models of Keras's own parts that hold a value where no program key sees it, and models with parts of one's own."""

import keras
from keras import layers as L
from keras import ops


def net(value, *between, loss="mse", metrics=("mae",), last=1):
    model = keras.Sequential([keras.Input((10,)), L.Dense(8), *between, L.Dense(last)])
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=list(metrics))
    return model


def with_layer(change):
    def make(value):
        layer = L.LeakyReLU(0.1)
        model = net(value, layer)
        change(layer, value)
        return model

    return make


def functional(value):
    x = inputs = keras.Input((10,))
    x = ops.clip(L.Dense(8)(x), -value, value)
    model = keras.Model(inputs, L.Dense(1)(x))
    model.compile("sgd", "mse")
    return model


class Own(L.Layer):
    def call(self, x):
        return x


def own_call():
    layer = L.Identity()
    model = net(0, layer)
    layer.call = lambda inputs: inputs * 2.0
    return model


# Two values that compute otherwise.
OTHER = {
    "delta of Huber": (lambda v: net(v, loss=keras.losses.Huber(delta=v)), 0.3, 0.7),
    "axis of a loss": (lambda v: net(v, loss=keras.losses.CosineSimilarity(axis=v)), 0, -1),
    "axis of a metric": (lambda v: net(v, metrics=[keras.metrics.CosineSimilarity(axis=v)]), 0, -1),
    "threshold of a metric": (lambda v: net(v, metrics=[keras.metrics.BinaryAccuracy(threshold=v)]), 0.3, 0.7),
    "slope set after building": (with_layer(lambda layer, v: setattr(layer, "negative_slope", v)), 0.3, 0.7),
    "autocast": (with_layer(lambda layer, v: setattr(layer, "autocast", v)), True, False),
    "masking": (with_layer(lambda layer, v: setattr(layer, "supports_masking", v)), True, False),
    "units of an operation": (functional, 0.3, 0.7),
    "reduction of a loss": (lambda v: net(v, loss=keras.losses.MeanSquaredError(reduction=v)), "sum", "mean"),
    "an array": (lambda v: net(v, L.Rescaling([v] * 8)), 0.3, 0.7),
}
# Two values that do not reach the arithmetic, or that are lifted.
SAME = {
    "dropout": (lambda v: net(v, L.Dropout(v)), 0.3, 0.7),
    "initializer": (lambda v: net(v, L.Dense(4, kernel_initializer=v)), "zeros", keras.initializers.HeNormal(seed=3)),
    "regularizer": (lambda v: net(v, L.Dense(4, kernel_regularizer=keras.regularizers.L2(v))), 0.3, 0.7),
    "learning rate": (net, 0.3, 0.7),
}
# With code that Keras did not bring.
FOREIGN = {
    "own layer": lambda: net(0, Own()),
    "own activation": lambda: net(0, L.Dense(4, activation=lambda x: x * 2)),
    "own loss": lambda: net(0, loss=lambda y, p: ops.mean((y - p) ** 2, axis=-1)),
    "own metric": lambda: net(0, metrics=[lambda y, p: ops.mean(y - p, axis=-1)]),
    "own call": own_call,
}
