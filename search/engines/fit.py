"""The fit engine: any Keras model, trained by `model.fit`, one member at a time. Runs in a worker process."""

from __future__ import annotations

import contextlib
import gc
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from search.engines import failures
from search.engines.batches import Batches, Clock
from search.engines.protocol import Assignment, EpochEnd, Event, Failed, Stopped, Verdict
from search.engines.training import ReadConfig, Trainer, validation_batch

# JAX keeps every compiled step, megabytes a trial. Forgetting them also forgets the small ones that all trials share, which
# costs the next trial most of a second: hence not after every one.
JAX_CACHE_TRIALS = 16


class FitEngine:
    """Trains one member at a time in a thread of its own, which waits at the end of each epoch for its verdict.

    Waiting costs the coordinator's answer; not waiting would cost an epoch for every trial that ends.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._thread: threading.Thread | None = None
        self._events: queue.Queue[EpochEnd | Failed | Stopped] = queue.Queue()
        self._verdicts: queue.Queue[Verdict] = queue.Queue()
        self._reporter: _Reporter | None = None
        self._trained = 0
        self.seconds: dict[str, float] = {}
        # What is here now stays. Left out of every later collection, each is short: docs/benchmarks.md has the figures.
        gc.collect()
        gc.freeze()

    def foresee(self, assignment: Assignment) -> None:
        """Do nothing ahead: this engine says that it takes one member at a time."""

    def start(self, assignment: Assignment) -> None:
        self._reporter = None
        self._thread = threading.Thread(target=self._train, args=(assignment,), daemon=True)
        self._thread.start()

    def advance(self) -> Sequence[Event]:
        if self._thread is None:
            return []
        return [self._events.get()]

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._verdicts.put(verdict)
            if verdict.ends and self._thread is not None:
                self._thread.join()
                self._thread = None
                self._forget()

    def close(self) -> None:
        if self._thread is not None:
            with contextlib.suppress(queue.Empty):
                self.apply([Verdict(self._events.get(timeout=60).member, ends=True)])

    def _train(self, assignment: Assignment) -> None:
        member = assignment.member
        try:
            stopped_itself = self._fit(assignment)
        except BaseException as error:  # noqa: BLE001 (the user's model and callbacks: anything may come out of them)
            if self._reporter is not None and self._reporter.ended:
                # Its trial has ended; what a callback does after that can't fail it any more. The log tells.
                print(failures.trace(error), file=sys.stderr)
                return
            self._events.put(Failed(member, failures.one_line(error), failures.trace(error)))
        else:
            if not stopped_itself:
                return
            self._events.put(Stopped(member))
        self._verdicts.get()

    def _fit(self, assignment: Assignment) -> bool:
        """Train one member; return whether it stopped by itself before its last epoch."""
        config = ReadConfig(assignment.config)
        model = self._trainer.model(config, assignment.seed)
        batches = Batches(self._trainer.arrays(), int(config["batch_size"]), assignment.seed)
        self._reporter = reporter = _Reporter(assignment, self._events, self._verdicts)
        data = self._trainer.data
        model.fit(
            batches.for_backend(),
            epochs=assignment.epochs,
            # The batches are in their order already; Keras would draw them in one of its own.
            shuffle=False,
            verbose=0,
            validation_data=(data.x_validation, data.y_validation),
            validation_batch_size=validation_batch(int(config["batch_size"])),
            # The user's come first: what they change (a learning rate, a metric) is then in what is reported.
            callbacks=[Clock(batches), *self._trainer.callbacks(config), reporter],
        )
        return reporter.epoch < assignment.epochs and not reporter.ended

    def _forget(self) -> None:
        """Give back what a training leaves behind: without it a worker grows by megabytes a trial."""
        keras.utils.clear_session(free_memory=False)
        self._trained += 1
        if keras.backend.backend() == "jax" and self._trained % JAX_CACHE_TRIALS == 0:
            import jax

            jax.clear_caches()
        gc.collect()


class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]
    """Hands every epoch to the engine and waits for the verdict on it."""

    def __init__(
        self, assignment: Assignment, events: queue.Queue[EpochEnd | Failed | Stopped], verdicts: queue.Queue[Verdict]
    ) -> None:
        super().__init__()
        self._assignment, self._events, self._verdicts = assignment, events, verdicts
        self._began = 0.0
        self.epoch = 0
        self.ended = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch + 1
        metrics = {name: _plain(value) for name, value in (logs or {}).items()}
        metrics["learning_rate"] = _plain(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = time.perf_counter() - self._began
        self._events.put(EpochEnd(self._assignment.member, self.epoch, metrics, seconds))
        if self._verdicts.get().ends:
            self.ended = True
            # Keras would go on to the end of `fit` with callbacks that may train or save; this leaves at once.
            self.model.stop_training = True


def _plain(value: Any) -> float:
    """Return a float32 as the shortest decimal that is it: 0.9722222 and not 0.9722222089767456."""
    return float(str(np.float32(value)))
