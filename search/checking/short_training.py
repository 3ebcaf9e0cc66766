"""Trainings of a few steps, in a worker process: one model, compiled once, that begins each of them with the same weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional
from numpy.typing import NDArray

from search.checking.report import NotApplicable
from search.engines.heads import first_rows
from search.engines.training import Trainer, can_evaluate, has_call

# Rows of a batch, and the usual steps of a training.
BATCH, STEPS = 32, 60
# With longer steps, a check would take minutes.
LONGEST_STEP_S = 0.25
# The first steps compile, and any may wait for other programs: the shortest of some is taken.
_UNTIMED, _TIMED = 2, 8


class ShortTraining:
    """The model of one config, to be trained for some steps and reset. All batches have one size, so that it compiles once.

    Its optimizer changes weights by their gradients only: a weight without gradient must not change by its decay. `rate` is
    the learning rate; None for the one that it has been compiled with.
    """

    def __init__(self, trainer: Trainer, model: keras.Model, rate: float | None = None) -> None:
        self.trainer, self.model, self.rate = trainer, model, rate
        with suppress(AttributeError):  # an optimizer of the user's own
            model.optimizer.weight_decay = None
        if has_call(model) and not isinstance(model, Functional | keras.Sequential):
            # The layers of a model class may be built by its first call only.
            model(first_rows(trainer.data.x_train, 2), training=False)
        if model.trainable_variables:
            model.optimizer.build(model.trainable_variables)
        self._step_s = 0.0  # not known yet
        self._count = len(model.variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._initial = [_numbers(variable) for variable in self._variables]

    def reset(self) -> ShortTraining:
        """Give the model its first weights again, and the optimizer its first state; return itself.

        NotApplicable for a model that its first step builds: nothing can give it its first weights again.
        """
        if self._count != len(self.model.variables):
            raise NotApplicable("the model's first step builds it")
        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)
        if self.rate is not None:
            self.set_rate(self.rate)
        return self

    def set_rate(self, rate: float) -> None:
        """Set the learning rate until the next reset; NotApplicable for a schedule of the builder's own."""
        try:
            self.model.optimizer.learning_rate = rate
        except (TypeError, AttributeError):
            raise NotApplicable("the builder's optimizer has a schedule of its own") from None

    def rows(self, count: int) -> tuple[Any, Any]:
        """Return up to `count` training rows, drawn by a fixed seed, in whole batches where there are enough."""
        data = self.trainer.data
        total = len(keras.tree.flatten(data.y_train)[0])
        count = min(count, total)
        count -= count % BATCH if count >= BATCH else 0
        numbers = np.sort(np.random.default_rng(0).permutation(total)[:count])
        return _taken(data.x_train, numbers), _taken(data.y_train, numbers)

    def train(self, x: Any, y: Any, steps: int) -> None:
        """Train for about `steps` steps, at least one epoch; NotApplicable if steps take too long."""
        self._check_time()
        batches = -(-_count(y) // BATCH)
        self.model.fit(x, y, batch_size=BATCH, epochs=-(-steps // batches), shuffle=True, verbose=0)

    def losses_at(self, rates: NDArray[Any]) -> Iterator[float]:
        """Train one step at each rate, in this order; yield the loss of its batch before the step."""
        x, y = self.rows(16 * BATCH)
        rng = np.random.default_rng(0)
        seconds: list[float] = []
        for rate in rates.tolist():
            began = time.perf_counter()
            self.set_rate(rate)
            chosen = np.sort(rng.permutation(_count(y))[:BATCH])
            batch = (_taken(x, chosen), _taken(y, chosen))
            self.model.reset_metrics()
            logs = self.model.train_on_batch(*batch, return_dict=True)
            if "loss" not in logs:
                raise NotApplicable("the model's own train_step gives no loss")
            loss = float(np.asarray(logs["loss"]))
            seconds.append(time.perf_counter() - began)
            if len(seconds) == _UNTIMED + _TIMED:
                self._step_s = min(seconds[_UNTIMED:])
                self._check_time()
            yield loss

    def _check_time(self) -> None:
        if self._step_s > LONGEST_STEP_S:
            raise NotApplicable(f"a step of {BATCH} rows takes {self._step_s:.1f} s, too long for a check")

    def loss(self, x: Any, y: Any) -> float:
        """Return the loss of rows in inference mode; NotApplicable for a model that can't be evaluated."""
        if not can_evaluate(self.model):
            raise NotApplicable("the model can't be evaluated: it has neither call nor test_step")
        results = self.model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
        if "loss" not in results:
            raise NotApplicable("the model's own test_step gives no loss")
        return float(np.asarray(results["loss"]))

    def predict(self, x: Any) -> Any:
        """Return the outputs of some rows; NotApplicable for a model that computes none."""
        if not has_call(self.model):
            raise NotApplicable("the model has no call method")
        # A whole batch: some models take no other, and it compiles nothing new.
        count = _count(x)
        whole = np.arange(-(-count // BATCH) * BATCH) % count
        outputs = self.model.predict(_taken(x, whole), batch_size=BATCH, verbose=0)
        return keras.tree.map_structure(lambda output: output[:count], outputs)

    def weights(self) -> list[NDArray[Any]]:
        """Return the trainable weights as they are now."""
        return [_numbers(variable) for variable in self.model.trainable_variables]


def _numbers(variable: keras.Variable) -> NDArray[Any]:
    # On TensorFlow this may be a view of memory that training writes to.
    return np.array(keras.ops.convert_to_numpy(variable))


def _taken(tree: Any, numbers: NDArray[Any]) -> Any:
    return keras.tree.map_structure(lambda array: array[numbers], tree)


def _count(tree: Any) -> int:
    return len(keras.tree.flatten(tree)[0])
