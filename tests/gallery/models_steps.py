"""Models with steps of their own: `train_step` is written for one backend, here for JAX and TensorFlow."""

from __future__ import annotations

import keras
from entries import entry
from keras import layers as L  # noqa: N812 (short, as it stands in many programs)
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    class Stepping(keras.Model):
        """Trains with a loss of its own and reports the norm of what it got wrong."""

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(x, y, predicted) + 0.01 * tf.reduce_mean(predicted**2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, predicted)
            return {metric.name: metric.result() for metric in self.metrics}

else:
    import jax

    class Stepping(keras.Model):
        """Trains with a loss of its own and reports the norm of what it got wrong."""

        def loss_and_outputs(self, trainable, other, x, y):
            predicted, other = self.stateless_call(trainable, other, x, training=True)
            loss = self.compute_loss(x, y, predicted) + 0.01 * ops.mean(predicted**2)
            return loss, (predicted, other)

        def train_step(self, state, data):
            trainable, other, optimizer, metrics = state
            x, y = data[:2]
            function = jax.value_and_grad(self.loss_and_outputs, has_aux=True)
            (loss, (predicted, other)), gradients = function(trainable, other, x, y)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
            new, logs = [], {}
            for metric in self.metrics:
                held = metrics[len(new) : len(new) + len(metric.variables)]
                arguments = (loss,) if metric.name == "loss" else (y, predicted)
                held = metric.stateless_update_state(held, *arguments)
                logs[metric.name] = metric.stateless_result(held)
                new += held
            return logs, (trainable, other, optimizer, new)


@entry("table", dropout=(0.1, 0.3, 0.3), no_lanes="Stepping|stepping")
def own_train_step(config, data):
    inputs = keras.Input(data.input_shape)
    x = L.Dropout(config["dropout"])(L.Dense(8, "relu")(inputs))
    model = Stepping(inputs, L.Dense(1)(x))
    model.compile(keras.optimizers.Adam(config["learning_rate"]), "mse", metrics=["mae"])
    return model
