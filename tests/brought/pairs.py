"""Models that are made twice, with two values: do they compute alike?"""

import functools

import jax
import keras
import numpy as np
from keras import layers as L
from keras import ops

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def seq(*layers):
    return keras.Sequential([keras.Input((64,)), *layers, L.Dense(10)])


def functional(function):
    inputs = keras.Input((64,))
    return keras.Model(inputs, L.Dense(10)(function(inputs)))


def compiled(optimizer="sgd", loss=LOSS, **more):
    model = seq(L.Dense(16))
    model.compile(optimizer, loss, **more)
    return model


def nested(value):
    if value:

        def act(x):
            return ops.tanh(x)
    else:

        def act(x):
            return ops.sigmoid(x)

    return act


def defaulted(value):
    def act(x, *, slope=value):
        return ops.maximum(x, slope * x)

    return act


def closed(value):
    return lambda x: x * value


class Bound:
    def __init__(self, value):
        self.value = value

    def act(self, x):
        return x * self.value


class Swapped(L.Layer):
    def __init__(self, value):
        super().__init__()
        one, two = L.Dense(16, "relu"), L.Dense(16, "tanh")
        self.one, self.two = one, two
        self.order = [two, one] if value else [one, two]

    def call(self, x):
        return self.order[1](self.order[0](x))


class OwnLoss(keras.losses.Loss):
    def __init__(self, value):
        super().__init__()
        self.label_smoothing = value

    def call(self, y_true, y_pred):
        return LOSS(y_true, y_pred) * (1 + self.label_smoothing)


class LaneLoss(keras.losses.Loss):
    lane_numbers = ("factor",)

    def __init__(self, value):
        super().__init__()
        self.factor = value

    def call(self, y_true, y_pred):
        return LOSS(y_true, y_pred) * self.factor


class OwnOptimizer(keras.optimizers.Adam):
    pass


class OwnMetric(keras.metrics.Mean):
    pass


class Penalty(keras.regularizers.Regularizer):
    def __init__(self, value):
        self.held = keras.Variable(value)

    def __call__(self, x):
        return ops.sum(x**2) * self.held

    def get_config(self):
        return {}


class Ours(L.Layer):
    def __init__(self, value):
        super().__init__()
        self.hidden = value

    def call(self, x):
        return x * self.hidden

    def get_config(self):
        return {"name": self.name}


Ours.__module__ = "search.layers"  # a user's own package may be called so


def excluding(value):
    optimizer = keras.optimizers.AdamW()
    if value:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    return compiled(optimizer)


def normalized(value):
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).normal(value, 1, (50, 64)))
    return seq(layer)


def penalised(value):
    one = keras.regularizers.L2(0.1)
    return seq(
        L.Dense(16, kernel_regularizer=one),
        L.Dense(16, kernel_regularizer=one if value else keras.regularizers.L2(0.1)),
    )


CASES = {
    "clipnorm off": (lambda v: compiled(keras.optimizers.SGD(0.1, clipnorm=v)), 0.0, 1.0),
    "clipvalue": (lambda v: compiled(keras.optimizers.SGD(0.1, clipvalue=v)), 0.5, 1.0),
    "rate of 1": (lambda v: seq(L.Dropout(v)), 0.5, 1.0),
    "ops.clip": (lambda v: functional(lambda x: ops.clip(L.Dense(16)(x), -v, v)), 0.1, 0.9),
    "activation as an operation": (
        lambda v: functional(lambda x: keras.activations.leaky_relu(L.Dense(16)(x), v)),
        0.1,
        0.9,
    ),
    "constant": (lambda v: functional(lambda x: L.Dense(16)(x) * v), 0.1, 0.9),
    "array": (lambda v: functional(lambda x: x * np.full(64, v, "float32")), 0.1, 0.9),
    "function in a function": (lambda v: seq(L.Dense(16, nested(v))), 0, 1),
    "default of a function": (lambda v: seq(L.Dense(16, defaulted(v))), 0.1, 0.9),
    "closure": (lambda v: seq(L.Dense(16, closed(v))), 0.1, 0.9),
    "compiled closure": (lambda v: seq(L.Dense(16, jax.jit(closed(v)))), 0.1, 0.9),
    "cached closure": (lambda v: seq(L.Dense(16, functools.lru_cache(closed(v)))), 0.1, 0.9),
    "method": (lambda v: seq(L.Dense(16, Bound(v).act)), 0.1, 0.9),
    "closure of a recurrent layer": (
        lambda v: seq(L.Reshape((8, 8)), L.LSTM(4, recurrent_activation=closed(v))),
        0.1,
        0.9,
    ),
    "excluded from decay": (excluding, 0, 1),
    "loss weights": (lambda v: compiled(loss_weights=[v]), 0.1, 0.9),
    "adapted": (normalized, 0, 5),
    "own loss": (lambda v: compiled(loss=OwnLoss(v)), 0.1, 0.9),
    "swapped": (lambda v: seq(Swapped(v)), 0, 1),
    "variable of a penalty": (lambda v: seq(L.Dense(16, kernel_regularizer=Penalty(v))), 0.1, 0.9),
    "shared penalty": (penalised, 0, 1),
    "package of the same name": (lambda v: seq(Ours(v)), 0.1, 0.9),
    "shared: nested dropout": (lambda v: seq(keras.Sequential([L.Dense(16), L.Dropout(v)])), 0.1, 0.9),
    "shared: own optimizer": (lambda v: compiled(OwnOptimizer(v)), 0.1, 0.9),
    "shared: own metric": (lambda v: compiled(metrics=[OwnMetric()]), 0.1, 0.9),
    "shared: lane_numbers of a loss": (lambda v: compiled(loss=LaneLoss(v)), 0.1, 0.9),
}
