"""Batches whose order depends only on a member's seed and the epoch, for any backend of Keras.

Keras's own shuffles draw from process-wide generators and differ between backends. Training that resumes after a crash, or
that runs in a lane beside others, could not repeat them.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.data.stored_images import StoredImages

# A random stream apart from 0, from which weights and dropout draw.
_SHUFFLE = 1


def shuffled(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the rows in an epoch (counted from 1)."""
    return np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(rows)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of (x, y) or (x, y, sample weights): every row once per epoch; the last batch may be smaller.

    Each is an array, or a dictionary or tuple of arrays.

    Attributes:
        rows: number of rows.
        epoch: whose order the next pass has; `Clock` updates it during `fit`.
    """

    def __init__(self, arrays: tuple[Any, ...], batch_size: int, seed: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._arrays, self._batch_size, self._seed = arrays, batch_size, seed
        self.rows = len(keras.tree.flatten(arrays[0])[0])
        self.epoch = 1
        self._order: tuple[int, NDArray[np.int64]] = (0, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return math.ceil(self.rows / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self.order()[index * self._batch_size : (index + 1) * self._batch_size]
        return tuple(keras.tree.map_structure(lambda array: array[rows], part) for part in self._arrays)

    def order(self) -> NDArray[np.int64]:
        """Return the order of the rows in the current epoch."""
        if self._order[0] != self.epoch:
            self._order = (self.epoch, shuffled(self.rows, self._seed, self.epoch))
        return self._order[1]

    def for_backend(self) -> Any:
        """Return an input for `fit` on this backend: self, or on TensorFlow the same batches as a tf.data pipeline.

        On TensorFlow, a PyDataset costs a Python call per batch, the pipeline one per epoch.
        """
        is_stored = any(isinstance(array, StoredImages) for array in keras.tree.flatten(self._arrays))
        if keras.backend.backend() != "tensorflow" or is_stored:
            return self
        import tensorflow as tf

        tensors = keras.tree.map_structure(tf.constant, self._arrays)
        # The order comes from this object, so that TensorFlow's random state has no effect.
        orders = tf.data.Dataset.from_generator(
            lambda: iter([self.order()]), output_signature=tf.TensorSpec((self.rows,), tf.int64)
        )
        batches = orders.unbatch().batch(self._batch_size)
        return (
            batches.map(lambda rows: keras.tree.map_structure(lambda tensor: tf.gather(tensor, rows), tensors))
            .apply(tf.data.experimental.assert_cardinality(len(self)))
            .prefetch(2)
        )


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the epoch of batches before Keras draws from them."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._batches.epoch = epoch + 1
