"""How many batches `model.fit` computes between two calls of its callbacks: Keras's `steps_per_execution`.

A higher number changes no result and saves the work that Keras does between batches (figures: docs/benchmarks.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from search.data.row_streams import Stream

# More save little.
MOST_BATCHES = 32

# Keras's callbacks that act by the epoch. Callbacks of the user's may act by the batch, or call `evaluate` with a number of
# steps, which would be rounded up.
_BY_EPOCH = (
    keras.callbacks.CSVLogger,
    keras.callbacks.EarlyStopping,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.SwapEMAWeights,
)
# Methods that count batches; a model class may override them.
_COUNTING = ("fit", "evaluate", "make_train_function", "make_test_function", "_make_function")


def choose(model: keras.Model, callbacks: Sequence[Any], stream: Stream | None = None) -> None:
    """Set a compiled model's `steps_per_execution`, for training and validation.

    A number that the builder has compiled the model with stays, unless training would read past the end of an epoch.

    Args:
        callbacks: those of the study.
        stream: of the training rows; None if these are in memory.
    """
    own = count = model.steps_per_execution
    if own == 1:
        if _is_free(model, callbacks):
            # A stream is never asked for more than it has: it may warn, stop its threads, or begin the next epoch.
            count = _largest_divisor(stream.steps, MOST_BATCHES) if stream else MOST_BATCHES
    elif stream is not None and stream.kind == "function":
        count = math.gcd(own, stream.steps)
    if count != own:
        model.steps_per_execution = count
        # As `compile` does: functions that the builder has used contain the old number.
        model.train_function = model.test_function = model.predict_function = None


def _is_free(model: keras.Model, callbacks: Sequence[Any]) -> bool:
    """Whether nothing of a training acts by the batch, so that any number of batches gives the same curves."""
    if not model.built or model.run_eagerly:
        return False
    if any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _COUNTING):
        return False
    return all(map(_acts_by_epoch, callbacks))


def _acts_by_epoch(callback: Any) -> bool:
    if type(callback) is keras.callbacks.ModelCheckpoint:
        return bool(callback.save_freq == "epoch")
    return type(callback) in _BY_EPOCH


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)
