"""Models with layers of many kinds, one of them its own."""

import keras
from keras import layers as L


class Scaled(L.Dense):
    lane_numbers = ("factor",)

    def __init__(self, units, factor, **kwargs):
        super().__init__(units, **kwargs)
        self.factor = factor

    def call(self, x):
        return super().call(x) * self.factor


IMAGE = [L.Reshape((8, 8, 1))]
MODELS = {
    "gaussian dropout": lambda: [L.Dense(16, "relu"), L.GaussianDropout(0.3)],
    "gaussian noise": lambda: [L.GaussianNoise(0.2), L.Dense(16, "relu")],
    "alpha dropout": lambda: [L.Dense(16, "selu"), L.AlphaDropout(0.2)],
    "max norm": lambda: [L.Dense(16, "relu", kernel_constraint=keras.constraints.MaxNorm(0.8))],
    "min max norm": lambda: [L.Dense(16, "relu", kernel_constraint=keras.constraints.MinMaxNorm(0.2, 0.9, 0.7))],
    "activity penalty": lambda: [
        L.Dense(16, "relu", activity_regularizer=keras.regularizers.L2(1e-3), bias_regularizer="l1")
    ],
    "convolution": lambda: [
        L.Reshape((8, 8, 1)),
        L.Conv2D(4, 3),
        L.SpatialDropout2D(0.2),
        L.MaxPooling2D(),
        L.Flatten(),
    ],
    "augmentation": lambda: [
        L.Reshape((8, 8, 1)),
        L.RandomFlip(seed=1),
        L.RandomTranslation(0.1, 0.1, seed=2),
        L.Flatten(),
        L.Dense(16, "relu"),
    ],
    "recurrent": lambda: [L.Reshape((8, 8)), L.LSTM(8)],
    "layer norm": lambda: [L.Dense(16), L.LayerNormalization(), L.Activation("gelu")],
    "a layer of one's own": lambda: [Scaled(16, 0.7), L.Activation("relu")],
}


def build(config, data):
    return keras.Sequential([keras.Input(data.input_shape), *MODELS[config["kind"]](), L.Dense(data.outputs)])
