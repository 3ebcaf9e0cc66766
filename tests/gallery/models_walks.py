"""Everything of a kind that Keras has, found by walking its modules: what a later Keras adds is tried, too."""

from __future__ import annotations

import inspect

import keras
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)


def classes(room, kind, *, without=()):
    """Name the classes of a module of Keras's, those that other ones are made from apart."""
    found = {cls.__name__ for cls in vars(room).values() if inspect.isclass(cls) and issubclass(cls, kind)}
    return sorted(found - {kind.__name__, *without})


def each(kinds, **options):
    """Return a config for every kind."""
    return [{"kind": kind, "learning_rate": 0.01, **options} for kind in kinds]


def compiled(model, optimizer, loss, metrics=()):
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


# What compares whole labels, or sequences, with a row of numbers.
OF_LABELS = ("SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy", "Circle")
LOSSES = classes(keras.losses, keras.losses.Loss, without=(*OF_LABELS, "CTC"))
OPTIMIZERS = classes(
    keras.optimizers, keras.optimizers.Optimizer, without=("LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
)


def soft(data, **more):
    return keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "relu"), L.Dense(4, "softmax", **more)])


@entry("shares", configs=each(LOSSES), epochs=2)
def losses(config, data):
    optimizer = keras.optimizers.SGD(config["learning_rate"])
    return compiled(soft(data), optimizer, getattr(keras.losses, config["kind"])())


# Lower-case names, as they stand in most programs.
@entry(
    "shares",
    configs=each(["mse", "kld", "msle", "categorical_crossentropy", "log_cosh", "cosine_similarity"]),
    epochs=2,
)
def losses_by_name(config, data):
    return compiled(soft(data), keras.optimizers.Adam(config["learning_rate"]), config["kind"], ["mape", "mse"])


@entry("flat", configs=each(OF_LABELS), epochs=2)
def losses_of_labels(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "relu"), L.Dense(10, "softmax")])
    return compiled(model, keras.optimizers.SGD(config["learning_rate"]), getattr(keras.losses, config["kind"])())


@entry("shares", configs=each(OPTIMIZERS), epochs=2)
def optimizers(config, data):
    return compiled(soft(data), getattr(keras.optimizers, config["kind"])(config["learning_rate"]), "mse", ["mae"])


NEEDS = {
    "IoU": {"num_classes": 10, "target_class_ids": [0, 3], "sparse_y_pred": False},
    "MeanIoU": {"num_classes": 10, "sparse_y_pred": False},
    "BinaryIoU": {"target_class_ids": [0, 1], "threshold": 0.5},
    "OneHotIoU": {"num_classes": 4, "target_class_ids": [0, 3]},
    "OneHotMeanIoU": {"num_classes": 4},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "TopKCategoricalAccuracy": {"k": 2},
    "SparseTopKCategoricalAccuracy": {"k": 3},
    "FBetaScore": {"beta": 2.0, "threshold": 0.5},
    "F1Score": {"threshold": 0.5},
}
METRICS = classes(keras.metrics, keras.metrics.Metric, without=("Mean", "Sum", "MeanMetricWrapper"))
FOR_LABELS = (
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "IoU",
    "MeanIoU",
)
FOR_YES_OR_NO = (
    "AUC", "BinaryAccuracy", "BinaryCrossentropy", "BinaryIoU", "F1Score", "FBetaScore", "FalseNegatives", "FalsePositives",
    "Hinge", "Precision", "PrecisionAtRecall", "Recall", "RecallAtPrecision", "SensitivityAtSpecificity", "SquaredHinge",
    "SpecificityAtSensitivity", "TrueNegatives", "TruePositives", "Accuracy",
)  # fmt: skip
FOR_NUMBERS = sorted({*METRICS} - {*FOR_LABELS} - {*FOR_YES_OR_NO})


def metrics_of(names):
    return [getattr(keras.metrics, name)(**NEEDS.get(name, {})) for name in names]


@entry("flat", epochs=2)
def metrics_for_labels(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "relu"), L.Dense(10, "softmax")])
    optimizer = keras.optimizers.Adam(config["learning_rate"])
    return compiled(model, optimizer, "sparse_categorical_crossentropy", metrics_of(FOR_LABELS))


@entry("yes_or_no", epochs=2)
def metrics_for_yes_or_no(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "relu"), L.Dense(1, "sigmoid")])
    optimizer = keras.optimizers.Adam(config["learning_rate"])
    return compiled(model, optimizer, "binary_crossentropy", metrics_of(FOR_YES_OR_NO))


@entry("shares", epochs=2)
def metrics_for_numbers(config, data):
    names = [name for name in FOR_NUMBERS if name != "R2Score"]
    r2 = keras.metrics.R2Score(class_aggregation="variance_weighted_average", name="r2_score")
    return compiled(soft(data), keras.optimizers.Adam(config["learning_rate"]), "mse", [*metrics_of(names), r2])


@entry("flat", epochs=2)
def initializers(config, data):
    names = classes(keras.initializers, keras.initializers.Initializer, without=("STFT", "Identity"))
    inputs = keras.Input(data.input_shape)
    kinds = [getattr(keras.initializers, name) for name in names]
    parts = [L.Dense(2, "tanh", kernel_initializer=kind(), bias_initializer="zeros")(inputs) for kind in kinds]
    return keras.Model(inputs, L.Dense(data.outputs)(L.Concatenate()(parts)))


@entry("flat", factor=(0.001, 0.01, 0.1), epochs=2)
def regularizers(config, data):
    names = classes(keras.regularizers, keras.regularizers.Regularizer)
    inputs = keras.Input(data.input_shape)
    kinds = [getattr(keras.regularizers, name) for name in names]
    parts = [
        L.Dense(4, "tanh", kernel_regularizer=kind(config["factor"]), bias_regularizer="l1")(inputs) for kind in kinds
    ]
    return keras.Model(inputs, L.Dense(data.outputs, kernel_regularizer="l2")(L.Concatenate()(parts)))


@entry("flat", bound=(0.5, 1.0, 2.0), epochs=2)
def constraints(config, data):
    made = {"MaxNorm": (config["bound"],), "MinMaxNorm": (0.1, config["bound"], 0.7)}
    names = classes(keras.constraints, keras.constraints.Constraint)
    inputs = keras.Input(data.input_shape)
    kinds = [getattr(keras.constraints, name)(*made.get(name, ())) for name in names]
    parts = [L.Dense(4, "tanh", kernel_constraint=kind)(inputs) for kind in kinds]
    return keras.Model(inputs, L.Dense(data.outputs, bias_constraint="non_neg")(L.Concatenate()(parts)))


@entry("flat", epochs=2)
def every_activation(config, data):
    names = {
        name for name, kind in vars(keras.activations).items()
        if inspect.isfunction(kind) and name not in ("get", "serialize", "deserialize", "threshold", "glu", "exponential")
    }  # fmt: skip
    inputs = keras.Input(data.input_shape)
    parts = [L.Dense(2, name)(inputs) for name in sorted(names)]
    return keras.Model(inputs, L.Dense(data.outputs)(L.Concatenate()(parts)))


RANDOM = {
    "RandomBrightness": {"factor": 0.1, "value_range": (0, 1)},
    "RandomColorDegeneration": {"factor": 0.3, "value_range": (0, 1)},
    "RandomColorJitter": {"value_range": (0, 1), "brightness_factor": 0.1, "contrast_factor": 0.1},
    "RandomContrast": {"factor": 0.2, "value_range": (0, 1)},
    "RandomErasing": {"factor": 0.5, "value_range": (0, 1)},
    "RandomFlip": {},
    "RandomGaussianBlur": {"factor": 0.5, "kernel_size": 3, "value_range": (0, 1)},
    "RandomGrayscale": {"factor": 0.5},
    "RandomHue": {"factor": 0.2, "value_range": (0, 1)},
    "RandomInvert": {"factor": 0.5, "value_range": (0, 1)},
    "RandomPerspective": {"factor": 0.5},
    "RandomPosterization": {"factor": 4, "value_range": (0, 1)},
    "RandomRotation": {"factor": 0.1},
    "RandomSaturation": {"factor": 0.4, "value_range": (0, 1)},
    "RandomSharpness": {"factor": 0.4, "value_range": (0, 1)},
    "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.2},
}


# Two fail in Keras 3.15 itself: RandomCrop resizes while evaluating to a shape that it did not tell, and RandomElasticTransform
# asks its interpolation for an attribute, on JAX.
FAILING = ("RandomCrop", "RandomElasticTransform")
AUGMENTATIONS = [
    name for name in classes(keras.layers, keras.layers.Layer, without=FAILING) if name.startswith("Random")
]


@entry("colour", configs=each(AUGMENTATIONS), epochs=2)
def augmentations(config, data):
    layer = getattr(keras.layers, config["kind"])(**RANDOM.get(config["kind"], {"factor": 0.2}))
    return keras.Sequential([keras.Input(data.input_shape), layer, L.Flatten(), L.Dense(data.outputs)])
