"""Attention and transformers, as Keras's examples build them."""

from __future__ import annotations

import keras
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)
from keras import ops

DROPOUT = (0.0, 0.3, 0.2)
# Where a rate is not lifted, each of its values compiles a program of its own.
ALIKE = (0.3, 0.3, 0.3)


def ending(inputs, x, data):
    return keras.Model(inputs, L.Dense(data.outputs)(L.GlobalAveragePooling1D()(x)))


@entry("sequence")
def multi_head_attention(config, data):
    inputs = keras.Input(data.input_shape)
    return ending(inputs, L.MultiHeadAttention(2, 4)(inputs, inputs), data)


@entry("sequence", dropout=(0.1, 0.3, 0.3), batch_size=24)
def multi_head_attention_with_dropout(config, data):
    inputs = keras.Input(data.input_shape)
    return ending(inputs, L.MultiHeadAttention(2, 4, dropout=config["dropout"])(inputs, inputs), data)


@entry("sequence", dropout=ALIKE)
def additive_attention(config, data):
    inputs = keras.Input(data.input_shape)
    return ending(
        inputs, L.AdditiveAttention(dropout=config["dropout"])([L.Dense(4)(inputs), L.Dense(4)(inputs)]), data
    )


@entry("sequence")
def attention_with_scale(config, data):
    inputs = keras.Input(data.input_shape)
    return ending(
        inputs, L.Attention(use_scale=True, score_mode="concat")([L.Dense(4)(inputs), L.Dense(4)(inputs)]), data
    )


@entry("sequence")
def grouped_queries(config, data):
    inputs = keras.Input(data.input_shape)
    return ending(inputs, L.GroupQueryAttention(4, 4, 2)(inputs, inputs), data)


@entry("sequence", dropout=DROPOUT)
def transformer_block(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.LayerNormalization(epsilon=1e-6)(inputs)
    x = L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    x = L.Dropout(config["dropout"])(x) + inputs
    y = L.LayerNormalization(epsilon=1e-6)(x)
    y = L.Dense(8)(L.Dropout(config["dropout"])(L.Dense(16, "gelu")(y)))
    return ending(inputs, x + y, data)


class Block(L.Layer):
    """A transformer block with dropouts inside."""

    def __init__(self, rate, **more):
        super().__init__(**more)
        self.rate = rate
        self.attention = L.MultiHeadAttention(2, 4, dropout=rate)
        self.dense = keras.Sequential([L.Dense(12, "relu"), L.Dense(8)])
        self.norms = [L.LayerNormalization(), L.LayerNormalization()]
        self.drops = [L.Dropout(rate), L.Dropout(rate)]

    def call(self, x, training=False):
        x = self.norms[0](x + self.drops[0](self.attention(x, x), training=training))
        return self.norms[1](x + self.drops[1](self.dense(x), training=training))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@entry("sequence", dropout=ALIKE)
def own_transformer_layer(config, data):
    inputs = keras.Input(data.input_shape)
    return ending(inputs, Block(config["dropout"])(inputs), data)


class Places(L.Layer):
    """Token and position embeddings, the first padded away."""

    def __init__(self, length, **more):
        super().__init__(**more)
        self.length = length
        self.tokens, self.places = L.Embedding(17, 8, mask_zero=True), L.Embedding(length, 8)

    def compute_mask(self, inputs, mask=None):
        return self.tokens.compute_mask(inputs)

    def call(self, x):
        return self.tokens(x) + self.places(ops.arange(self.length))

    def get_config(self):
        return {**super().get_config(), "length": self.length}


@entry("tokens", dropout=DROPOUT)
def text_classifier(config, data):
    inputs = keras.Input(data.input_shape)
    x = Places(16)(inputs)
    x = x + L.MultiHeadAttention(2, 4)(x, x)
    return ending(inputs, L.Dropout(config["dropout"])(x), data)


class Patches(L.Layer):
    def __init__(self, size, **more):
        super().__init__(**more)
        self.size = size

    def call(self, images):
        patches = ops.image.extract_patches(images, self.size)
        return ops.reshape(patches, (ops.shape(images)[0], -1, patches.shape[-1]))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@entry("image", size=(2, 2, 2))
def vision_transformer(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.Dense(8)(Patches(config["size"])(inputs))
    x = L.Add()([L.MultiHeadAttention(2, 4)(x, x), x])
    return ending(inputs, L.LayerNormalization()(x), data)


@entry("sequence", dropout=DROPOUT)
def mlp_mixer(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.LayerNormalization()(inputs)
    x = L.Permute((2, 1))(L.Dropout(config["dropout"])(L.Dense(8, "gelu")(L.Permute((2, 1))(x)))) + inputs
    return ending(inputs, L.Dense(8, "gelu")(L.LayerNormalization()(x)) + x, data)


class Gate(L.Layer):
    """A gated residual network, as of the temporal fusion transformer."""

    def __init__(self, units, rate, **more):
        super().__init__(**more)
        self.units, self.rate = units, rate
        self.elu, self.linear, self.drop = L.Dense(units, "elu"), L.Dense(units), L.Dropout(rate)
        self.value, self.gate = L.Dense(units), L.Dense(units, "sigmoid")
        self.norm, self.project = L.LayerNormalization(), L.Dense(units)

    def call(self, x):
        y = self.drop(self.linear(self.elu(x)))
        return self.norm(self.project(x) + self.gate(y) * self.value(y))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate}


@entry("flat", dropout=DROPOUT, units=(6, 6, 6))
def gated_residual(config, data):
    inputs = keras.Input(data.input_shape)
    return keras.Model(inputs, L.Dense(data.outputs)(Gate(config["units"], config["dropout"])(inputs)))


@entry("sequence", dropout=DROPOUT)
def fourier_and_tied_weights(config, data):
    shared = L.Dense(8, "relu")
    inputs = keras.Input(data.input_shape)
    x = shared(shared(inputs)) + ops.real(ops.fft2((inputs, ops.zeros_like(inputs)))[0])
    return ending(inputs, L.GaussianDropout(config["dropout"])(x), data)
