"""Each builder reads "gain" by a way that layers, losses and optimizers do not tell of."""

import jax
import keras
import numpy as np
from keras import layers as L
from keras import ops

GAIN = 1.0
SHARED = None
SPARSE = keras.losses.SparseCategoricalCrossentropy


def net(config, data, *between, last=None, **dense):
    return keras.Sequential(
        [keras.Input(data.input_shape), L.Dense(8, activation="relu", **dense), *between, L.Dense(last or data.outputs)]
    )


def compiled(model, config, loss=None, metrics=("accuracy",), optimizer=None):
    optimizer = optimizer or keras.optimizers.Adam(config["learning_rate"])
    model.compile(optimizer, loss or SPARSE(from_logits=True), metrics=list(metrics))
    return model


def in_a_loss_whose_config_leaves_it_out(config, data):
    loss = {"mse": keras.losses.MeanSquaredError(), "huber": keras.losses.Huber(delta=config["gain"])}[config["kind"]]
    return compiled(net(config, data, last=1), config, loss, metrics=["mae"])


def in_the_axis_of_a_metric(config, data):
    metric = keras.metrics.CosineSimilarity(axis=-1 if config["gain"] < 0.5 else 0)
    return compiled(net(config, data, last=1), config, "mse", metrics=[metric])


def in_a_layer_class_of_the_builder(config, data):
    class Scale(L.Layer):
        def call(self, x):
            return x * config["gain"]

    return compiled(net(config, data, {"mse": L.Identity, "huber": Scale}[config["kind"]]()), config)


def in_a_global_of_the_module(config, data):
    global GAIN
    GAIN = config["gain"]

    class Scale(L.Layer):
        def call(self, x):
            return x * GAIN

    return compiled(net(config, data, Scale()), config)


def in_a_branch_by_a_threshold(config, data):
    axis = -1 if config["gain"] < 0.85 else 0

    class Softmax(L.Layer):
        def call(self, x):
            return ops.softmax(x, axis=axis)

    return compiled(net(config, data, Softmax()), config)


def in_a_constraint_of_the_builder(config, data):
    class Shrink(keras.constraints.Constraint):
        def __call__(self, w):
            return w * config["gain"]

    return compiled(net(config, data, kernel_constraint=Shrink()), config)


def in_an_optimizer_of_the_builder(config, data):
    class Scaled(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient * config["gain"], variable, learning_rate)

    return compiled(net(config, data), config, optimizer=Scaled(config["learning_rate"]))


def in_a_gradient_of_its_own(config, data):
    @ops.custom_gradient
    def clipped(x):
        def grad(*args, upstream=None):
            return (upstream if upstream is not None else args[0]) * config["gain"]

        return x, grad

    class Clip(L.Layer):
        def call(self, x):
            return clipped(x)

    return compiled(net(config, data, Clip()), config)


def in_the_gradient_of_a_function_of_its_own(config, data):
    @jax.custom_jvp
    def clipped(x):
        return x

    clipped.defjvp(lambda at, along: (at[0], along[0] * config["gain"]))

    class Clip(L.Layer):
        def call(self, x):
            return clipped(x)

    return compiled(net(config, data, Clip()), config)


def in_an_array_of_a_function_that_is_compiled_by_itself(config, data):
    scale = np.full(8, config["gain"], "float32")

    class Scale(L.Layer):
        def call(self, x):
            return jax.jit(lambda x: x * scale)(x)

    return compiled(net(config, data, Scale()), config)


def in_the_middle_of_a_long_array(config, data):
    scale = np.ones((40, 8, 8), "float32")
    scale[20] = config["gain"]

    class Scale(L.Layer):
        def call(self, x):
            return jax.checkpoint(lambda x: x @ scale.mean(0) + x * scale[20, 0])(x)

    return compiled(net(config, data, Scale()), config)


class Gain(L.Layer):
    lane_numbers = ("gain",)

    def __init__(self, gain, **options):
        super().__init__(**options)
        self.gain = gain

    def call(self, x):
        return x * self.gain if self.gain else x

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


def in_a_question_that_a_lifted_number_answers_wrongly(config, data):
    return compiled(net(config, data, Gain(config["gain"] if config["kind"] == "mse" else 0.0)), config)


def in_an_argument_of_call(config, data):
    inputs = keras.Input(data.input_shape)
    x = ops.clip(L.Dense(8)(inputs), -config["gain"], config["gain"])
    return compiled(keras.Model(inputs, L.Dense(data.outputs)(x)), config)
