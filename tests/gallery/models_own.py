"""Models with layers, losses, metrics and steps of their own, as users write them."""

from __future__ import annotations

import keras
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)
from keras import ops

# Where a rate is not lifted, each of its values compiles a program of its own.
DROPOUT = (0.3, 0.3, 0.3)


def ending(*layers, data):
    return keras.Sequential([keras.Input(data.input_shape), *layers, L.Dense(data.outputs)])


def compiled(model, config, loss, metrics=(), **more):
    model.compile(keras.optimizers.Adam(config["learning_rate"]), loss, metrics=list(metrics), **more)
    return model


class Noisy(L.Layer):
    """Draws from a generator of its own, in training alone."""

    def __init__(self, scale, **more):
        super().__init__(**more)
        self.scale, self.generator = scale, keras.random.SeedGenerator(5)

    def call(self, x, training=False):
        if training:
            return x + self.scale * keras.random.normal(ops.shape(x), seed=self.generator)
        return x

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@entry("flat", scale=(0.1, 0.3, 0.3), batch_size=24)
def noise_of_its_own(config, data):
    return ending(L.Dense(8, "relu"), Noisy(config["scale"]), data=data)


class AlwaysNoisy(L.Layer):
    """Draws in training and in evaluation alike."""

    def __init__(self, **more):
        super().__init__(**more)
        self.generator = keras.random.SeedGenerator(5)

    def call(self, x):
        return x + 0.3 * keras.random.normal(ops.shape(x), seed=self.generator)


@entry("flat", no_file="it draws")
def noise_in_evaluation_too(config, data):
    return ending(L.Dense(8, "relu"), AlwaysNoisy(), data=data)


class Inner(L.Layer):
    """A layer with a dropout inside."""

    def __init__(self, units, rate, **more):
        super().__init__(**more)
        self.units, self.rate = units, rate
        self.dense, self.drop = L.Dense(units, "relu"), L.Dropout(rate)

    def call(self, x, training=False):
        return self.drop(self.dense(x), training=training)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate}


@entry("flat", dropout=DROPOUT, units=(8, 8, 8))
def dropout_inside(config, data):
    return ending(Inner(config["units"], config["dropout"]), data=data)


class Bare(L.Layer):
    """As `Inner`, of layers that it is given, without `get_config`."""

    def __init__(self, dense, drop):
        super().__init__()
        self.dense, self.drop = dense, drop

    def call(self, x, training=False):
        return self.drop(self.dense(x), training=training)


@entry("flat", no_file="no get_config", dropout=DROPOUT, no_lanes="Bare|bare")
def dropout_inside_without_config(config, data):
    return ending(Bare(L.Dense(8, "relu"), L.Dropout(config["dropout"])), data=data)


class Sampling(L.Layer):
    def __init__(self, **more):
        super().__init__(**more)
        self.generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_variance = inputs
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=self.generator)


class Divergence(L.Layer):
    """Adds the divergence of a code from a normal distribution to the loss."""

    def __init__(self, weight, **more):
        super().__init__(**more)
        self.weight = weight

    def call(self, inputs):
        mean, log_variance = inputs
        terms = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
        self.add_loss(-0.5 * self.weight * ops.mean(ops.sum(terms, axis=1)))
        return inputs

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


@entry("itself", no_file="it draws", weight=(0.1, 0.1, 0.1))
def variational_autoencoder(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.Dense(16, "relu")(inputs)
    code = Divergence(config["weight"])([L.Dense(4)(x), L.Dense(4)(x)])
    outputs = L.Dense(64, "sigmoid")(L.Dense(16, "relu")(Sampling()(code)))
    return compiled(keras.Model(inputs, outputs), config, "binary_crossentropy", ["mae"])


@entry("itself", noise=(0.0, 0.2, 0.4))
def denoising_autoencoder(config, data):
    return ending(L.GaussianNoise(config["noise"]), L.Dense(16, "relu"), data=data)


@entry("image_itself")
def half_of_itself(config, data):
    return ending(L.Dense(16, "relu"), data=data)


class Vae(keras.Model):
    """A variational autoencoder with a `train_step` of its own for no backend: losses are added in `call`."""

    def __init__(self, code, **more):
        super().__init__(**more)
        self.inner, self.mean, self.scale = L.Dense(16, "relu"), L.Dense(code), L.Dense(code)
        self.sample, self.outer = Sampling(), keras.Sequential([L.Dense(16, "relu"), L.Dense(64, "sigmoid")])

    def call(self, x):
        x = self.inner(x)
        mean, scale = self.mean(x), self.scale(x)
        self.add_loss(-0.005 * ops.mean(1 + scale - ops.square(mean) - ops.exp(scale)))
        return self.outer(self.sample([mean, scale]))


@entry("itself", no_file="it draws", code=(4, 4, 4), no_lanes="Vae|vae")
def subclassed_autoencoder(config, data):
    return compiled(Vae(config["code"]), config, "mse")


class Classifier(keras.Model):
    def __init__(self, rate, outputs, **more):
        super().__init__(**more)
        self.rate, self.outputs_ = rate, outputs
        self.dense, self.drop, self.end = L.Dense(8, "relu"), L.Dropout(rate), L.Dense(outputs)

    def call(self, x, training=False):
        return self.end(self.drop(self.dense(x), training=training))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "outputs": self.outputs_}


@entry("flat", no_file="Keras loads no weights without a build()", dropout=DROPOUT, no_lanes="Classifier|classifier")
def subclassed_classifier(config, data):
    return Classifier(config["dropout"], data.outputs)


class TwiceTheLoss(keras.Model):
    """A model whose `compute_loss` is its own."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


@entry("table", no_lanes="TwiceTheLoss|twice_the_loss")
def own_compute_loss(config, data):
    inputs = keras.Input(data.input_shape)
    return compiled(TwiceTheLoss(inputs, L.Dense(1)(L.Dense(8, "relu")(inputs))), config, "mse", ["mae"])


class Reporting(keras.Model):
    """Reports a metric of its own beside what it was compiled with."""

    def __init__(self, *args, **kwargs):  # by these names Keras knows that it can load it
        super().__init__(*args, **kwargs)
        self.rmse = keras.metrics.RootMeanSquaredError(name="rmse")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.rmse.update_state(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)


@entry("table", no_lanes="Reporting|reporting")
def own_compute_metrics(config, data):
    inputs = keras.Input(data.input_shape)
    return compiled(Reporting(inputs, L.Dense(1)(L.Dense(8, "relu")(inputs))), config, "mse", ["mae"])


class Residuals(keras.losses.Loss):
    """The mean square of what is left, with the shapes of Keras's own users."""

    def __init__(self, power, **more):
        super().__init__(**more)
        self.power = power

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred) ** self.power, axis=-1)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class R2(keras.metrics.Metric):
    """The share of the variance that is explained."""

    def __init__(self, **more):
        super().__init__(**more)
        self.rest = self.add_weight(name="rest", initializer="zeros")
        self.squares = self.add_weight(name="squares", initializer="zeros")
        self.sum = self.add_weight(name="sum", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, "float32")
        self.rest.assign_add(ops.sum((y_true - y_pred) ** 2))
        self.squares.assign_add(ops.sum(y_true**2))
        self.sum.assign_add(ops.sum(y_true))
        self.count.assign_add(ops.cast(ops.size(y_true), "float32"))

    def result(self):
        return 1 - self.rest / (self.squares - self.sum**2 / self.count)


@entry("table", power=(2.0, 1.5, 1.5), batch_size=24)
def own_loss_and_metric(config, data):
    return compiled(ending(L.Dense(8, "relu"), data=data), config, Residuals(config["power"]), [R2(name="r2")])


def hits(y_true, y_pred):
    """The share of labels that are told right, written for columns."""
    return ops.mean(ops.cast(ops.equal(ops.cast(y_true, "float32"), ops.cast(y_pred > 0.5, "float32")), "float32"))


@entry("yes_or_no", dropout=(0.0, 0.3, 0.2))
def own_metric_function(config, data):
    model = keras.Sequential(
        [keras.Input(data.input_shape), L.Dense(8, "relu"), L.Dropout(config["dropout"]), L.Dense(1, "sigmoid")]
    )
    metrics = [hits, "accuracy", keras.metrics.AUC(name="auc"), keras.metrics.F1Score(threshold=0.5, name="f1")]
    return compiled(model, config, "binary_crossentropy", metrics)


@entry("one_hot", smoothing=(0.0, 0.1, 0.2))
def one_hot_labels(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "relu"), L.Dense(10, "softmax")])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config["smoothing"])
    return compiled(model, config, loss, ["categorical_accuracy", keras.metrics.F1Score(average="macro", name="f1")])


@entry("table", may_refuse=True, configs=[
    {"kind": "mse", "delta": 1.0, "learning_rate": 0.02}, {"kind": "huber", "delta": 0.2, "learning_rate": 0.01},
    {"kind": "huber", "delta": 2.0, "learning_rate": 0.01}, {"kind": "huber", "delta": 0.5, "learning_rate": 0.02},
])  # fmt: skip
def loss_out_of_a_table(config, data):
    loss = {"mse": keras.losses.MeanSquaredError(), "huber": keras.losses.Huber(delta=config["delta"])}[config["kind"]]
    return compiled(ending(L.Dense(8, "relu"), data=data), config, loss, ["mae"])


@entry("table", no_file="its class is gone", may_refuse=True, configs=[
    {"gained": False, "gain": 1.0, "learning_rate": 0.02}, {"gained": True, "gain": 0.5, "learning_rate": 0.01},
    {"gained": True, "gain": 2.0, "learning_rate": 0.01}, {"gained": True, "gain": 1.5, "learning_rate": 0.02},
])  # fmt: skip
def layer_class_inside_the_builder(config, data):
    class Gain(L.Layer):
        def call(self, x):
            return x * config["gain"]

    gained = [Gain()] if config["gained"] else []
    return ending(L.Dense(8, "relu"), *gained, data=data)


@entry("two_numbers", may_refuse=True, configs=[
    {"axis": -1, "learning_rate": 0.01}, {"axis": 0, "learning_rate": 0.01}, {"axis": -1, "learning_rate": 0.02},
])  # fmt: skip
def axis_of_a_loss(config, data):
    loss = keras.losses.CosineSimilarity(axis=config["axis"])
    metrics = [keras.metrics.CosineSimilarity(axis=config["axis"], name="cosine")]
    return compiled(ending(L.Dense(8, "relu"), data=data), config, loss, metrics)


class Swing(keras.constraints.Constraint):
    """Keeps weights within bounds of its own."""

    def __init__(self, bound):
        self.bound = bound

    def __call__(self, weights):
        return ops.clip(weights, -self.bound, self.bound)

    def get_config(self):
        return {"bound": self.bound}


class Orderly(keras.regularizers.Regularizer):
    """Punishes what differs between neighbouring weights."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, weights):
        return self.factor * ops.sum(ops.square(weights[1:] - weights[:-1]))

    def get_config(self):
        return {"factor": self.factor}


@entry("flat", bound=(0.1, 0.3, 0.3), factor=(0.05, 0.05, 0.05))
def own_constraint_and_regularizer(config, data):
    dense = L.Dense(8, "relu", kernel_constraint=Swing(config["bound"]), kernel_regularizer=Orderly(config["factor"]))
    return ending(dense, data=data)


class Counts(L.Layer):
    """Keeps a running maximum of what it has seen in training: a state that is no weight."""

    def build(self, shape):
        self.peak = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False, name="peak")

    def call(self, x, training=False):
        if training:
            self.peak.assign(ops.maximum(self.peak * 0.99, ops.max(ops.abs(x), axis=0)))
        return x / self.peak


@entry("flat")
def state_of_its_own(config, data):
    return ending(Counts(), L.Dense(8, "relu"), data=data)


class CountsAlways(L.Layer):
    """Counts its calls, evaluations included, and computes with the count."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign_add(1.0)
        return x * (1.0 + 0.1 * ops.sin(self.calls))


@entry("flat", no_file="evaluating changes it")
def state_that_evaluation_changes(config, data):
    return ending(CountsAlways(), L.Dense(8, "relu"), data=data)


class Experts(L.Layer):
    """A mixture of experts with a loss that balances them."""

    def __init__(self, count, units, **more):
        super().__init__(**more)
        self.count, self.units = count, units
        self.experts, self.gate = [L.Dense(units, "relu") for _ in range(count)], L.Dense(count, "softmax")

    def call(self, x):
        gate = self.gate(x)
        self.add_loss(0.1 * ops.sum(ops.square(ops.mean(gate, axis=0))))
        return ops.sum(ops.stack([e(x) for e in self.experts], axis=1) * gate[..., None], axis=1)

    def get_config(self):
        return {**super().get_config(), "count": self.count, "units": self.units}


@entry("flat", count=(2, 2, 2))
def mixture_of_experts(config, data):
    return ending(Experts(config["count"], 6), data=data)


@entry("table", steps=(4, 4, 4))
def schedule_and_averages(config, data):
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([config["steps"]], [config["learning_rate"], 0.001])
    model = ending(L.Dense(8, "relu"), data=data)
    optimizer = keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


@entry("two_numbers")
def weighted_outputs(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.Dense(8, "relu")(inputs)
    outputs = L.Concatenate()([L.Dense(1, name="one")(x), L.Dense(1, "softplus", name="two")(x)])
    return compiled(keras.Model(inputs, outputs), config, "huber", ["mae", "mse"], loss_weights=[0.3])


class Circle(L.Layer):
    """Weights of its own, tied to the layer before."""

    def __init__(self, tied, **more):
        super().__init__(**more)
        self.tied = tied

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.tied.kernel))


@entry("itself", no_file="no get_config", no_lanes="Circle|circle")
def tied_autoencoder(config, data):
    inputs = keras.Input(data.input_shape)
    dense = L.Dense(8, "relu")
    return keras.Model(inputs, Circle(dense)(dense(inputs)))


@entry("flat", policy=("mixed_bfloat16", "mixed_bfloat16", "mixed_bfloat16"))
def half_precision(config, data):
    return ending(L.Dense(8, "relu", dtype=config["policy"]), L.Activation("linear", dtype="float32"), data=data)
