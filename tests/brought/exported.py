"""Models, layers, losses and metrics of the user's own that are exported."""

import keras


class Gain(keras.layers.Layer):
    def __init__(self, gain=2.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def call(self, x):
        return self.gain * x

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


class Stepping(keras.Model):
    def __init__(self, outputs=1, **kwargs):
        super().__init__(**kwargs)
        self.outputs_, self.end = outputs, keras.layers.Dense(outputs)

    def build(self, shape):
        self.end.build(shape)
        self.built = True

    def call(self, x):
        return self.end(x)

    def compute_loss(self, *args, **kwargs):
        return 2 * super().compute_loss(*args, **kwargs)

    def get_config(self):
        return {"outputs": self.outputs_}


def double(y_true, y_pred):
    return 2 * keras.losses.mean_squared_error(y_true, y_pred)


def functional(config, data):
    inputs = keras.Input(data.input_shape)
    x = keras.layers.Dense(4, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(keras.layers.Concatenate()([x, inputs])))


def named(config, data):
    inputs = keras.Input(data.input_shape)
    return keras.Model(inputs, {"main": keras.layers.Dense(data.outputs, name="main")(inputs)})


def named_compiled(config, data):
    model = named(config, data)
    model.compile("sgd", {"main": "mse"}, metrics={"main": ["mae", double]})
    return model


class PerQuarter(keras.metrics.Metric):
    def __init__(self, name="per_quarter", **options):
        super().__init__(name=name, **options)
        self.sums = self.add_variable((4,), "zeros", name="sums")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.sums.assign_add(keras.ops.ones((4,)))

    def result(self):
        return keras.ops.convert_to_tensor(self.sums)


def layers(config, data):
    return keras.Sequential([keras.Input(data.input_shape), Gain(3.0), keras.layers.Dense(data.outputs)])


def stepping(config, data):
    model = Stepping(data.outputs)
    return model


def image(config, data):
    return keras.Sequential(
        [
            keras.Input(data.input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(data.outputs, kernel_regularizer="l2"),
        ]
    )


def compiled(config, data):
    model = functional(config, data)
    loss = double if config["own"] else keras.losses.Huber(delta=0.25)
    model.compile(config["optimizer"], loss, metrics=["mae", double] if config["own_metric"] else ["mae"])
    return model


def lambdas(config, data):
    return keras.Sequential(
        [keras.Input(data.input_shape), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(data.outputs)]
    )
