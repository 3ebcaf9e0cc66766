"""The fit engine: any Keras model, trained by `model.fit`, one member at a time. Runs in a worker process."""

from __future__ import annotations

import contextlib
import gc
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.engines import executions, failures, feeding, model_limits, model_memory, named_callbacks
from search.engines.checkpoints import Checkpoints
from search.engines.heads import first_rows
from search.engines.hypermodels import own_fit
from search.engines.logs import numbers
from search.engines.losses.outputs import outputs_with_a_loss
from search.engines.protocol import EngineRequest, MadeEngine
from search.engines.reads import ReadConfig
from search.engines.training import Trainer, can_evaluate, validation_batch, weights_of
from search.spec.keras_callbacks import Entry
from search.trials.events import Assignment, EpochEnd, Event, Failed, Member, OverLimit, Stopped, Verdict

# JAX keeps every compiled step: megabytes per trial. Clearing its caches also drops small programs that all trials share,
# which costs the next trial most of a second. So clear them only once in this many trials.
JAX_CACHE_TRIALS = 16


# Do not store faster compilations on disk: the program of a `fit` contains its hyperparameters, so no other trial reads it.
LONG_COMPILATION_S = 2.0


def make(request: EngineRequest) -> MadeEngine:
    """Make the engine; it accepts every model."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_persistent_cache_min_compile_time_secs", LONG_COMPILATION_S)
    # Objects that exist now live on: exclude them, so that later collections are short (figures: docs/benchmarks.md).
    gc.collect()
    gc.freeze()
    return MadeEngine(FitEngine(request.trainer, request.checkpoints))


class FitEngine:
    """Trains one member at a time, in a thread that waits for the verdict after each epoch.

    The wait takes as long as the coordinator needs; without it, every trial that ends would train one epoch too many.

    Args:
        setup: makes a context that the thread holds from building the model to the end of its first epoch, which traces it,
            and whenever it changes Keras's state: for engines in whose process other threads build and trace models.
        checks_limits: whether models are held against the study's limits here.

    Attributes:
        error: the exception that ended the member; None if none did, or after its verdict.
    """

    def __init__(
        self,
        trainer: Trainer,
        checkpoints: Checkpoints | None = None,
        *,
        setup: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
        checks_limits: bool = True,
    ) -> None:
        self._trainer, self._setup, self._checks_limits = trainer, setup, checks_limits
        self.error: BaseException | None = None
        self.checkpoints = checkpoints or Checkpoints(None)
        self._thread: threading.Thread | None = None
        self._events: queue.Queue[EpochEnd | Failed | OverLimit | Stopped] = queue.Queue()
        self._verdicts: queue.Queue[Verdict] = queue.Queue()
        self._reporter: _Reporter | None = None
        self._trained = 0
        self.seconds: dict[str, float] = {}

    def prefetch(self, assignment: Assignment) -> None:
        pass  # one member at a time: nothing is built in advance

    def start(self, assignment: Assignment) -> None:
        self._reporter = None
        self._thread = threading.Thread(target=self._train, args=(assignment,), daemon=True)
        self._thread.start()

    def advance(self) -> Sequence[Event]:
        if self._thread is None:
            return []
        return [self._events.get()]

    def save(self) -> None:
        """Write a checkpoint of the member if one is due, while its training waits for a verdict."""
        if self.is_waiting and self.checkpoints.is_due:
            self.checkpoints.save(self.states())

    @property
    def is_waiting(self) -> bool:
        """Whether the member waits for its verdict after an epoch, so that its model does not change."""
        return self._thread is not None and self._reporter is not None and self._reporter.is_waiting

    def states(self) -> Iterator[tuple[Assignment, int, dict[str, NDArray[Any]]]]:
        """Yield what a checkpoint holds of the member if it waits: assignment, complete epochs, state."""
        # A generator, so that `Checkpoints.save` also times the copying: it is part of the cost of a checkpoint.
        if self.is_waiting and (reporter := self._reporter) is not None:
            yield reporter.assignment, reporter.epoch, reporter.state()

    def keep(self, member: Member, path: Path) -> str:
        """Write the best weights of the member that waits for its verdict; return the error text, or ""."""
        reporter = self._reporter
        if reporter is None or reporter.member != member or not reporter.best:
            return "it has no whole epoch in this worker"
        return self.checkpoints.keep(path, reporter.best, {"trial": member.trial})

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
            with contextlib.ExitStack() as setup:
                setup.enter_context(self._setup())
                try:
                    has_stopped = self._fit(assignment, setup)
                finally:
                    # Before anything else: under a recursion limit that the builder has set, no error could be reported.
                    with self._setup():
                        self._trainer.pins.set()
        except BaseException as error:  # noqa: BLE001 (the user's model and callbacks may raise anything)
            if self._reporter is not None and self._reporter.has_ended:
                # The trial has ended, so a callback can't fail it any more. Print to the log only.
                print(failures.trace(error), file=sys.stderr)
                return
            self.error = error
            self._events.put(model_limits.ending(member, error, self._trainer))
        else:
            if not has_stopped:
                return
            self._events.put(Stopped(member))
        self._verdicts.get()

    def _fit(self, assignment: Assignment, setup: contextlib.ExitStack) -> bool:
        """Train one member; return whether its training stopped itself before the last epoch. Closes `setup` when traced."""
        config = ReadConfig(assignment.config)
        trainer = self._trainer.of_fold(assignment.member.replica)
        model = trainer.model(config, assignment.seed)
        if self._checks_limits:
            model_limits.check(trainer, model, assignment)
        if trainer.has_own_fit:
            return self._fit_by_hypermodel(trainer, assignment, model, config)
        entries = trainer.settings.train.callbacks
        reporter = _Reporter(assignment, trainer.objective, entries, self._events, self._verdicts)
        reporter.is_traced, reporter.keeps_last = setup.close, trainer.data.is_full
        may_resume = assignment.done and feeding.can_resume(trainer)
        checkpoint = self.checkpoints.load(assignment) if may_resume else None
        if checkpoint is not None and not reporter.resume(model, *checkpoint):
            print(f"trial {assignment.member.trial} begins anew: its model has other variables by now", file=sys.stderr)
        self._reporter = reporter
        reporter.own = self._callbacks(config, reporter)
        data = trainer.data
        try:
            rows, needed = feeding.feed(trainer, assignment, config, reporter.epoch)
            executions.choose(model, reporter.own, data.stream)
            model.fit(
                **rows,
                initial_epoch=reporter.epoch,
                epochs=assignment.epochs,
                # `Batches` has shuffled already; Keras would shuffle again in its own order.
                shuffle=False,
                verbose=0,
                validation_data=trainer.validation() if can_evaluate(model) else None,
                validation_batch_size=validation_batch(int(config["batch_size"])),
                # The study's callbacks come first, so that their changes (a learning rate, a metric) are reported.
                callbacks=[*needed, *_around(reporter)],
            )
        except Exception as error:
            if model_memory.is_short(error):
                model_memory.note_needed(error, model_memory.size_of(model))
            elif not reporter.epoch and model.compiled:
                # Keras's own words for a wrong number of outputs are hard to read.
                outputs_with_a_loss(model, first_rows(data.x_train, 4), first_rows(data.y_train, 4))
            raise
        return reporter.epoch < assignment.epochs and not reporter.has_ended

    def _callbacks(self, config: Mapping[str, Any], reporter: _Reporter) -> list[keras.callbacks.Callback]:
        name, sign = self._trainer.objective
        objective = (name, "maximize" if sign > 0 else "minimize")
        maker = named_callbacks.Maker(self.checkpoints.files, reporter.member, reporter.epoch, objective)
        return self._trainer.callbacks(config, maker.make)

    def _fit_by_hypermodel(
        self, trainer: Trainer, assignment: Assignment, model: keras.Model, config: ReadConfig
    ) -> bool:
        """Train one member by its HyperModel's own `fit`; return whether that ended before the last epoch."""
        hypermodel = trainer.hypermodel
        assert hypermodel is not None  # noqa: S101 (checked by the caller)
        assert hypermodel.own_fit is not None  # noqa: S101 (checked by the caller)
        self._reporter = reporter = _Reporter(
            assignment, trainer.objective, trainer.settings.train.callbacks, self._events, self._verdicts
        )
        reporter.keeps_last = trainer.data.is_full
        reporter.own = self._callbacks(config, reporter)
        train = trainer.settings.train
        x, y, *weights = trainer.arrays()
        rows = {
            "x": x,
            "y": y,
            **({"sample_weight": weights[0]} if weights else {}),
            # Keras's own default is the same; a hypermodel may give another one to `model.fit`.
            **({"batch_size": train.batch_size} if "batch_size" in train.model_fields_set else {}),
            "validation_data": trainer.validation(),
            "epochs": assignment.epochs,
            "verbose": 0,
        }
        callbacks = [_Evaluated(reporter), *reporter.own]
        own_fit.train(hypermodel.own_fit, hypermodel.hp_of(model), model, rows, reporter, trainer.objective, callbacks)
        return reporter.epoch < assignment.epochs and not reporter.has_ended

    def _forget(self) -> None:
        """Free what a training leaves behind; otherwise a worker grows by megabytes per trial."""
        self.error = None
        with self._setup():
            keras.utils.clear_session(free_memory=False)
        self._trained += 1
        if keras.backend.backend() == "jax" and self._trained % JAX_CACHE_TRIALS == 0:
            import jax

            jax.clear_caches()
        gc.collect()


def _around(reporter: _Reporter) -> list[Any]:
    """Return the callbacks of a training: those of the study, and what records its epochs."""
    return [_Evaluated(reporter), *reporter.own, reporter] if reporter.own else [reporter]


class _Evaluated(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the weights that an epoch was evaluated with, before a callback of the user's puts others in their place."""

    def __init__(self, reporter: _Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
        self._reporter.evaluated = _copied(_weights(self.model))


class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]
    """Puts every epoch into the engine's queue and waits for the verdict; keeps the weights of the best epoch.

    Attributes:
        epoch: the last complete epoch, counted from 1.
        best: the weights of the best epoch.
        evaluated: the weights of the last evaluation, if a callback may have changed them since; else empty.
        is_waiting: whether training waits for a verdict, so that the model does not change.
        is_traced: called at the end of each epoch: the first one has traced all that later ones compute.
        own: the study's callbacks; `entries` are those of train.callbacks.
        keeps_last: whether `best` are the weights of the last epoch, whatever its objective.
    """

    def __init__(
        self,
        assignment: Assignment,
        objective: tuple[str, float],
        entries: Sequence[Entry],
        events: queue.Queue[EpochEnd | Failed | OverLimit | Stopped],
        verdicts: queue.Queue[Verdict],
    ) -> None:
        super().__init__()
        self.assignment, self.member = assignment, assignment.member
        self._objective, self._sign = objective
        self.entries = entries
        self.keeps_last = False
        self._events, self._verdicts = events, verdicts
        self._began = 0.0
        self._score = -math.inf
        self.best: dict[str, NDArray[Any]] = {}
        self.evaluated: dict[str, NDArray[Any]] = {}
        self.own: list[keras.callbacks.Callback] = []
        self._restored: dict[str, NDArray[Any]] = {}
        self.epoch = 0
        self.has_ended = self.is_waiting = False
        self.is_traced: Callable[[], None] = lambda: None

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        # The last of the callbacks: the others have set themselves back.
        named_callbacks.restore(self.own, self._restored)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = numbers(logs or {})
        optimizer: Any = getattr(self.model, "optimizer", None)
        # A model with its own train_step may have no optimizer, one of several optimizers has no one rate, and a metric may
        # be named learning_rate.
        has_rate = optimizer is not None and not isinstance(optimizer, keras.optimizers.MultiOptimizer)
        if has_rate and "val_learning_rate" not in metrics:
            metrics |= numbers({"learning_rate": optimizer.learning_rate})
        self.epoch = epoch + 1
        score = self._sign * metrics.get(self._objective, math.nan)
        if score > self._score or self.keeps_last:
            self._score, self.best = score, self.evaluated or _copied(_weights(self.model))
        seconds = time.perf_counter() - self._began
        self.is_traced()
        self.is_waiting = True
        self._events.put(EpochEnd(self.member, self.epoch, metrics, seconds))
        verdict = self._verdicts.get()
        self.is_waiting = False
        if verdict.ends:
            self.has_ended = True
            # `fit` stops after this epoch; callbacks may still train or save in `on_train_end`.
            self.model.stop_training = True

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that is needed to resume training after a complete epoch."""
        return {
            **_copied(_variables(self.model)),
            **{f"best/{name}": array for name, array in self.best.items()},
            "score": np.array(self._score),
            **named_callbacks.state_of(self.entries, self.own),
        }

    def resume(self, model: keras.Model, epoch: int, state: dict[str, NDArray[Any]]) -> bool:
        """Load a state that was saved after `epoch` into a newly built model.

        Return False and change nothing if the state does not fit: a model that its first step builds has no variables yet.
        """
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        saved = {name: array.shape for name, array in state.items() if name.startswith("state/")}
        if saved != {name: tuple(variable.shape) for name, variable in variables}:
            return False
        for name, variable in variables:
            variable.assign(state[name])
        self.best = {name.removeprefix("best/"): array for name, array in state.items() if name.startswith("best/")}
        self._score, self.epoch, self._restored = float(state["score"]), epoch, state
        return True


def _weights(model: keras.Model) -> list[tuple[str, Any]]:
    return weights_of(model.trainable_variables, model.non_trainable_variables)


def _variables(model: keras.Model) -> list[tuple[str, Any]]:
    """Name all variables that training changes: weights, seeds and those of all optimizers (Keras itself lists one)."""
    attributes = [model.optimizer, *(thing for _, thing in sorted(vars(model).items()))]
    optimizers = {id(thing): thing for thing in attributes if isinstance(thing, keras.optimizers.Optimizer)}
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    variables += [variable for optimizer in optimizers.values() for variable in optimizer.variables]
    return [(f"state/{i}", variable) for i, variable in enumerate(variables)]


def _copied(variables: Iterable[tuple[str, Any]]) -> dict[str, NDArray[Any]]:
    # Copy: the array may share the variable's memory. `asarray` first: for a copy, NumPy calls `__array__` with an argument
    # that a variable's lacks, and warns; a user may have turned warnings into errors.
    return {name: np.asarray(variable).copy() for name, variable in variables}
