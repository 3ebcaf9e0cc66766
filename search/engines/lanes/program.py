"""A compiled program, which trains a block of lanes by one epoch and evaluates them, and the state of a lane.

The arithmetic is Keras's own: `train_step` and `test_step` of its JAX trainer are pure functions, and the program runs them
under `vmap` and `scan`. So a lane computes what `model.fit` computes, in the same order of batches.
"""

from __future__ import annotations

import functools
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
from search.engines.batches import shuffled
from search.engines.lanes import lifting
from search.engines.lanes.arithmetic import BatchShapes, complete
from search.engines.lanes.jaxprs import JaxprDigest
from search.engines.lanes.lifting import NotLiftable
from search.engines.training import validation_batch, weights_of
from search.trials.events import Member

State = dict[str, Any]
"""A lane's state, all arrays: trainable, other (statistics, seeds), optimizer, numbers (the lifted ones), best (the weights
of the best epoch so far) and score (the objective of that epoch; higher is better)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that all members train on, as arrays on the device, and the study's objective.

    Attributes:
        train: x, y and, with weights of rows or classes, sample weights; each an array, or a dictionary or tuple of arrays.
        validation: x, y and, if the source has weights, those.
        objective: name of a metric; `sign` is 1.0 to maximize it, -1.0 to minimize it.
        folds: (numbers of the rows that train, of those that judge), (folds, rows) each; `train` and `validation` then both
            have the rows of all folds. None without folds.
    """

    train: tuple[Any, ...]
    validation: tuple[Any, ...]
    objective: str
    sign: float
    folds: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    @property
    def count(self) -> int:
        """The number of rows of an epoch."""
        return len(jax.tree.leaves(self.train)[0]) if self.folds is None else self.folds[0].shape[1]

    @property
    def judging(self) -> int:
        """The number of rows that judge a member."""
        return len(jax.tree.leaves(self.validation)[0]) if self.folds is None else self.folds[1].shape[1]

    @property
    def bytes(self) -> int:
        """The device memory that all rows take. Those of folds train and judge: they count twice, as for the compiler."""
        return sum(array.nbytes for array in jax.tree.leaves((self.train, self.validation)))

    def batch_shapes(self, batch_size: int) -> BatchShapes:
        """Return the shapes and types of a batch that trains and of one that judges."""
        return BatchShapes.of(_shapes(self.count, self.train), _shapes(self.judging, self.validation), batch_size)

    def shuffled(self, member: Member, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the order of a member's training rows in an epoch (counted from 1)."""
        order = shuffled(self.count, seed, epoch)
        return order if self.folds is None else self.folds[0][member.replica][order]


class Program:
    """The compiled epoch of `width` lanes, shared by all members with the same program key.

    Args:
        template: a prepared, compiled model; the program is traced from it.
        slots: of the template's lifted numbers.
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
            complete(template, rows.batch_shapes(batch_size))
            # As `fit` does at each epoch: the builder may have trained or evaluated the model already.
            template.reset_metrics()
            self._metrics = [jnp.asarray(variable.value) for variable in template.metrics_variables]
        self._epoch: Any = None
        self._traced: Any = None

    def compile(self, state: State) -> None:
        """Compile the program, once, for states with the shapes of `state`; every member of its key fits them."""
        if self._epoch is None:
            began = time.perf_counter()
            self.trace(state)
            self._epoch, self._traced = self._traced.compile(), None
            self.compile_s = time.perf_counter() - began

    def trace(self, state: State) -> None:
        """Trace the template as it is now; later changes of globals have no effect. The caller may hold KERAS_STATE."""
        if self._traced is None:
            self._traced = self._lower(state)

    @property
    def bytes(self) -> int:
        """Device memory of a block in training, by the compiler's estimate; 0 without one."""
        estimate = self._epoch.memory_analysis()
        if estimate is None:
            return 0
        sizes = (estimate.argument_size_in_bytes, estimate.output_size_in_bytes, estimate.temp_size_in_bytes)
        return int(sum(sizes) - estimate.alias_size_in_bytes - self.rows.bytes)

    def weights(self, best: Mapping[str, tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
        """Return the weights in a lane's `best`, by the names of `training.weights_of`."""
        template = (self._template.trainable_variables, self._template.non_trainable_variables)
        arrays = [*best["trainable"], *best["other"]]
        by_id = {id(variable): array for variable, array in zip([*template[0], *template[1]], arrays, strict=True)}
        return {name: np.asarray(by_id[id(variable)]) for name, variable in weights_of(*template)}

    def digest(self, state: State) -> str:
        """Return the digest of all that the program computes; lifted numbers, weights and seeds don't change it."""
        with lifting.KERAS_STATE:
            return JaxprDigest(self._epoch_of_lanes, *self._arguments(state)).value

    def _lower(self, state: State) -> Any:
        epoch = jax.jit(self._epoch_of_lanes, donate_argnums=0)
        with lifting.KERAS_STATE:
            return epoch.lower(*self._arguments(state))

    def _arguments(self, state: State) -> tuple[Any, ...]:
        lanes = jax.tree.map(lambda one: jax.ShapeDtypeStruct((self.width, *np.shape(one)), one.dtype), state)
        is_active = jax.ShapeDtypeStruct((self.width,), bool)
        orders = jax.ShapeDtypeStruct((self.width, self.rows.count), np.int32)
        judging = jax.ShapeDtypeStruct((self.width, self.rows.judging), np.int32)
        judged_by = None if self.rows.folds is None else judging
        return lanes, is_active, orders, judged_by, self.rows.train, self.rows.validation

    def _epoch_of_lanes(
        self, states: State, is_active: Any, orders: Any, judged_by: Any, arrays: Any, validation: Any
    ) -> tuple[State, dict[str, Any]]:
        lanes: Any = (states, is_active, orders, judged_by)
        if self.width == 1:
            # One lane needs no vmap, for which some operations have no rule.
            state, active, order, judging = jax.tree.map(lambda array: array[0], lanes)
            one = self._epoch_of_one(state, active, order, judging, arrays, validation)
            trained, logs = jax.tree.map(lambda array: array[None], one)
        else:
            trained, logs = jax.vmap(self._epoch_of_one, (0, 0, 0, 0, None, None))(*lanes, arrays, validation)
        return trained, logs

    def _epoch_of_one(
        self, state: State, is_active: Any, order: Any, judged_by: Any, arrays: Any, validation: Any
    ) -> tuple[State, dict[str, Any]]:
        """Compute one epoch of one lane; `vmap` makes it an epoch of every lane."""
        self.traces += 1
        with lifting.bound(self._slots, state["numbers"]):
            trained, train_logs, rate = self._train(state, order, arrays)
            trained, val_logs = self._evaluate(trained, validation, judged_by)
        validated = {f"val_{name}": value for name, value in val_logs.items()}
        # As in `fit`, a metric named learning_rate replaces the rate.
        reported = {"learning_rate": rate, **train_logs, **validated}
        if (value := reported.get(self.rows.objective)) is not None and value.size == 1:
            score = self.rows.sign * value.reshape(()).astype(jnp.float32)
            weights = {part: trained[part] for part in ("trainable", "other")}
            trained["best"] = _where(score > state["score"], weights, state["best"])
            trained["score"] = jnp.fmax(score, state["score"])
        return _where(is_active, trained, state), reported

    def _train(self, state: State, order: Any, arrays: Any) -> tuple[State, dict[str, Any], Any]:
        def step(carry: Any, rows: Any) -> tuple[Any, None]:
            batch = jax.tree.map(lambda array: array[rows], arrays)
            _, carry = self._template.train_step(carry, batch)
            return tuple(list(part) for part in carry), None

        carry = (list(state["trainable"]), list(state["other"]), list(state["optimizer"]), list(self._metrics))
        count = self.rows.count
        whole = count // self.batch_size * self.batch_size
        if whole:
            carry, _ = jax.lax.scan(step, carry, order[:whole].reshape(-1, self.batch_size))
        if whole < count:
            # The last batch is smaller. Its own step, without padding, keeps batch statistics and losses exact.
            carry, _ = step(carry, order[whole:])
        trainable, other, optimizer, metrics = carry
        with backend.StatelessScope(
            state_mapping=list(zip(self._template.optimizer.variables, optimizer, strict=True))
        ):
            rate = jnp.asarray(self._template.optimizer.learning_rate, jnp.float32)
        new = {**state, "trainable": tuple(trainable), "other": tuple(other), "optimizer": tuple(optimizer)}
        return new, self._results(metrics), rate

    def _evaluate(self, state: State, validation: Any, judged_by: Any) -> tuple[State, dict[str, Any]]:
        def step(carry: Any, rows: Any) -> tuple[Any, None]:
            other, metrics = carry
            if judged_by is not None:
                rows = jax.tree.map(lambda array: array[rows], validation)
            _, (_, other, metrics) = self._template.test_step((list(state["trainable"]), other, metrics), rows)
            return (list(other), list(metrics)), None

        rows, given = self.rows.judging, validation if judged_by is None else judged_by
        size = min(self._validation_batch, rows)
        whole = rows // size * size
        chunks = jax.tree.map(lambda part: part[:whole].reshape(-1, size, *part.shape[1:]), given)
        # Carry the state: evaluation may change it, too. Recurrent dropouts draw from their seeds.
        carry, _ = jax.lax.scan(step, (list(state["other"]), list(self._metrics)), chunks)
        if whole < rows:
            carry, _ = step(carry, jax.tree.map(lambda part: part[whole:], given))
        other, metrics = carry
        return {**state, "other": tuple(other)}, self._results(metrics)

    def _results(self, metrics: list[Any]) -> dict[str, Any]:
        mapping = list(zip(self._template.metrics_variables, metrics, strict=True))
        with backend.StatelessScope(state_mapping=mapping):
            results = {name: jnp.asarray(value) for name, value in self._template.get_metrics_result().items()}
        for name, value in results.items():
            try:
                logs.names(name, value.shape)
            except ValueError as error:
                raise NotLiftable(str(error)) from None
        return results


class Block:
    """The states of `width` lanes of a program, on the device; each lane can be filled and read by itself."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._states: State | None = None
        self._logs: dict[str, Any] = {}

    def fill(self, lane: int, state: State) -> None:
        """Replace the state of a lane by a member's state."""
        if self._states is None:
            self.program.compile(state)
            # Every lane starts as a copy of the first member. Free lanes compute too, and their results are ignored.
            self._states = _spread(self.program.width, state)
        else:
            self._states = _refill(self._states, lane, state)

    def take(self, lane: int) -> State:
        """Return the state of a lane, on the device."""
        state: State = _take(self._states, lane)
        return state

    def on_host(self) -> State:
        """Copy the states of all lanes to the host; the first axis of each array is the lane."""
        states: State = jax.device_get(self._states)
        return states

    def begin(self, orders: Mapping[int, NDArray[np.int64]], folds: Mapping[int, int] | None = None) -> None:
        """Begin an epoch of the lanes in `orders`: lane -> order of the rows. The state of other lanes stays the same.

        `folds`: lane -> its fold, in a study with folds. Returns while the device computes; `end` waits for the results.
        """
        program = self.program
        all_orders = np.zeros((program.width, program.rows.count), np.int32)
        is_active = np.zeros(program.width, bool)
        for lane, order in orders.items():
            is_active[lane], all_orders[lane] = True, order
        judged_by = None
        if program.rows.folds is not None and folds is not None:
            of_lanes = [folds.get(lane, 0) for lane in range(program.width)]
            judged_by = program.rows.folds[1][of_lanes]
        rows = (program.rows.train, program.rows.validation)
        self._states, self._logs = program._epoch(self._states, is_active, all_orders, judged_by, *rows)

    def end(self) -> dict[str, NDArray[Any]]:
        """Wait for the epoch that was begun; return its metrics, each an array with one value per lane."""
        # Out of memory must be raised here: if numpy reads an array that was never computed, the process crashes.
        reported = jax.block_until_ready(self._logs)
        return {name: np.asarray(values) for name, values in reported.items()}


def state_of(model: keras.Model, slots: Mapping[str, lifting.Slot]) -> State:
    """Return a member's state before its first epoch, as host arrays; `model` is the member's own prepared model."""
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


def _shapes(rows: int, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shapes and types of so many rows of arrays."""
    shapes: tuple[Any, ...] = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), arrays)
    return shapes


def _where(condition: Any, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


@functools.partial(jax.jit, static_argnums=0)
def _spread(width: int, state: State) -> Any:
    return jax.tree.map(lambda one: jnp.repeat(one[None], width, axis=0), state)


@functools.partial(jax.jit, donate_argnums=0)
def _refill(states: State, lane: int, new: State) -> Any:
    return jax.tree.map(lambda all_, one: all_.at[lane].set(one), states, new)


@jax.jit  # type: ignore[untyped-decorator]
def _take(states: State, lane: int) -> Any:
    return jax.tree.map(lambda all_: all_[lane], states)
