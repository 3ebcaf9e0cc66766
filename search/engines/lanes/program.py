"""A compiled program: one epoch of training and one evaluation of every lane, and what a lane's state holds.

The arithmetic is Keras's own: `train_step` and `test_step` of the JAX trainer are pure functions, here under `vmap` and
`scan`. So a lane computes what `model.fit` computes, in the same order of batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src import backend

from search.engines.batches import shuffled
from search.engines.lanes import lifting

# A lane's state, all of it arrays: trainable, other (statistics, seeds), optimizer, numbers (the lifted ones).
State = dict[str, Any]


class Program:
    """Trains up to `lanes` members of one program key at once.

    Args:
        template: a prepared, compiled model; the program is traced from it.
        arrays: training rows (x, y[, weights]) on the device.
        validation: (x, y) on the device.
    """

    def __init__(
        self,
        template: keras.Model,
        *,
        lanes: int,
        batch_size: int,
        arrays: tuple[Any, ...],
        validation: tuple[Any, Any],
        validation_batch: int,
    ) -> None:
        self.lanes, self.batch_size = lanes, batch_size
        self.traces = 0
        self._template = template
        self._arrays, self._validation, self._validation_batch = arrays, validation, validation_batch
        self._rows = len(arrays[0])
        self._slots = lifting.slots(template)
        template._symbolic_build(data_batch=tuple(array[:2] for array in arrays))
        self._metrics = [jnp.asarray(variable.value) for variable in template.metrics_variables]
        self._state: State | None = None
        self._epoch = jax.jit(jax.vmap(self._epoch_of_one, in_axes=(0, 0, 0, None, None)), donate_argnums=0)
        self._refill = jax.jit(
            lambda states, lane, new: jax.tree.map(lambda all_, one: all_.at[lane].set(one), states, new),
            donate_argnums=0,
        )

    def trace(self, state: State) -> None:
        """Trace the program for a state, without compiling it; raises what tracing raises."""
        order = jax.ShapeDtypeStruct((self._rows,), np.int32)
        is_active = jax.ShapeDtypeStruct((), bool)
        jax.eval_shape(self._epoch_of_one, state, is_active, order, self._arrays, self._validation)

    def fill(self, lane: int, model: keras.Model) -> None:
        """Put a prepared model into a lane, in the place of whatever was there."""
        new = state_of(model)
        if self._state is None:
            # Every lane starts as a copy of the first member; idle ones compute along and nobody looks.
            self._state = jax.tree.map(lambda one: jnp.repeat(one[None], self.lanes, axis=0), new)
        else:
            self._state = self._refill(self._state, lane, new)

    def advance(self, seeds: Mapping[int, tuple[int, int]]) -> dict[int, dict[str, float]]:
        """Train the lanes in `seeds`, lane -> (seed, epoch from 1), by that epoch; return their metrics.

        The other lanes compute along and stay what they were.
        """
        orders = np.zeros((self.lanes, self._rows), np.int32)
        is_active = np.zeros(self.lanes, bool)
        is_active[list(seeds)] = True
        for lane, (seed, epoch) in seeds.items():
            orders[lane] = shuffled(self._rows, seed, epoch)
        self._state, logs = self._epoch(self._state, is_active, orders, self._arrays, self._validation)
        found = {name: np.asarray(values) for name, values in logs.items()}
        return {lane: {name: float(str(values[lane])) for name, values in found.items()} for lane in seeds}

    def _epoch_of_one(
        self, state: State, is_active: Any, order: Any, arrays: Any, validation: Any
    ) -> tuple[State, dict[str, Any]]:
        """Compute one epoch of one lane; `vmap` makes it an epoch of every lane."""
        self.traces += 1
        with lifting.bound(self._slots, state["numbers"]):
            trained, train_logs, rate = self._train(state, order, arrays)
            val_logs = self._evaluate(trained, validation)
        logs = {**train_logs, **{f"val_{name}": value for name, value in val_logs.items()}, "learning_rate": rate}
        return jax.tree.map(lambda new, old: jnp.where(is_active, new, old), trained, state), logs

    def _train(self, state: State, order: Any, arrays: Any) -> tuple[State, dict[str, Any], Any]:
        def step(carry: Any, rows: Any) -> tuple[Any, None]:
            batch = tuple(array[rows] for array in arrays)
            _, carry = self._template.train_step(carry, batch)
            return tuple(list(part) for part in carry), None

        carry = (list(state["trainable"]), list(state["other"]), list(state["optimizer"]), list(self._metrics))
        whole = self._rows // self.batch_size * self.batch_size
        if whole:
            carry, _ = jax.lax.scan(step, carry, order[:whole].reshape(-1, self.batch_size))
        if whole < self._rows:
            # The last batch is smaller: a step of its own, exact for batch statistics and every loss.
            carry, _ = step(carry, order[whole:])
        trainable, other, optimizer, metrics = carry
        with backend.StatelessScope(
            state_mapping=list(zip(self._template.optimizer.variables, optimizer, strict=True))
        ):
            rate = jnp.asarray(self._template.optimizer.learning_rate, jnp.float32)
        new = {**state, "trainable": tuple(trainable), "other": tuple(other), "optimizer": tuple(optimizer)}
        return new, self._results(metrics), rate

    def _evaluate(self, state: State, validation: Any) -> dict[str, Any]:
        x, y = validation
        fixed = (list(state["trainable"]), list(state["other"]))

        def step(metrics: Any, rows: Any) -> tuple[Any, None]:
            _, carry = self._template.test_step((*fixed, metrics), rows)
            return list(carry[2]), None

        size = min(self._validation_batch, len(x))
        whole = len(x) // size * size
        chunks = tuple(part[:whole].reshape(-1, size, *part.shape[1:]) for part in (x, y))
        metrics, _ = jax.lax.scan(step, list(self._metrics), chunks)
        if whole < len(x):
            metrics, _ = step(metrics, (x[whole:], y[whole:]))
        return self._results(metrics)

    def _results(self, metrics: list[Any]) -> dict[str, Any]:
        mapping = list(zip(self._template.metrics_variables, metrics, strict=True))
        with backend.StatelessScope(state_mapping=mapping):
            return {name: jnp.asarray(value) for name, value in self._template.get_metrics_result().items()}


def state_of(model: keras.Model) -> State:
    """Return the state of a member before its first epoch, from a prepared model of its own."""
    return {
        "trainable": tuple(jnp.asarray(v.value) for v in model.trainable_variables),
        "other": tuple(jnp.asarray(v.value) for v in model.non_trainable_variables),
        "optimizer": tuple(jnp.asarray(v.value) for v in model.optimizer.variables),
        "numbers": lifting.as_arrays(lifting.numbers(lifting.slots(model))),
    }
