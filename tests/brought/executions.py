"""Models whose training may be asked for more batches at once, each in a way of its own."""

import keras
import numpy as np


class OwnStep(keras.Model):
    """Adds 1 to the loss that it reports, and nothing to the one that it trains by."""

    def train_step(self, *given):
        logs = super().train_step(*given)
        if keras.backend.backend() == "jax":
            logs, state = logs
            return {**logs, "loss": logs["loss"] + 1.0, "last": keras.ops.sum(given[1][0])}, state
        return {**logs, "loss": logs["loss"] + 1.0, "last": keras.ops.sum(given[0][0])}


class ByBatch(keras.callbacks.Callback):
    """Learns at the same rate all along, by setting back the schedule after each batch."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.iterations.assign(0)


class OwnFit(keras.Model):
    def fit(self, *args, callbacks=(), **how):
        return super().fit(*args, callbacks=[*callbacks, ByBatch()], **how)


def _made(config, data, kind=keras.Model):
    inputs = keras.Input(data.input_shape)
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    hidden = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(hidden))
    return kind(inputs, keras.layers.Dense(data.outputs)(hidden))


def _compiled(model, data, **how):
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, 40)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        **how,
    )
    return model


def layers(config, data):
    return _made(config, data)


def own_step(config, data):
    return _compiled(_made(config, data, OwnStep), data)


def own_fit(config, data):
    return _compiled(_made(config, data, OwnFit), data)


def eager(config, data):
    return _compiled(_made(config, data), data, run_eagerly=True)


def own_number(config, data):
    return _compiled(_made(config, data), data, steps_per_execution=3)


def used_before(config, data):
    """Its functions have been made for one batch at a time."""
    model = _compiled(_made(config, data), data)
    rows = np.zeros((40, *data.input_shape), "float32"), np.zeros(40, "int32")
    model.fit(*rows, batch_size=8, verbose=0, validation_data=rows)
    return model


def functions():
    """Seven batches an epoch, of a function that would give more."""
    x = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int32")

    def batches(epoch):
        for start in range(0, len(x), 8):
            yield x[start : start + 8] + epoch / 10, y[start : start + 8]

    return {"train": batches, "steps": 7, "validation": lambda: batches(0), "validation_steps": 4}
