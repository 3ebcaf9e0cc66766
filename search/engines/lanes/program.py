"""A compiled program: one epoch of training and one evaluation of a block of lanes, and what a lane's state holds.

The arithmetic is Keras's own: `train_step` and `test_step` of the JAX trainer are pure functions, here under `vmap` and
`scan`. So a lane computes what `model.fit` computes, in the same order of batches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src import backend
from numpy.typing import NDArray

from search.engines import logs
from search.engines.lanes import lifting
from search.engines.lanes.arithmetic import Batches, complete
from search.engines.lanes.lifting import NotLiftable
from search.engines.training import validation_batch, weights_of

State = dict[str, Any]
"""A lane's state, all of it arrays: trainable, other (statistics, seeds), optimizer, numbers (the lifted ones), best (the
weights of the best epoch so far) and score (that epoch's objective, the higher the better)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that all members train on, on the device, and what is made of them.

    Attributes:
        train: x, y and, with class weights, sample weights.
        validation: x, y.
        objective: what a member is judged by; `sign` is 1.0 where more of it is better, else -1.0.
    """

    train: tuple[Any, ...]
    validation: tuple[Any, ...]
    objective: str
    sign: float

    @property
    def count(self) -> int:
        """How many rows an epoch has."""
        return len(self.train[0])


class Program:
    """What the members of one program key share: the compiled epoch of `width` lanes.

    Args:
        template: a prepared, compiled model; the program is traced from it.
        slots: where its lifted numbers stand.
    """

    def __init__(
        self, template: keras.Model, slots: Mapping[str, lifting.Slot], rows: Rows, *, width: int, batch_size: int
    ) -> None:
        self.width, self.rows, self.batch_size = width, rows, batch_size
        self.traces = 0
        self.compile_s = 0.0
        self._template, self._validation_batch = template, validation_batch(batch_size)
        self._slots = slots
        with lifting.KERAS_STATE:
            complete(template, Batches.of(rows.train, rows.validation, batch_size))
            self._metrics = [jnp.asarray(variable.value) for variable in template.metrics_variables]
        self._epoch: Any = None
        self._traced: Any = None

    def compile(self, state: State) -> None:
        """Compile the program for states like `state` of one member. Once; nothing that a member brings needs it again."""
        if self._epoch is None:
            began = time.perf_counter()
            self.trace(state)
            self._epoch, self._traced = self._traced.compile(), None
            self.compile_s = time.perf_counter() - began

    def trace(self, state: State) -> None:
        """Fix what the program computes by what its template is now. The caller may hold KERAS_STATE until then."""
        if self._traced is None:
            self._traced = self._lower(state)

    @property
    def bytes(self) -> int:
        """What a block takes on the device while it trains, as the compiler estimates it; 0 where it does not tell."""
        found = self._epoch.memory_analysis()
        if found is None:
            return 0
        sizes = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
        shared = sum(array.nbytes for array in (*self.rows.train, *self.rows.validation))
        return int(sum(sizes) - found.alias_size_in_bytes - shared)

    def weights(self, best: Mapping[str, tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
        """Name the weights among the best of a lane, as `training.weights_of` names those of a model."""
        template = (self._template.trainable_variables, self._template.non_trainable_variables)
        arrays = [*best["trainable"], *best["other"]]
        found = {id(variable): array for variable, array in zip([*template[0], *template[1]], arrays, strict=True)}
        return {name: np.asarray(found[id(variable)]) for name, variable in weights_of(*template)}

    def _lower(self, state: State) -> Any:
        lanes = jax.tree.map(lambda one: jax.ShapeDtypeStruct((self.width, *np.shape(one)), one.dtype), state)
        is_active = jax.ShapeDtypeStruct((self.width,), bool)
        orders = jax.ShapeDtypeStruct((self.width, self.rows.count), np.int32)
        epoch = jax.jit(jax.vmap(self._epoch_of_one, in_axes=(0, 0, 0, None, None)), donate_argnums=0)
        with lifting.KERAS_STATE:
            return epoch.lower(lanes, is_active, orders, self.rows.train, self.rows.validation)

    def _epoch_of_one(
        self, state: State, is_active: Any, order: Any, arrays: Any, validation: Any
    ) -> tuple[State, dict[str, Any]]:
        """Compute one epoch of one lane; `vmap` makes it an epoch of every lane."""
        self.traces += 1
        with lifting.bound(self._slots, state["numbers"]):
            trained, train_logs, rate = self._train(state, order, arrays)
            trained, val_logs = self._evaluate(trained, validation)
        judged = {f"val_{name}": value for name, value in val_logs.items()}
        # A metric of the name learning_rate stays, as it does in `fit`.
        reported = {"learning_rate": rate, **train_logs, **judged}
        if (value := reported.get(self.rows.objective)) is not None and value.size == 1:
            score = self.rows.sign * value.reshape(()).astype(jnp.float32)
            weights = {part: trained[part] for part in ("trainable", "other")}
            trained["best"] = _where(score > state["score"], weights, state["best"])
            trained["score"] = jnp.fmax(score, state["score"])
        return _where(is_active, trained, state), reported

    def _train(self, state: State, order: Any, arrays: Any) -> tuple[State, dict[str, Any], Any]:
        def step(carry: Any, rows: Any) -> tuple[Any, None]:
            batch = tuple(array[rows] for array in arrays)
            _, carry = self._template.train_step(carry, batch)
            return tuple(list(part) for part in carry), None

        carry = (list(state["trainable"]), list(state["other"]), list(state["optimizer"]), list(self._metrics))
        count = self.rows.count
        whole = count // self.batch_size * self.batch_size
        if whole:
            carry, _ = jax.lax.scan(step, carry, order[:whole].reshape(-1, self.batch_size))
        if whole < count:
            # The last batch is smaller: a step of its own, exact for batch statistics and every loss.
            carry, _ = step(carry, order[whole:])
        trainable, other, optimizer, metrics = carry
        with backend.StatelessScope(
            state_mapping=list(zip(self._template.optimizer.variables, optimizer, strict=True))
        ):
            rate = jnp.asarray(self._template.optimizer.learning_rate, jnp.float32)
        new = {**state, "trainable": tuple(trainable), "other": tuple(other), "optimizer": tuple(optimizer)}
        return new, self._results(metrics), rate

    def _evaluate(self, state: State, validation: Any) -> tuple[State, dict[str, Any]]:
        def step(carry: Any, rows: Any) -> tuple[Any, None]:
            other, metrics = carry
            _, (_, other, metrics) = self._template.test_step((list(state["trainable"]), other, metrics), rows)
            return (list(other), list(metrics)), None

        size = min(self._validation_batch, len(validation[0]))
        whole = len(validation[0]) // size * size
        chunks = tuple(part[:whole].reshape(-1, size, *part.shape[1:]) for part in validation)
        # A layer may change state when it is evaluated, too: recurrent dropouts draw from their seeds all the same.
        carry, _ = jax.lax.scan(step, (list(state["other"]), list(self._metrics)), chunks)
        if whole < len(validation[0]):
            carry, _ = step(carry, tuple(part[whole:] for part in validation))
        other, metrics = carry
        return {**state, "other": tuple(other)}, self._results(metrics)

    def _results(self, metrics: list[Any]) -> dict[str, Any]:
        mapping = list(zip(self._template.metrics_variables, metrics, strict=True))
        with backend.StatelessScope(state_mapping=mapping):
            found = {name: jnp.asarray(value) for name, value in self._template.get_metrics_result().items()}
        for name, value in found.items():
            try:
                logs.names(name, value.shape)
            except ValueError as error:
                raise NotLiftable(str(error)) from None
        return found


class Block:
    """`width` lanes of a program: their states on the device, filled and taken one by one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._states: State | None = None
        self._logs: dict[str, Any] = {}

    def fill(self, lane: int, state: State) -> None:
        """Put a member's state into a lane, in the place of whatever was there."""
        if self._states is None:
            self.program.compile(state)
            # Every lane starts as a copy of the first member; idle ones compute along and nobody looks.
            self._states = _spread(self.program.width, state)
        else:
            self._states = _refill(self._states, lane, state)

    def take(self, lane: int) -> State:
        """Return the state of a lane, on the device."""
        state: State = _take(self._states, lane)
        return state

    def on_host(self) -> State:
        """Return the states of all lanes, copied to the host: arrays over the lanes."""
        states: State = jax.device_get(self._states)
        return states

    def begin(self, orders: Mapping[int, NDArray[np.int64]]) -> None:
        """Begin an epoch of the lanes in `orders`, lane -> order of the rows. The others compute along and stay the same.

        Returns while the device computes; `end` waits for it.
        """
        program = self.program
        all_orders = np.zeros((program.width, program.rows.count), np.int32)
        is_active = np.zeros(program.width, bool)
        for lane, order in orders.items():
            is_active[lane], all_orders[lane] = True, order
        self._states, self._logs = program._epoch(
            self._states, is_active, all_orders, program.rows.train, program.rows.validation
        )

    def end(self) -> dict[str, NDArray[Any]]:
        """Wait for the epoch that was begun; return its metrics, each an array over the lanes."""
        # Out of memory is raised here; an array that was never computed would end the process when numpy looks into it.
        reported = jax.block_until_ready(self._logs)
        return {name: np.asarray(values) for name, values in reported.items()}


def state_of(model: keras.Model, slots: Mapping[str, lifting.Slot]) -> State:
    """Return the state of a member before its first epoch, from a prepared model of its own; its arrays on the host."""
    trainable, other, optimizer = (
        tuple(np.asarray(value) for value in jax.block_until_ready([variable.value for variable in variables]))
        for variables in (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    )
    return {
        "trainable": trainable,
        "other": other,
        "optimizer": optimizer,
        "numbers": lifting.as_arrays(lifting.numbers(slots)),
        "best": {"trainable": trainable, "other": other},
        "score": np.float32(-np.inf),
    }


def _spread_over(width: int, state: State) -> Any:
    return _tree(lambda one: jnp.repeat(one[None], width, axis=0), state)


def _refilled(states: State, lane: int, new: State) -> Any:
    return _tree(lambda all_, one: all_.at[lane].set(one), states, new)


def _taken(states: State, lane: int) -> Any:
    return _tree(lambda all_: all_[lane], states)


def _where(condition: Any, one: Any, other: Any) -> Any:
    return _tree(lambda a, b: jnp.where(condition, a, b), one, other)


def _tree(function: Any, *trees: Any) -> Any:
    return jax.tree.map(function, *trees)


_spread = jax.jit(_spread_over, static_argnums=0)
_refill = jax.jit(_refilled, donate_argnums=0)
_take = jax.jit(_taken)
