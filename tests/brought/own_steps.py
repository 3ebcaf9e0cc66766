"""Models with steps of their own."""

import keras
from keras import layers as L
from keras import ops


def error(model, x, y, training):
    return ops.mean((ops.reshape(y, (-1, 1)) - model(x, training=training)) ** 2)


class NoCall(keras.Model):
    """Trains a network inside of it by its own optimizer, and computes no outputs itself."""

    def __init__(self, rate):
        super().__init__()
        self.net = keras.Sequential([L.Dense(8, activation="relu"), L.Dropout(0.2), L.Dense(1)])
        self.tracker, self.second = keras.metrics.Mean(name="loss"), keras.optimizers.Adam(rate)

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = error(self.net, *data, training=True)
        self.second.apply(tape.gradient(loss, self.net.trainable_variables), self.net.trainable_variables)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class NoCallButAJudge(NoCall):
    def test_step(self, data):
        return {"rmse": ops.sqrt(error(self.net, *data, training=False))}


class Judged(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = L.Dense(8, activation="relu"), L.Dense(1)

    def call(self, x):
        return self.last(self.hidden(x))

    def test_step(self, data):
        return {"rmse": ops.sqrt(error(self, *data, training=False))}


def no_call(config, data):
    model = NoCall(config["learning_rate"])
    model.compile()
    return model


def no_call_but_a_judge(config, data):
    model = NoCallButAJudge(config["learning_rate"])
    model.compile()
    return model


def judged(config, data):
    model = Judged()
    model.compile(keras.optimizers.Adam(config["learning_rate"]), "mse")
    return model


def outputs_by_name(config, data):
    inputs = keras.Input(data.input_shape)
    model = keras.Model(inputs, {"main": L.Dense(1)(L.Dense(8, activation="relu")(inputs))})
    model.compile(keras.optimizers.Adam(config["learning_rate"]), loss={"main": "mse"}, metrics={"main": ["mae"]})
    return model


def several_optimizers(config, data):
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.SGD(config["learning_rate"] / 100))
    optimizers["first/.*"] = keras.optimizers.Adam(0.01)
    model = keras.Sequential([keras.Input(data.input_shape), L.Dense(8, name="first"), L.Dense(1)])
    model.compile(keras.optimizers.MultiOptimizer(optimizers), "mse", metrics=["mae"])
    return model
