"""Layers of every kind that Keras's examples use: convolutions, normalisations, dropouts, augmentation, preprocessing."""

from __future__ import annotations

import keras
import numpy as np
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)
from keras import ops

DROPOUT = (0.0, 0.3, 0.2)


def ending(*layers, data):
    return keras.Sequential([keras.Input(data.input_shape), *layers, L.Flatten(), L.Dense(data.outputs)])


# Under SGD: the bias before a BatchNormalization has a gradient of rounding alone, which Adam makes steps of.
@entry("flat", train={"optimizer": "sgd"}, momentum=(0.9, 0.5, 0.0), batch_size=24)
def batch_normalization(config, data):
    return ending(L.Dense(8), L.BatchNormalization(), L.ReLU(), data=data)


@entry("flat", decay=(0.9, 0.9, 0.9))
def batch_normalization_without_bias(config, data):
    return ending(L.Dense(8, use_bias=False), L.BatchNormalization(momentum=config["decay"]), L.ReLU(), data=data)


# The bias has a gradient of rounding alone, and Adam makes whole steps of it.
@entry("flat", is_chaotic=True)
def bias_before_batch_normalization(config, data):
    return ending(L.Dense(8), L.BatchNormalization(), L.ReLU(), data=data)


@entry("image", train={"optimizer": "sgd"})
def normalizations(config, data):
    return ending(L.Conv2D(4, 3), L.GroupNormalization(2), L.LayerNormalization(), L.UnitNormalization(), data=data)


@entry("flat")
def root_mean_square(config, data):
    return ending(L.RMSNormalization(), L.Dense(8, "relu"), L.RMSNormalization(), data=data)


@entry("flat", train={"optimizer": "sgd"})
def spectral_normalization(config, data):
    return ending(L.SpectralNormalization(L.Dense(8, "relu")), data=data)


@entry("ragged", train={"optimizer": "sgd"})
def masked_batch_normalization(config, data):
    return ending(L.Masking(), L.Dense(4), L.BatchNormalization(), data=data)


@entry("sequence", filters=(4, 4, 4))
def convolution_1d(config, data):
    return ending(L.Conv1D(config["filters"], 3, padding="causal", activation="relu"), L.MaxPooling1D(), data=data)


@entry("image", dropout=DROPOUT, batch_size=24)
def convolution_2d(config, data):
    return ending(L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(), L.SpatialDropout2D(config["dropout"]), data=data)


@entry("volume", dropout=DROPOUT)
def convolution_3d(config, data):
    return ending(L.Conv3D(2, 2, activation="relu"), L.SpatialDropout3D(config["dropout"]), data=data)


@entry("image", epochs=2)
def separable_and_depthwise(config, data):
    return ending(L.DepthwiseConv2D(3, depth_multiplier=2), L.SeparableConv2D(4, 3, activation="relu"), data=data)


@entry("sequence", epochs=2)
def separable_1d(config, data):
    return ending(L.SeparableConv1D(4, 3, activation="relu"), L.DepthwiseConv1D(3), L.AveragePooling1D(2), data=data)


@entry("image", epochs=2)
def transposed(config, data):
    return ending(L.Conv2D(2, 3, strides=2), L.Conv2DTranspose(2, 3, strides=2, activation="relu"), data=data)


@entry("sequence", epochs=2)
def transposed_1d(config, data):
    return ending(L.Conv1DTranspose(4, 3), L.ZeroPadding1D(1), L.Cropping1D(2), L.UpSampling1D(2), data=data)


@entry("image", dropout=DROPOUT, train={"optimizer": "sgd"}, batch_size=24)
def residual(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    y = L.Activation("relu")(L.BatchNormalization()(x))
    y = L.Conv2D(4, 3, padding="same", use_bias=False)(y)
    x = L.GlobalAveragePooling2D()(L.add([x, y]))
    return keras.Model(inputs, L.Dense(data.outputs)(L.Dropout(config["dropout"])(x)))


@entry("image", dropout=DROPOUT)
def branches(config, data):
    inputs = keras.Input(data.input_shape)
    parts = [
        L.GlobalMaxPooling2D()(L.Conv2D(3, 1, activation="relu")(inputs)),
        L.GlobalAveragePooling2D()(L.Conv2D(3, 3, dilation_rate=2, activation="selu")(inputs)),
        L.Dense(4, "tanh")(L.Flatten()(inputs)),
    ]
    x = L.Concatenate()([*parts, L.Dot(1)([parts[0], parts[1]])])
    return keras.Model(inputs, L.Dense(data.outputs)(L.AlphaDropout(config["dropout"])(x)))


@entry("image", epochs=2)
def squeeze_and_excite(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.Conv2D(4, 3, activation="swish")(inputs)
    gate = L.Dense(4, "sigmoid")(L.Dense(2, "relu")(L.GlobalAveragePooling2D(keepdims=True)(x)))
    return keras.Model(inputs, L.Dense(data.outputs)(L.Flatten()(L.Multiply()([x, gate]))))


@entry("flat", dropout=DROPOUT, noise=(0.1, 0.0, 0.3), batch_size=24)
def noise(config, data):
    return ending(L.GaussianNoise(config["noise"]), L.Dense(8, "relu"), L.GaussianDropout(config["dropout"]), data=data)


@entry("flat", dropout=DROPOUT)
def dropouts_in_a_row(config, data):
    rate = config["dropout"]
    return ending(L.Dropout(rate), L.Dense(8, "relu"), L.Dropout(rate, seed=3), L.AlphaDropout(rate), data=data)


@entry("sequence", dropout=DROPOUT)
def dropout_of_whole_steps(config, data):
    return ending(L.Dropout(config["dropout"], noise_shape=(None, 8, 1)), L.Dense(3), data=data)


@entry("flat", slope=(0.3, 0.3, 0.3))
def activations(config, data):
    return ending(
        L.Dense(8), L.LeakyReLU(config["slope"]), L.Dense(8), L.PReLU(), L.ELU(0.7), L.Dense(6), L.Softmax(), data=data
    )


@entry("sequence")
def einsum_and_permutations(config, data):
    return ending(
        L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), L.Permute((2, 1)), L.Reshape((16, 2)), data=data
    )


@entry("flat", factor=(0.01, 0.1, 0.0), batch_size=24)
def activity_regularization(config, data):
    penalty = keras.regularizers.L2(config["factor"])
    return ending(
        L.Dense(8, "relu", activity_regularizer=penalty), L.ActivityRegularization(l1=0.001, l2=0.01), data=data
    )


@entry("flat", units=(4, 4, 4))
def nested_models(config, data):
    inner = keras.Sequential([L.Dense(config["units"], "relu"), L.Dense(64)])
    inputs = keras.Input(data.input_shape)
    return keras.Model(inputs, L.Dense(data.outputs)(inner(inputs) + inner(inner(inputs))))


@entry("flat")
def partly_frozen(config, data):
    frozen = L.Dense(16, "relu", trainable=False)
    return ending(frozen, L.Dense(8, "relu"), data=data)


@entry("pair", dropout=DROPOUT)
def siamese(config, data):
    inputs = keras.Input(data.input_shape)
    tower = keras.Sequential([L.Dense(8, "relu"), L.Dropout(config["dropout"]), L.Dense(4)])
    one, two = tower(inputs[:, 0]), tower(inputs[:, 1])
    return keras.Model(inputs, L.Dense(1)(ops.abs(one - two)))


@entry("tokens", size=(4, 4, 4))
def embedding(config, data):
    return ending(L.Embedding(17, config["size"], embeddings_regularizer="l2"), L.GlobalAveragePooling1D(), data=data)


@entry("tokens")
def tied_embedding(config, data):
    inputs = keras.Input(data.input_shape)
    tokens = keras.layers.ReversibleEmbedding(17, 4, tie_weights=True)
    x = tokens(tokens(inputs), reverse=True)
    return keras.Model(inputs, L.Dense(data.outputs)(L.GlobalMaxPooling1D()(x)))


@entry("image", flip=("horizontal", "horizontal", "horizontal"))
def flips(config, data):
    return ending(L.RandomFlip(config["flip"]), L.Dense(4, "relu"), data=data)


@entry("image", factor=(0.2, 0.2, 0.2))
def turns(config, data):
    return ending(L.RandomRotation(config["factor"]), L.Dense(4, "relu"), data=data)


@entry("image", factor=(0.2, 0.2, 0.2), epochs=2)
def zooms_and_shifts(config, data):
    return ending(L.RandomTranslation(config["factor"], 0.1), L.RandomZoom(0.2), L.Dense(4, "relu"), data=data)


@entry("image", factor=(0.2, 0.2, 0.2), epochs=2)
def light(config, data):
    return ending(
        L.RandomContrast(config["factor"]), L.RandomBrightness(0.1, value_range=(0, 1)), L.Dense(4, "relu"), data=data
    )


@entry("colour", epochs=2)
def colours(config, data):
    return ending(
        L.RandomColorJitter((0, 1), 0.1, 0.1, 0.1, 0.1), L.RandomGrayscale(0.3), L.Dense(4, "relu"), data=data
    )


@entry("image", epochs=2)
def resized(config, data):
    return ending(
        L.Rescaling(2.0, offset=-1), L.Resizing(6, 6), L.CenterCrop(4, 4), L.ZeroPadding2D(1), L.UpSampling2D(2),
        L.Cropping2D(1), L.Dense(2, "relu"), data=data,
    )  # fmt: skip


@entry("table")
def adapted_normalization(config, data):
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).normal(0.3, 2.0, (50, 10)).astype("float32"))
    return ending(layer, L.Dense(8, "relu"), data=data)


@entry("table", bins=(5, 5, 5))
def discretization(config, data):
    edges = np.linspace(-1, 1, config["bins"]).tolist()
    return ending(L.Discretization(edges), L.CategoryEncoding(config["bins"] + 1, output_mode="multi_hot"), data=data)


@entry("sequence", no_lanes="[Ll]ambda", no_file="a Lambda is code")
def lambda_layer(config, data):
    return ending(L.Lambda(lambda x: x * x), L.Dense(4, "relu"), data=data)


@entry("flat")
def maxout_of_operations(config, data):
    inputs = keras.Input(data.input_shape)
    x = ops.max(ops.reshape(L.Dense(12)(inputs), (-1, 4, 3)), axis=-1)
    return keras.Model(inputs, L.Dense(data.outputs)(ops.clip(ops.sqrt(ops.relu(x) + 0.1), 0.0, 2.0)))
