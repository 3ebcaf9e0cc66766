"""Finds the space of a study's builder in a worker process."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import keras

from search import data
from search.engines import model_memory, pins
from search.engines.heads import first_rows
from search.engines.hypermodels import adapter, exploring, own_fit, stand_in
from search.engines.hypermodels.adapter import HyperModelBuilder
from search.engines.hypermodels.exploring import Explorer
from search.engines.hypermodels.hyperparameters import HyperParameters
from search.errors import UsageError
from search.spec.declared_space import DeclaredSpace
from search.spec.settings import DEFAULT_EPOCHS, Settings
from search.spec.usercode import Reference
from spaces import Space

# A hypermodel's own `fit` is tried with so many rows.
_ROWS = 64
# The models of so many runs are collected together, for each collection takes a tenth of a second.
_COLLECT = 16


def find(settings: Settings, base: Path) -> DeclaredSpace:
    """Run the builder of a study without [space] and return the space that it asks for.

    Raises UsageError if the builder has another form, asks for nothing or always fails.
    """
    reference = Reference.parse(settings.model.build, base)
    if reference is None:
        raise UsageError("there is nothing to search; give at least one parameter, or use a preset")
    before = pins.Pins.now()
    hypermodel = adapter.adapt(stand_in.load(reference), Space({}), settings.model.arguments)
    if hypermodel is None:
        raise UsageError(
            f"there is nothing to search: {settings.model.build} is called with (config, data), so the parameters go "
            "under [space]; a space is found only of a builder of one argument, hp"
        )
    rows = _rows(settings, base) if hypermodel.own_fit is not None else {}
    epochs = settings.study.epochs or DEFAULT_EPOCHS
    trial = _Trial(hypermodel, settings, before, {**rows, "epochs": epochs})
    explorer = Explorer(trial, settings.model.arguments)
    explorer.explore()
    trial.seed = 1
    if name := explorer.unknown_again():
        raise UsageError(
            f"model.build: run again, with the same values and another seed, the builder asks for {name!r}, which it did not "
            "before; names of hyperparameters, and which there are, must not be drawn by chance"
        )
    return exploring.declared_space(explorer, epochs=trial.epochs, remarks=trial.remarks)


class _Trial:
    """Builds one model, and runs the hypermodel's own `fit` without training, if there is one.

    Attributes:
        seed: of Python's, NumPy's and Keras's random numbers while the builder runs.
        epochs: the most epochs that `fit` asked `model.fit` for on its own; 0 if it passes those on that it receives.
    """

    def __init__(
        self, hypermodel: HyperModelBuilder, settings: Settings, before: pins.Pins, rows: dict[str, Any]
    ) -> None:
        self._hypermodel, self._settings, self._pins, self._rows = hypermodel, settings, before, rows
        self._runs = 0
        self._shared: set[str] = set()
        self.epochs = self.seed = 0

    def __call__(self, hp: HyperParameters) -> None:
        self._pins.set()
        keras.utils.clear_session(free_memory=False)
        self._runs += 1
        if self._runs % _COLLECT == 0:
            gc.collect()
        keras.utils.set_random_seed(self.seed)
        with model_memory.watched(model_memory.limit(self._settings.run.worker_memory)):
            model = self._hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise TypeError(f"the builder must return a keras.Model; received {type(model).__name__}")
        if self._hypermodel.own_fit is None:
            self._shared |= {one.name for one in hp.drawn} & {"batch_size", "epochs"}
        else:
            self._fit(hp, model)

    def _fit(self, hp: HyperParameters, model: keras.Model) -> None:
        assert self._hypermodel.own_fit is not None  # noqa: S101 (checked by the caller)
        asked: list[int] = []
        if not model.built:
            model(first_rows(self._rows["x"], 2))
        with own_fit.pretended(model, asked):
            try:
                own_fit.call(self._hypermodel.own_fit, hp, model, {**self._rows, "callbacks": [_Few()]}, lambda: False)
            except _Enough:
                return
            except Exception:
                # After a training that did not happen, its results may be missing.
                if not asked:
                    raise
        if asked and asked != [self._rows["epochs"]]:
            self.epochs = max(self.epochs, sum(asked))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What training does with hyperparameters that it reads, too."""
        return tuple(
            f"{name} of build is also the {name.replace('_', ' ')} of training here" for name in sorted(self._shared)
        )


class _Enough(BaseException):
    """A loop of the hypermodel's own has run long enough to show its hyperparameters."""


class _Few(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends a loop of the hypermodel's own after two epochs."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.epochs = getattr(self, "epochs", 0) + 1
        if self.epochs == 2:
            raise _Enough


def _rows(settings: Settings, base: Path) -> dict[str, Any]:
    loaded = data.load(settings.data, base, settings.data.seed)
    validation = (first_rows(loaded.x_validation, _ROWS), first_rows(loaded.y_validation, _ROWS))
    return {
        "x": first_rows(loaded.x_train, _ROWS),
        "y": first_rows(loaded.y_train, _ROWS),
        "validation_data": validation,
        "verbose": 0,
    }
