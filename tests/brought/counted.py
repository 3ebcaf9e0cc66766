"""Models with several inputs or outputs."""

from keras import Input, Model
from keras.layers import Concatenate, Dense


def outputs(config, data):
    x = Input(data.input_shape)
    return Model(x, [Dense(1)(x), Dense(2)(x)])


def outputs_by_name(config, data):
    x = Input(data.input_shape)
    return Model(x, {"one": Dense(1, name="one")(x), "two": Dense(2, name="two")(x)})


def compiled(config, data):
    model = outputs(config, data)
    model.compile("sgd", ["mse", "mse"])
    return model


def inputs(config, data):
    x, more = Input(data.input_shape), Input((3,))
    return Model([x, more], Dense(1)(Concatenate()([x, more])))


class Stepping(Model):
    def train_step(self, state, data):
        logs, state = super().train_step(state, (data[0], [data[1], data[1]]))
        return logs, state

    def test_step(self, state, data):
        return super().test_step(state, (data[0], [data[1], data[1]]))


def stepping(config, data):
    x = Input(data.input_shape)
    model = Stepping(x, [Dense(1)(x), Dense(1)(x)])
    model.compile("sgd", ["mse", "mse"])
    return model
