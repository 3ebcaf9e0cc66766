"""What a model computes in a step: as a text that two models can be compared by, and lifted beside plain.

The structure of a model says what its layers tell of themselves. What reaches the arithmetic by another way (a number in a
closure, an argument that `get_config` leaves out) shows here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src import backend

from search.engines.lanes import lifting
from search.engines.lanes.lifting import NotLiftable, Slot
from search.engines.training import validation_batch

# A lifted number has been rounded to float32 once more than a plain one. In multiples of the arithmetic's own precision.
TOLERANCE = 250.0
# Two batches must agree on a difference: rounding may switch a single unit of a dropout on or off.
TRIES = 2


@dataclass(frozen=True, slots=True)
class Batches:
    """The shapes and types of a training batch and of a validation batch."""

    train: tuple[jax.ShapeDtypeStruct, ...]
    validation: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, train: tuple[Any, ...], validation: tuple[Any, ...], batch_size: int) -> Batches:
        """Return those of the arrays `train` and `validation`."""
        return cls(_first(train, batch_size), _first(validation, validation_batch(batch_size)))


def _first(arrays: tuple[Any, ...], rows: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct((min(rows, len(a)), *a.shape[1:]), a.dtype) for a in arrays)


def complete(model: keras.Model, batches: Batches) -> None:
    """Make the variables of a model's metrics, as Keras does at the first batch."""
    model._symbolic_build(data_batch=tuple(np.zeros((2, *b.shape[1:]), b.dtype) for b in batches.train))


def text(model: keras.Model, found: Mapping[str, Slot], state: Mapping[str, Any], batches: Batches) -> str:
    """Return what one step of training and one of evaluation compute, the lifted numbers left open.

    Two models whose texts are equal can share a program, whatever they are made of. NotLiftable if a step calls back into
    Python, where anything may happen. The caller holds KERAS_STATE.
    """
    complete(model, batches)

    def step(state: Any, metrics: Any, train: Any, validation: Any) -> Any:
        with lifting.bound(found, state["numbers"]):
            carry = (list(state["trainable"]), list(state["other"]), list(state["optimizer"]), metrics)
            logs, carry = model.train_step(carry, train)
            judged, (_, other, counted) = model.test_step((carry[0], carry[1], metrics), validation)
            with backend.StatelessScope(state_mapping=list(zip(model.optimizer.variables, carry[2], strict=True))):
                rate = jnp.asarray(model.optimizer.learning_rate, jnp.float32)
        return logs, carry, judged, other, counted, rate

    metrics = [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in model.metrics_variables]
    traced = jax.make_jaxpr(step)(state, metrics, batches.train, batches.validation)
    shown = f"{traced}"
    if "_callback[" in shown:
        raise NotLiftable("a step of it calls back into Python, which can't be compared between trials")
    constants = [hashlib.sha256(np.asarray(constant).tobytes()).hexdigest() for constant in traced.consts]
    # Strip memory addresses: they differ between functions that are alike.
    return re.sub(r"0x[0-9a-f]+", "", shown) + "".join(constants)


def key_of(text: str) -> str:
    """Return a short name of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(
    model: keras.Model, found: Mapping[str, Slot], state: Mapping[str, Any], rows: tuple[Any, ...], batch_size: int
) -> str:
    """Train a first step with lifted numbers and with plain ones; return what differs, or "".

    The step is Keras's own on the same rows, weights and seeds. The optimizer is compared on gradients that are not small:
    some optimizers turn a gradient that is only rounding into a step of full size. It compiles: call it once a structure.
    """
    size = min(batch_size, len(rows[0]))

    def step(batch: Any, state: Any) -> Any:
        (loss, (_, outputs, other, _)), gradients = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)(
            list(state["trainable"]),
            list(state["other"]),
            [jnp.asarray(variable.value) for variable in model.metrics_variables],
            *batch,
            *([None] * (3 - len(batch))),
            training=True,
            optimizer_variables=list(state["optimizer"]),
        )
        return {"loss": loss, "outputs": outputs, "statistics": other, "gradients": gradients}

    def update(given: Any, state: Any) -> Any:
        return model.optimizer.stateless_apply(list(state["optimizer"]), given, list(state["trainable"]))[0]

    def both(state: Any, batch: Any, given: Any) -> Any:
        with lifting.bound(found, state["numbers"]):
            lifted = {**step(batch, state), "weights": update(given, state)}
        return lifted, {**step(batch, state), "weights": update(given, state)}

    differs = ""
    compiled: Any = None
    for attempt in range(TRIES):
        rng = np.random.default_rng(attempt)
        batch = tuple(array[attempt * size : (attempt + 1) * size] for array in rows)
        if len(batch[0]) < size:
            return differs
        given = [rng.normal(size=w.shape).astype(w.dtype) for w in state["trainable"]]
        if compiled is None:
            with lifting.KERAS_STATE:
                lowered = jax.jit(both).lower(state, batch, given)
            # It runs once or twice: a quick compilation is worth more than quick code.
            compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
        lifted, plain = jax.device_get(compiled(state, batch, given))
        differs = _part_apart(lifted, plain, state["trainable"], _precision(model))
        if not differs:
            return ""
    return differs


def _precision(model: keras.Model) -> float:
    types = {layer.compute_dtype for layer in lifting.layers_of(model)}
    return max((float(jnp.finfo(kind).eps) for kind in types if kind and "float" in kind), default=1.2e-7)


def _part_apart(lifted: Mapping[str, Any], plain: Mapping[str, Any], weights: Any, precision: float) -> str:
    """Name the first part in which two steps differ by more than rounding."""
    for part in plain:
        # A step is small beside what it changes.
        base = list(weights) if part == "weights" else [0.0] * len(jax.tree.leaves(plain[part]))
        for one, two, before in zip(jax.tree.leaves(lifted[part]), jax.tree.leaves(plain[part]), base, strict=True):
            a, b, start = (np.asarray(x, np.float64) for x in (one, two, before))
            finite = np.isfinite(b)
            if not np.array_equal(finite, np.isfinite(a)):
                return part
            if not finite.any():
                continue
            moved = np.abs((b - start) * finite).max()
            allowed = precision * (TOLERANCE * moved + 4 * np.abs(b[finite]).max()) + 1e-30
            if np.abs(a[finite] - b[finite]).max() > allowed:
                return part
    return ""
