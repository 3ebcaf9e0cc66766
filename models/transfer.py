"""Transfer learning: a backbone trained on other data, first frozen, then trained on with a smaller learning rate.

Both phases are one training: the backbone has an optimizer of its own, whose learning rate is 0 until the second phase. So a
trial is pruned, resumed and shown as one curve, and an exported file holds nothing but Keras's own classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from search.data import DataInfo

# Where files of backbones are looked for that are no absolute paths.
FOLDER = Path(__file__).resolve().parents[1] / "studies" / "transfer"


def pretrain(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build a small convolutional network for images (height, width) or (height, width, channels), to be a backbone.

    Reads `filters` (of each block of convolution and pooling; default [32, 64]), `features` (128; the width before the
    outputs) and `dropout` (0.0).
    """
    layers = [*_convolutions(config, data.input_shape), keras.layers.Dropout(config.get("dropout", 0.0))]
    return keras.Sequential([*layers, keras.layers.Dense(data.outputs)])


def build(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build and compile a head on a backbone.

    Reads `backbone` (a `.keras` file of `manyfit export --model`; its last layer and the dropout before it are left out),
    `kept` (all; how many of its first layers with weights the head stands on: the last ones know their own classes best,
    see Yosinski et al. 2014), `pretrained` (true; false: the same layers with new weights, trained from the start, to
    compare with), `frozen` (0; how many of its first layers with weights are never trained), `unfreeze_after` (0.5; the
    share of the epochs after which the others are), `backbone_factor` (0.1; their learning rate, as a share of the
    head's), `head` (0; width of a hidden layer, 0 for none), `activation` ("relu"), `dropout` (0.0), `learning_rate`
    (1e-3), `batch_size` and `epochs`.
    """
    is_pretrained = config.get("pretrained", True)
    backbone = _without_top(_opened(config["backbone"]), data.input_shape, kept=config.get("kept"))
    if not is_pretrained:
        backbone = keras.models.clone_model(backbone)
    backbone.name = "backbone"
    return _with_head(backbone, config, data, has_phases=is_pretrained)


def application(config: Mapping[str, Any], data: DataInfo) -> keras.Model:
    """Build and compile a head on a network of keras.applications, for images (height, width, 3) scaled to 0..1.

    Reads `network` (its name; default "MobileNetV2"), `weights` (the file of its weights without the top, as
    keras.applications stores them: nothing is downloaded) and what `build` reads, but for `kept` and `pretrained`.
    """
    name = config.get("network", "MobileNetV2")
    network = getattr(keras.applications, name, None)
    if network is None:
        raise ValueError(f'keras.applications has no network {name!r}; set network = "MobileNetV2", say')
    weights = _file(
        config["weights"],
        f"keras.applications.{name}(include_top=False) downloads it into ~/.keras/models; copy it from there",
    )
    base = network(include_top=False, weights=str(weights), input_shape=tuple(data.input_shape), pooling="avg")
    base.name = "backbone"
    # Its networks were trained on pixels from -1 to 1, most of them.
    return _with_head(base, config, data, has_phases=True, scale=keras.layers.Rescaling(2.0, offset=-1.0))


def _convolutions(config: Mapping[str, Any], input_shape: tuple[int, ...]) -> list[Any]:
    layers: list[Any] = [keras.Input(input_shape)]
    if len(input_shape) == 2:
        layers.append(keras.layers.Reshape((*input_shape, 1)))
    for filters in config.get("filters", [32, 64]):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    return [*layers, keras.layers.Flatten(), keras.layers.Dense(config.get("features", 128), activation="relu")]


def _file(name: str, advice: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        raise ValueError(f"{path} is not there; {advice}")
    return path


def _opened(name: str) -> keras.Model:
    advice = "studies/transfer/pretrain.toml trains one, and `manyfit export --model` writes it"
    model = keras.models.load_model(_file(name, advice), compile=False, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise TypeError(f"{name} holds no model")
    return model


def _without_top(model: keras.Model, input_shape: tuple[int, ...], kept: int | None) -> keras.Model:
    """Return a model of layers in a row up to its last features, without what scales raw rows before them.

    Of its layers with weights, only the first `kept` stay; None keeps all.
    """
    layers = [
        layer for layer in _flat(model) if not isinstance(layer, keras.layers.InputLayer | keras.layers.Rescaling)
    ]
    while layers and not isinstance(layers.pop(), keras.layers.Dense):
        pass  # what comes after the outputs' layer, such as a softmax
    if kept is not None and kept < 1:
        raise ValueError(
            f"kept = {kept}: the head needs at least one layer of the backbone below it; set kept = 1 or more"
        )
    while kept is not None and sum(bool(layer.weights) for layer in layers) > kept:
        layers.pop()
    while layers and isinstance(layers[-1], keras.layers.Dropout):
        layers.pop()
    if layers and len(layers[-1].output.shape) > 2:
        layers.append(keras.layers.Flatten())
    return keras.Sequential([keras.Input(input_shape), *layers])


def _flat(model: keras.Model) -> list[Any]:
    return [inner for layer in model.layers for inner in (_flat(layer) if isinstance(layer, keras.Model) else [layer])]


def _with_head(
    backbone: keras.Model, config: Mapping[str, Any], data: DataInfo, *, has_phases: bool, scale: Any = None
) -> keras.Model:
    with_weights = [layer for layer in _flat(backbone) if layer.weights]
    for layer in with_weights[: config.get("frozen", 0) if has_phases else 0]:
        layer.trainable = False
    inputs = keras.Input(data.input_shape)
    # In inference mode: statistics of batch normalization stay those of the first data.
    x = backbone(inputs if scale is None else scale(inputs), training=False)
    if config.get("head", 0):
        x = keras.layers.Dense(config["head"], activation=config.get("activation", "relu"), name="head")(x)
    x = keras.layers.Dropout(config.get("dropout", 0.0), name="head_dropout")(x)
    model = keras.Model(inputs, keras.layers.Dense(data.outputs, name="head_outputs")(x))
    rate = config.get("learning_rate", 1e-3)
    optimizer = keras.optimizers.Adam(rate)
    if has_phases and any(layer.trainable for layer in with_weights):
        steps = math.ceil(data.train_rows / config["batch_size"]) * config["epochs"]
        begin = round(steps * config.get("unfreeze_after", 0.5))
        slow = keras.optimizers.schedules.PiecewiseConstantDecay(
            [begin], [0.0, rate * config.get("backbone_factor", 0.1)]
        )
        # Variables of a backbone keep the paths that they were made with: the head's are known.
        paths = {"(.*/)?head(_outputs)?/.*": optimizer}
        optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.Adam(slow), paths))
    loss = (
        keras.losses.BinaryCrossentropy(from_logits=True)
        if data.task == "binary"
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model
