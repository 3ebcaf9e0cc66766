"""The residual networks for small photos of He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from models.convnet import as_images, augmentation

if TYPE_CHECKING:
    from search.data import DataInfo


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build three stages of residual blocks, for images (height, width, channels).

    Reads `blocks` (3 a stage, which makes ResNet-20: 6 * blocks + 2 layers with weights), `filters` (of each stage; default
    [16, 32, 64]), `l2` (0.0; the penalty of all kernels), `flip` (false; at random, left to right) and `shift` (0.0; the
    largest shift at random, as a share of height and width).

    Unlike the paper's, a shortcut to a smaller image is a convolution of 1x1 (its option B). Augmentation works in training
    alone. Outputs are raw, `data.outputs` of them.
    """
    penalty = config.get("l2", 0.0)

    def convolution(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        x = keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(penalty),
        )(x)
        return keras.layers.BatchNormalization()(x)

    def block(x: Any, filters: int, strides: int) -> Any:
        inside = keras.layers.Activation("relu")(convolution(x, filters, 3, strides))
        inside = convolution(inside, filters, 3)
        is_same = strides == 1 and x.shape[-1] == filters
        shortcut = x if is_same else convolution(x, filters, 1, strides)
        return keras.layers.Activation("relu")(keras.layers.Add()([inside, shortcut]))

    inputs = keras.Input(data.input_shape)
    x = inputs
    for layer in [*as_images(data), *augmentation(config)]:
        x = layer(x)
    stages = config.get("filters", [16, 32, 64])
    x = keras.layers.Activation("relu")(convolution(x, stages[0], 3))
    for stage, filters in enumerate(stages):
        for number in range(config.get("blocks", 3)):
            x = block(x, filters, strides=2 if stage and not number else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(data.outputs, kernel_regularizer=keras.regularizers.L2(penalty))(x)
    return keras.Model(inputs, outputs)
