"""What `fit` reads in an epoch: shuffled batches of rows in memory, or a stream of batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from search.data.row_streams import Stream
from search.engines.batches import Batches, Clock
from search.engines.training import Trainer
from search.trials.events import Assignment


def can_resume(trainer: Trainer) -> bool:
    """Whether an interrupted training goes on after its last epoch.

    It gets the batches that it would have got; or others, if these differ in every training anyway. Otherwise it begins anew
    and comes to the same epochs.
    """
    stream = trainer.data.stream
    return stream is None or stream.repeats or not stream.is_seeded


def feed(
    trainer: Trainer, assignment: Assignment, config: Mapping[str, Any], epoch: int
) -> tuple[dict[str, Any], list[Any]]:
    """Return the arguments of `fit` that feed a training after `epoch` complete epochs, and the callbacks that this needs."""
    stream = trainer.data.stream
    if stream is None:
        batches = Batches(trainer.arrays(), int(config["batch_size"]), assignment.seed)
        return {"x": batches.for_backend()}, [Clock(batches)]
    given = stream.for_training()
    if stream.kind == "function":
        return {"x": _endless(stream, given, epoch), "steps_per_epoch": stream.steps}, []
    if stream.classes:
        given = _Checked(given, stream) if stream.kind == "PyDataset" else _asserted(given, stream)
    return {"x": given}, []


def _endless(stream: Stream, given: Any, epoch: int) -> Iterator[Any]:
    for number in itertools.count(epoch):
        yield from stream.batches(given, number)


class _Checked(keras.utils.PyDataset):  # type: ignore[misc]
    """A user's PyDataset whose labels are checked."""

    def __init__(self, given: Any, stream: Stream) -> None:
        super().__init__(given.workers, given.use_multiprocessing, given.max_queue_size)
        self._given, self._stream = given, stream

    @property
    def num_batches(self) -> int:
        return self._stream.steps

    def __getitem__(self, index: int) -> Any:
        batch = self._given[index]
        self._stream.check_labels(batch)
        return batch

    def on_epoch_end(self) -> None:
        self._given.on_epoch_end()


def _asserted(dataset: Any, stream: Stream) -> Any:
    """Return a tf.data pipeline whose labels are checked."""
    import tensorflow as tf

    def check(low: Any, high: Any, count: Any) -> None:
        stream.check_range(int(low), int(high), int(count))

    def checked(*batch: Any) -> Any:
        checks = []
        for output, count in stream.classes.items():
            y = batch[1]
            labels = y if not output else y[output] if isinstance(y, dict) else y[int(output)]
            checks.append(tf.py_function(check, (tf.reduce_min(labels), tf.reduce_max(labels), count), ()))
        with tf.control_dependencies(checks):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.map(checked)
