"""Trainings of a few steps, in a worker process: one model, compiled once, that begins each of them with the same weights."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.checking.report import NotApplicable
from search.engines.training import Trainer, can_evaluate

BATCH = 32


class ShortTraining:
    """The model of one config, to be trained for some steps and reset. All batches have one size, so that it compiles once.

    Its optimizer changes weights by their gradients only: a weight without gradient must not change by its decay.
    """

    def __init__(self, trainer: Trainer, model: keras.Model) -> None:
        self.trainer, self.model = trainer, model
        with suppress(AttributeError):  # an optimizer of the user's own
            model.optimizer.weight_decay = None
        if model.built:
            model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._initial = [np.array(variable) for variable in self._variables]

    def reset(self) -> None:
        """Give the model its first weights again, and the optimizer its first state."""
        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)

    def rows(self, count: int) -> tuple[Any, Any]:
        """Return up to `count` training rows, drawn by a fixed seed, in whole batches where there are enough."""
        data = self.trainer.data
        total = len(keras.tree.flatten(data.y_train)[0])
        count = min(count, total)
        count -= count % BATCH if count >= BATCH else 0
        numbers = np.sort(np.random.default_rng(0).permutation(total)[:count])
        x, y = (keras.tree.map_structure(lambda array: array[numbers], tree) for tree in (data.x_train, data.y_train))
        return x, y

    def train(self, x: Any, y: Any, steps: int) -> None:
        """Train for about `steps` steps, at least one epoch of the rows."""
        batches = -(-_count(y) // BATCH)
        self.model.fit(x, y, batch_size=BATCH, epochs=-(-steps // batches), shuffle=True, verbose=0)

    def loss(self, x: Any, y: Any) -> float:
        """Return the loss of rows in inference mode; NotApplicable for a model that can't be evaluated."""
        if not can_evaluate(self.model):
            raise NotApplicable("the model can't be evaluated: it has neither call nor test_step")
        results = self.model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
        if "loss" not in results:
            raise NotApplicable("the model's own test_step gives no loss")
        return float(np.asarray(results["loss"]))

    def weights(self) -> list[NDArray[Any]]:
        """Return the trainable weights as they are now."""
        return [np.array(variable) for variable in self.model.trainable_variables]


def _count(tree: Any) -> int:
    return len(keras.tree.flatten(tree)[0])
