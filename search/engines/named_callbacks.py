"""Makes the callbacks of Keras that a study names, and saves and restores their state. Runs in a worker process."""

from __future__ import annotations

import csv
import importlib.util
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search import durable
from search.errors import UsageError
from search.spec import keras_callbacks
from search.spec.keras_callbacks import FILES, STATE, Entry, name_of
from search.spec.vocabulary import closest
from search.trials.events import Member
from search.trials.files import StudyFiles

_PREFIX = "callbacks/"


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the named callbacks of one training.

    Attributes:
        files: of the study; None if nothing may be written.
        epoch: the last complete epoch of the checkpoint that the training resumes from; 0 for a beginning.
        objective: name and direction ("maximize" or "minimize") of the study's objective.
    """

    files: StudyFiles | None
    member: Member
    epoch: int
    objective: tuple[str, str]

    def make(self, entry: Entry) -> keras.callbacks.Callback:
        """Make one callback; the files of a training that begins anew are emptied."""
        name = name_of(entry)
        options = keras_callbacks.with_mode(entry, *self.objective)
        if name == "CSVLogger":
            path = self._path(name)
            self._keep_rows(path, options.get("separator", ","))
            return keras.callbacks.CSVLogger(path, append=self.epoch > 0, **options)
        if name == "ModelCheckpoint":
            path = self._path(name, weights_only=options.get("save_weights_only", False))
            if not self.epoch:
                path.unlink(missing_ok=True)
            # Keras formats the path.
            return keras.callbacks.ModelCheckpoint(str(path).replace("{", "{{").replace("}", "}}"), **options)
        if name == "TensorBoard":
            path = self._path(name)
            shutil.rmtree(path, ignore_errors=True)
            _keep_tensorflow_off_the_gpu()
            return keras.callbacks.TensorBoard(path, **options)
        return getattr(keras.callbacks, name)(**options)

    def _path(self, name: str, *, weights_only: bool = False) -> Path:
        if self.files is None:
            raise UsageError(f"train.callbacks: {name} needs a folder for its files")
        path = self.files.of_callback(name, self.member, ".weights.h5" if weights_only else FILES[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _keep_rows(self, path: Path, separator: str) -> None:
        """Drop the rows of epochs after the checkpoint: they are trained and written again."""
        if not self.epoch or not path.exists():
            return
        header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter=separator)) or [[]]
        kept = [row for row in rows if row and row[0].isdecimal() and int(row[0]) < self.epoch]
        text = io.StringIO()
        csv.writer(text, delimiter=separator).writerows([header, *kept] if header else [])
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
        durable.replace(partial, path)


def state_of(entries: Sequence[Entry], callbacks: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Return the numbers that callbacks have changed in training; those that are None are left out."""
    values = {
        f"{_PREFIX}{index}/{attribute}": getattr(callback, attribute)
        for index, (entry, callback) in enumerate(zip(entries, callbacks, strict=True))
        for attribute in STATE.get(name_of(entry), ())
    }
    return {key: np.asarray(value) for key, value in values.items() if value is not None}


def restore(callbacks: Sequence[Any], state: Mapping[str, NDArray[Any]]) -> None:
    """Give callbacks the numbers of `state_of`, after their `on_train_begin` has reset them."""
    for key, value in state.items():
        if key.startswith(_PREFIX):
            index, attribute = key.removeprefix(_PREFIX).split("/")
            setattr(callbacks[int(index)], attribute, value.item())


def check(entries: Iterable[Entry], model: keras.Model) -> None:
    """Raise UsageError if named callbacks can't work with a compiled model."""
    optimizer: Any = getattr(model, "optimizer", None)
    for index, entry in enumerate(entries):
        name = name_of(entry)
        missing = [package for package in ("tensorboard", "tensorflow") if importlib.util.find_spec(package) is None]
        if name == "TensorBoard" and missing:
            raise UsageError(
                f"train.callbacks.{index}: TensorBoard writes its files by {missing[0]}, which is not installed; run "
                "`pip install -e '.[tensorboard]'` in manyfit's folder, or name CSVLogger"
            )
        if name == "ReduceLROnPlateau" and _has_schedule(optimizer):
            raise UsageError(
                f"train.callbacks.{index}: ReduceLROnPlateau can't change the learning rate of {type(optimizer).__name__}, "
                "which follows a schedule; drop one of them"
            )
        if name == "SwapEMAWeights" and not _has_averages(optimizer):
            raise UsageError(
                f"train.callbacks.{index}: SwapEMAWeights needs an optimizer with averages; set use_ema = true under "
                "[train], or in the optimizer that the builder compiles with"
            )


def check_monitors(entries: Iterable[Entry], reported: Iterable[str]) -> None:
    """Raise UsageError if a named callback monitors a metric that training does not report."""
    names = list(reported)
    for index, monitor in keras_callbacks.monitored(entries):
        if monitor not in names and monitor != "learning_rate":
            raise UsageError(
                f"train.callbacks.{index}.monitor: training reports no {monitor!r}{closest(monitor, names)}; "
                f"it reports {', '.join(names)}; mend it, or name the metric in train.metrics"
            )


def _optimizers(optimizer: Any) -> list[Any]:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(inner, "optimizers", [inner]))


def _has_schedule(optimizer: Any) -> bool:
    schedule = keras.optimizers.schedules.LearningRateSchedule
    return any(isinstance(getattr(one, "_learning_rate", None), schedule) for one in _optimizers(optimizer))


def _has_averages(optimizer: Any) -> bool:
    return any(getattr(one, "use_ema", False) for one in _optimizers(optimizer))


def _keep_tensorflow_off_the_gpu() -> None:
    """Where JAX trains, TensorFlow only writes files: it must not reserve the memory of the GPU."""
    if keras.backend.backend() != "tensorflow":
        import tensorflow as tf

        with suppress(RuntimeError):  # the study's own code has begun to use it
            tf.config.set_visible_devices([], "GPU")
