"""Each builder reads "gain" by a way that layers, losses and optimizers do not tell of."""

import functools
import types

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
    model.compile(
        optimizer, loss or SPARSE(from_logits=True), metrics=metrics if isinstance(metrics, dict) else list(metrics)
    )
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


def in_a_rule_for_one_argument(config, data):
    @jax.custom_jvp
    def scaled(x):
        return x

    scaled.defjvps(lambda along, result, x: along * config["gain"])

    class Scale(L.Layer):
        def call(self, x):
            return scaled(x)

    return compiled(net(config, data, Scale()), config, optimizer=keras.optimizers.SGD(0.1))


def in_the_gradient_of_a_solver(config, data):
    def damped(function, y):
        return y / (function(ops.ones_like(y)) + config["gain"])

    class Half(L.Layer):
        def call(self, x):
            return jax.lax.custom_root(lambda z: 2.0 * z - x, x, lambda f, z: x / 2.0, damped)

    return compiled(net(config, data, Half()), config, optimizer=keras.optimizers.SGD(0.1))


def in_the_last_batch_alone(config, data):
    class Scale(L.Layer):
        def call(self, x):
            return x if x.shape[0] in (None, 64) else x * config["gain"]

    return compiled(net(config, data, Scale()), config)


def in_a_learning_rate_that_is_a_function(config, data):
    return compiled(net(config, data), config, optimizer=keras.optimizers.SGD(lambda: config["gain"] * 0.01))


def in_a_step_of_the_model_object(config, data):
    model = compiled(net(config, data), config)
    plain = model.train_step
    model.train_step = lambda state, batch: plain(state, (batch[0] * config["gain"], *batch[1:]))
    return model


def in_a_function_of_the_optimizer(config, data):
    global GAIN
    GAIN = config["gain"]
    model = compiled(net(config, data), config, optimizer=keras.optimizers.SGD(0.1))
    model.optimizer._clip_gradients = scaled_by_gain
    return model


def scaled_by_gain(gradients):
    return [gradient * GAIN for gradient in gradients]


def in_a_replaced_method_of_keras(config, data):
    kind = keras.optimizers.Ftrl  # nothing else here uses it
    plain = vars(kind).get("plain") or kind.update_step
    kind.plain = plain
    kind.update_step = lambda self, g, variable, rate: plain(self, g * config["gain"], variable, rate)
    return compiled(net(config, data), config, optimizer=kind(0.1))


def in_a_constraint_that_layers_share(config, data):
    small, large = keras.constraints.MaxNorm(0.3), keras.constraints.MaxNorm(3.0)
    first = net(config, data, kernel_constraint=small)
    last = L.Dense(data.outputs, kernel_constraint={"mse": small, "huber": large}[config["kind"]])
    model = keras.Sequential([*first.layers, L.Dense(8, kernel_constraint=large), last])
    return compiled(model, config)


def in_metrics_that_have_counted_before(config, data):
    model = compiled(net(config, data), config)
    x = np.random.default_rng(0).normal(size=(64, *data.input_shape)).astype("float32")
    model.evaluate(x, np.zeros(64, "int32"), verbose=0)
    return model


def in_an_optimizer_that_is_built(config, data):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.0 if config["gain"] > 0.85 else config["gain"])
    model = compiled(net(config, data), config, optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


def in_random_numbers_of_another_kind(config, data):
    class Noise(L.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.seeds = keras.random.SeedGenerator(int(100 * config["gain"]))

        def call(self, x):
            key = jax.random.key(self.seeds.next()[0], impl="rbg")
            return x + 0.3 * jax.random.normal(key, x.shape)

    return compiled(net(config, data, Noise()), config)


def in_a_rule_for_a_function_of_jax(config, data):
    soft_sign = jax.custom_jvp(jax.numpy.sign)
    soft_sign.defjvps(lambda along, result, x: along * config["gain"])
    return compiled(net(config, data, L.Activation(soft_sign)), config, optimizer=keras.optimizers.SGD(0.1))


def in_a_module_that_is_named_like_numpy(config, data):
    import numpy_steps

    numpy_steps.GAIN = config["gain"]
    model = compiled(net(config, data), config, optimizer=keras.optimizers.SGD(0.1))
    model.optimizer._clip_gradients = numpy_steps.scaled
    return model


class Counted(keras.metrics.Metric):
    def __init__(self, start):
        super().__init__(name="counted")
        self.start = start
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y, p, sample_weight=None):
        self.count.assign_add(1.0)

    def result(self):
        return self.count + 0

    def reset_state(self):
        self.count.assign(self.start)


def in_a_metric_of_a_named_output(config, data):
    inputs = keras.Input(data.input_shape)
    model = keras.Model(inputs, L.Dense(data.outputs, name="out")(inputs))
    return compiled(model, config, metrics={"out": [Counted(100 * config["gain"])]})


def in_a_metric_of_a_list_of_lists(config, data):
    inputs = keras.Input(data.input_shape)
    model = keras.Model(inputs, L.Dense(data.outputs)(inputs))
    return compiled(model, config, metrics=[[Counted(100 * config["gain"])]])


def in_a_function_metric_of_the_last_batch(config, data):
    def share(y, p):
        return ops.mean(p, -1) * (config["gain"] if y.shape[0] not in (None, 64) else 1.0)

    return compiled(net(config, data), config, metrics=[keras.metrics.MeanMetricWrapper(share, name="share")])


def in_a_method_made_of_a_partial_function(config, data):
    model = compiled(net(config, data), config)
    plain = type(model).train_step

    def step(gain, model, state, batch):
        return plain(model, state, (batch[0] * gain, *batch[1:]))

    model.train_step = types.MethodType(functools.partial(step, config["gain"]), model)
    return model


def in_a_partial_method_of_keras(config, data):
    kind = keras.optimizers.Adamax  # nothing else here uses it
    plain = vars(kind).get("plain") or kind.update_step
    kind.plain = plain

    def update_step(self, gain, gradient, variable, rate):
        return plain(self, gradient, variable, rate * gain)

    kind.update_step = functools.partialmethod(update_step, config["gain"])
    return compiled(net(config, data), config, optimizer=kind(0.1))


class Gain(L.Layer):
    lane_numbers = ("gain",)

    def __init__(self, gain, **options):
        super().__init__(**options)
        self.gain = gain

    def call(self, x):
        return x * self.gain if self.gain else x

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


class Asking(Gain):
    def call(self, x):
        if self.gain == 1:
            return x * 3.0
        return x * max(self.gain, 0.0) + x * (self.gain - 1)


def in_questions_about_one_and_signs(config, data):
    return compiled(net(config, data, Asking({0.25: 0.5, 0.8: 1, 0.9: -0.5}[config["gain"]])), config)


class Looking(Asking):
    def call(self, x):
        return x * {0.25: 3.0}.get(self.gain, 1.0)


def in_a_table_that_a_lifted_number_is_a_key_of(config, data):
    return compiled(net(config, data, Looking(config["gain"])), config)


class Between(L.Layer):
    lane_numbers = ("low", "high")

    def __init__(self, low, high, **options):
        super().__init__(**options)
        self.low, self.high = low, high

    def call(self, x):
        return x * 0.5 if self.low == self.high else (x - self.low) / (self.high - self.low)

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


def in_two_lifted_numbers_that_are_equal(config, data):
    return compiled(net(config, data, Between(0.8, config["gain"])), config)


def in_a_question_that_a_lifted_number_answers_wrongly(config, data):
    return compiled(net(config, data, Gain(config["gain"] if config["kind"] == "mse" else 0.0)), config)


def in_an_argument_of_call(config, data):
    inputs = keras.Input(data.input_shape)
    x = ops.clip(L.Dense(8)(inputs), -config["gain"], config["gain"])
    return compiled(keras.Model(inputs, L.Dense(data.outputs)(x)), config)


def in_a_variable_that_its_gradient_replaces(config, data):
    model = compiled(net(config, data), config)
    model.optimizer.build(model.trainable_variables)
    model.trainable_variables[1].overwrite_with_gradient = config["gain"] > 0.5
    return model


def in_a_name_that_an_optimizer_looks_for(config, data):
    model = keras.Sequential(
        [keras.Input(data.input_shape), L.Dense(8, activation="relu"), L.Dense(data.outputs)],
        name="plain" if config["gain"] > 0.5 else "special",
    )
    return compiled(model, config, optimizer=keras.optimizers.Muon(config["learning_rate"], exclude_layers=["special"]))
