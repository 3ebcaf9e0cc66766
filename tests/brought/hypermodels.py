"""Hypermodels in the forms that KerasTuner's guides teach, for tables of 64 numbers (8 x 8 pixels) and 10 classes."""

import keras
import keras_tuner as kt
from keras import layers, ops


def compiled(model, optimizer="adam", **options):
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def getting_started(hp):
    model = keras.Sequential()
    model.add(layers.Flatten())
    model.add(layers.Dense(units=hp.Int("units", min_value=32, max_value=512, step=32), activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    return compiled(model)


def tuned_depth(hp):
    model = keras.Sequential([layers.Flatten()])
    for i in range(hp.Int("num_layers", 1, 3)):
        units = hp.Int(f"units_{i}", min_value=8, max_value=32, step=8)
        model.add(layers.Dense(units, activation=hp.Choice("activation", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(rate=0.25))
    model.add(layers.Dense(10, activation="softmax"))
    learning_rate = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    return compiled(model, keras.optimizers.Adam(learning_rate=learning_rate))


def call_existing_code(units, activation, dropout, lr):
    model = keras.Sequential([layers.Flatten(), layers.Dense(units, activation=activation)])
    if dropout:
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    return compiled(model, keras.optimizers.Adam(lr))


def separate_search_space(hp):
    units = hp.Int("units", min_value=32, max_value=512, step=32)
    activation = hp.Choice("activation", ["relu", "tanh"])
    dropout = hp.Boolean("dropout")
    lr = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    return call_existing_code(units=units, activation=activation, dropout=dropout, lr=lr)


def chosen_optimizer(hp):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(16, "relu"), layers.Dense(10, activation="softmax")])
    name = hp.Choice("optimizer", ["adam", "sgd", "rmsprop"], default="sgd")
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log", default=1e-2)
    if name == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=hp.Float("momentum", 0.0, 0.9, step=0.3))
    else:
        optimizer = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[name](rate)
    return compiled(model, optimizer)


def convolutional(hp):
    inputs = keras.Input((64,))
    x = layers.Reshape((8, 8, 1))(inputs)
    for i in range(hp.Int("conv_blocks", 1, 2, default=2)):
        filters = hp.Int(f"filters_{i}", 4, 16, step=2, sampling="log")
        x = layers.Conv2D(filters, hp.Choice("kernel", [3, 5]), padding="same", activation="relu")(x)
        pooling = {"avg": layers.AveragePooling2D, "max": layers.MaxPooling2D}[
            hp.Choice(f"pooling_{i}", ["avg", "max"])
        ]
        x = pooling()(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(10, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs))


def model_selection(hp):
    inputs = keras.Input((64,))
    kind = hp.Choice("model_type", ["mlp", "cnn"])
    x = inputs
    with hp.conditional_scope("model_type", ["mlp"]):
        if kind == "mlp":
            x = layers.Dense(hp.Int("mlp_units", 16, 64, step=16), activation="relu")(x)
    with hp.conditional_scope("model_type", ["cnn"]):
        if kind == "cnn":
            x = layers.Reshape((8, 8, 1))(x)
            x = layers.Conv2D(hp.Int("filters", 4, 12, step=4), 3, activation="relu")(x)
            x = layers.Flatten()(x)
    outputs = layers.Dense(10, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs), hp.Choice("optimizer", ["adam", "sgd"]))


def augmented(hp):
    inputs = keras.Input((64,))
    x = layers.Reshape((8, 8, 1))(inputs)
    if hp.Boolean("augment", default=True):
        x = layers.RandomTranslation(0.0, hp.Float("shift", 0.05, 0.25))(x)
        if hp.Boolean("noise"):
            x = layers.GaussianNoise(hp.Float("noise_level", 0.01, 0.5, sampling="log"))(x)
    x = layers.Flatten()(x)
    outputs = layers.Dense(10, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs))


def residual(hp):
    inputs = keras.Input((64,))
    width = hp.Choice("width", [16, 32])
    x = layers.Dense(width)(inputs)
    for i in range(hp.Int("blocks", 1, 3)):
        before = x
        with hp.name_scope(f"block_{i}"):
            x = layers.Dense(width, activation=hp.Choice("activation", ["relu", "swish"]))(x)
            if hp.Boolean("normalize"):
                x = layers.BatchNormalization(momentum=hp.Float("momentum", 0.5, 0.99))(x)
        if hp.Choice("version", ["plain", "residual"]) == "residual":
            x = layers.Add()([x, before])
    outputs = layers.Dense(10, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs))


def failing(hp):
    """Handles too large models as the guide on failed trials does."""
    units = hp.Int("units", 16, 256, step=48)
    layers_in_all = hp.Int("layers", 1, 4)
    model = keras.Sequential([keras.Input((64,))])
    for _ in range(layers_in_all):
        model.add(layers.Dense(units, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    compiled(model)
    if model.count_params() > 50_000:
        raise kt.errors.FailedTrialError(f"Too many parameters: {model.count_params()}")
    return model


class ClassMlp(kt.HyperModel):
    def __init__(self, num_classes=10):
        super().__init__()
        self.num_classes = num_classes

    def build(self, hp):
        model = keras.Sequential([keras.Input((64,))])
        model.add(
            layers.Dense(hp.Int("units", 8, 64, sampling="log"), hp.Choice("act", ["relu", "elu"], default="elu"))
        )
        model.add(layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.25)))
        model.add(layers.Dense(self.num_classes, activation="softmax"))
        rate = hp.Float("lr", 1e-4, 1e-1, step=10, sampling="log", default=1e-2)
        return compiled(model, keras.optimizers.Adam(rate))


instance = ClassMlp(num_classes=10)


class TunedTraining(kt.HyperModel):
    """Hyperparameters of training and of preprocessing, in `fit`."""

    def build(self, hp):
        units = hp.Int("units", min_value=8, max_value=64, step=8)
        outputs = layers.Dense(10, activation="softmax")
        model = keras.Sequential([layers.Flatten(), layers.Dense(units, activation="relu"), outputs])
        return compiled(model)

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if hp.Boolean("normalize"):
            layer = layers.Normalization()
            layer.adapt(x)
            x, validation_data = layer(x), (layer(validation_data[0]), validation_data[1])
        return model.fit(
            x, y, validation_data=validation_data,
            # Tune whether to shuffle the data in each epoch.
            shuffle=hp.Boolean("shuffle"), batch_size=hp.Choice("batch_size", [16, 64]), **kwargs,
        )  # fmt: skip


class PassedOn(kt.HyperModel):
    def build(self, hp):
        inner = layers.Dense(hp.Int("units", 8, 16, step=8), "relu")
        return compiled(keras.Sequential([keras.Input((64,)), inner, layers.Dense(10, "softmax")]))

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, epochs=hp.Int("epochs", 2, 3), shuffle=False, **kwargs)


class CustomLoop(kt.HyperModel):
    """Trains in a loop of its own, and reports its metric to the callbacks."""

    def build(self, hp):
        inputs = keras.Input((64,))
        x = layers.Dense(units=hp.Choice("units", [8, 16, 32]), activation="relu")(inputs)
        return keras.Model(inputs, layers.Dense(10)(x))

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        batch_size = hp.Int("batch_size", 32, 128, step=32, default=64)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)), loss)
        for callback in callbacks:
            callback.set_model(model)
        best = float("inf")
        for epoch in range(2):
            for start in range(0, len(x), batch_size):
                model.train_on_batch(x[start : start + batch_size], y[start : start + batch_size])
            value = float(ops.mean(loss(validation_data[1], model(validation_data[0]))))
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": value})
            best = min(best, value)
        return best


class OneNumber(CustomLoop):
    """Returns one number, and reports no epochs."""

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        return super().fit(hp, model, x, y, validation_data, callbacks=[])


def uncompiled(hp):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(hp.Int("units", 8, 16)), layers.BatchNormalization()])
    model.layers[-1].momentum = hp.Float("momentum", 0.6, 0.9)
    model.add(layers.Dense(10))
    return model


def doubled(hp):
    """Asks for a name twice: the first declaration counts."""
    first = hp.Int("units", 8, 16, step=4)
    second = hp.Int("units", 100, 200)
    return compiled(
        keras.Sequential([keras.Input((64,)), layers.Dense(first), layers.Dense(second), layers.Dense(10, "softmax")])
    )


def twice_in_scopes(hp):
    """Uses one name in two conditional scopes, with other bounds in each."""
    kind = hp.Choice("kind", ["narrow", "wide"])
    with hp.conditional_scope("kind", ["narrow"]):
        narrow = hp.Int("units", 4, 8)
    with hp.conditional_scope("kind", ["wide"]):
        wide = hp.Int("units", 100, 120, step=10)
    units = narrow if kind == "narrow" else wide
    return compiled(keras.Sequential([keras.Input((64,)), layers.Dense(units), layers.Dense(10, "softmax")]))
