"""Losses and metrics as people write them."""

import keras
from keras import ops


class R2(keras.metrics.Metric):
    """Written for (rows, 1)."""

    def __init__(self, name="r2", **kwargs):
        super().__init__(name=name, **kwargs)
        self.rest = self.add_weight(name="rest", initializer="zeros")
        self.sums = [self.add_weight(name=n, initializer="zeros") for n in ("n", "y", "yy")]

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, y_pred.dtype)
        self.rest.assign_add(ops.sum((y_true - y_pred) ** 2))
        for variable, value in zip(self.sums, (ops.ones_like(y_true), y_true, y_true**2)):
            variable.assign_add(ops.sum(value))

    def result(self):
        n, y, yy = self.sums
        return 1 - self.rest / (yy - y * y / n)


def f1(y_true, y_pred):
    y_true, guess = ops.cast(y_true, "float32"), ops.cast(y_pred > 0, "float32")
    hits = ops.sum(y_true * guess)
    return 2 * hits / (ops.sum(y_true) + ops.sum(guess) + 1e-7)


def flat_mae(y_true, y_pred):
    """Written for (rows,)."""
    return ops.mean(ops.abs(y_true - y_pred[:, 0]))


class Loss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


class Twice(keras.losses.MeanSquaredError):
    """Written for (rows,), beside the `fn` of the class that it comes from."""

    def call(self, y_true, y_pred):
        return 2 * ops.square(ops.cast(y_true, "float32") - y_pred[:, 0])


class WithFunction(keras.losses.Loss):
    """Written for (rows,), with an attribute of its own that is named as Keras names its function."""

    fn = staticmethod(keras.losses.huber)

    def call(self, y_true, y_pred):
        return 3 * ops.square(y_true - y_pred[:, 0])


class Gaussian(keras.losses.Loss):
    """Written for (rows,), of a model that gives a mean and a log of a variance."""

    def call(self, y_true, y_pred):
        return ops.square(y_true - y_pred[:, 0]) * ops.exp(-y_pred[:, 1]) + y_pred[:, 1]


def hits(y_true, y_pred):
    """Written for (rows,), of a model that gives an output for each class."""
    return ops.cast(ops.cast(ops.argmax(y_pred, axis=-1), "int64") == ops.cast(y_true, "int64"), "float32")


class Hits(keras.metrics.MeanMetricWrapper):
    def __init__(self, name="more_hits", **kwargs):
        super().__init__(hits, name=name, **kwargs)


class FlatLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.square(y_true - y_pred[:, 0])


def loss(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def flat_loss(y_true, y_pred):
    return ops.square(y_true - y_pred[:, 0])


def compiled(config, data):
    model = keras.Sequential(
        [keras.Input(data.input_shape), keras.layers.Dense(8, "tanh"), keras.layers.Dense(data.outputs)]
    )
    model.compile(keras.optimizers.SGD(0.1), Shapes())
    return model


class Shapes(keras.losses.Loss):
    def call(self, y_true, y_pred):
        print("SHAPE", tuple(y_true.shape)[1:])
        return ops.mean(
            ops.square(ops.reshape(ops.cast(y_true, "float32"), (ops.shape(y_pred)[0], -1)) - y_pred), axis=-1
        )
