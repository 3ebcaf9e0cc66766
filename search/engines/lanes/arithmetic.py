"""What a model computes in a step: as a text that two models can be compared by, and lifted beside plain.

The structure of a model says what its layers tell of themselves. What reaches the arithmetic by another way (a number in a
closure, an argument that `get_config` leaves out) shows here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

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
    """Return what training and evaluation compute from a batch, the lifted numbers left open.

    Two models of one structure whose texts are equal can share a program, whatever they are made of. Gradients follow from
    the loss, and updates of weights from what Keras's own optimizers tell of themselves; where either is not so, the text is
    of the whole step. NotLiftable if it calls back into Python, where anything may happen. The caller holds KERAS_STATE.
    """
    complete(model, batches)

    def parts(state: Any, metrics: Any, train: Any, validation: Any) -> Any:
        with lifting.bound(found, state["numbers"]):
            loss = _loss(model, state, metrics, train)
            judged = model.test_step((list(state["trainable"]), list(state["other"]), metrics), validation)
        return loss, judged

    def whole(state: Any, metrics: Any, train: Any) -> Any:
        with lifting.bound(found, state["numbers"]):
            carry = (list(state["trainable"]), list(state["other"]), list(state["optimizer"]), metrics)
            return model.train_step(carry, train)

    metrics = [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in model.metrics_variables]
    shown = _shown(parts, state, metrics, batches.train, batches.validation)
    if _updates_by_code_of_its_own(model) or "custom_vjp" in shown or "custom_lin" in shown:
        shown += _shown(whole, state, metrics, batches.train)
    if "_callback[" in shown:
        raise NotLiftable("a step of it calls back into Python, which can't be compared between trials")
    return shown


def _loss(model: keras.Model, state: Any, metrics: Any, batch: Any) -> Any:
    """Return what Keras takes the gradient of: (loss, (loss, outputs, statistics, metrics))."""
    rows = (*batch, *([None] * (3 - len(batch))))
    trainable, other, optimizer = (list(state[part]) for part in ("trainable", "other", "optimizer"))
    return model.compute_loss_and_updates(
        trainable, other, metrics, *rows, training=True, optimizer_variables=optimizer
    )


def _shown(function: Any, *arguments: Any) -> str:
    traced = jax.make_jaxpr(function)(*arguments)
    constants = [hashlib.sha256(np.asarray(constant).tobytes()).hexdigest() for constant in traced.consts]
    # Strip memory addresses: they differ between functions that are alike.
    return re.sub(r"0x[0-9a-f]+", "", f"{traced}") + "".join(constants)


def _updates_by_code_of_its_own(model: keras.Model) -> bool:
    """Whether an optimizer, schedule or constraint is not Keras's, so that its `get_config` need not tell all."""
    parts = [model.optimizer, *(variable.constraint for variable in model.trainable_variables)]
    if isinstance(model.optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        parts.append(model.optimizer._learning_rate)
    known = ("keras.", "search.")
    return any(part is not None and not type(part).__module__.startswith(known) for part in parts)


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
    with lifting.KERAS_STATE:  # while the model is traced elsewhere, no number of it is zero
        unused = _unused_seeds(model, found)
    metrics = [jnp.asarray(variable.value) for variable in model.metrics_variables]
    compared = [index for index, variable in enumerate(model.non_trainable_variables) if id(variable) not in unused]

    def step(batch: Any, state: Any) -> Any:
        def loss_of(trainable: Any) -> Any:
            return _loss(model, {**state, "trainable": trainable}, metrics, batch)

        (loss, (_, outputs, other, _)), gradients = jax.value_and_grad(loss_of, has_aux=True)(list(state["trainable"]))
        statistics = [other[index] for index in compared]
        return {"loss": loss, "outputs": outputs, "statistics": statistics, "gradients": gradients}

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
        batch = tuple(np.asarray(array[attempt * size : (attempt + 1) * size]) for array in rows)
        if len(batch[0]) < size:
            return differs
        given = [rng.normal(size=w.shape).astype(w.dtype) for w in state["trainable"]]
        # On the host: the device's memory is for the lanes.
        with jax.default_device(jax.devices("cpu")[0]):
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


def _unused_seeds(model: keras.Model, found: Mapping[str, Slot]) -> set[int]:
    """Return the seeds that only a lifted number which is zero draws from: a plain zero draws nothing, and nobody sees it."""
    owners = Counter(
        id(generator.state)
        for layer in lifting.layers_of(model)
        for generator in {id(g): g for g in vars(layer).values() if isinstance(g, keras.random.SeedGenerator)}.values()
    )
    off = [slot.owner for slot in found.values() if isinstance(slot.owner, keras.layers.Layer) and not slot.get()]
    seeds = [id(layer.seed_generator.state) for layer in off if hasattr(layer, "seed_generator")]
    return {seed for seed in seeds if owners[seed] == 1}


def _precision(model: keras.Model) -> float:
    types = {layer.compute_dtype for layer in lifting.layers_of(model)}
    return max((float(jnp.finfo(kind).eps) for kind in types if kind and "float" in kind), default=1.2e-7)


def _part_apart(lifted: Mapping[str, Any], plain: Mapping[str, Any], weights: Any, precision: float) -> str:
    """Name the first part in which two steps differ by more than rounding."""
    for part in plain:
        # A step is small beside what it changes.
        base = list(weights) if part == "weights" else [0.0] * len(jax.tree.leaves(plain[part]))
        # A gradient may be nothing but rounding: of a bias before a batch normalization, say.
        largest = max(
            (float(np.abs(np.nan_to_num(leaf)).max()) for leaf in jax.tree.leaves(plain[part]) if np.size(leaf)),
            default=0.0,
        )
        least = 0.1 * largest if part == "gradients" else 0.0
        for one, two, before in zip(jax.tree.leaves(lifted[part]), jax.tree.leaves(plain[part]), base, strict=True):
            a, b, start = (np.asarray(x, np.float64) for x in (one, two, before))
            finite = np.isfinite(b)
            if not np.array_equal(finite, np.isfinite(a)):
                return part
            if not finite.any():
                continue
            moved = np.abs((b - start) * finite).max()
            allowed = precision * (TOLERANCE * max(moved, least) + 4 * np.abs(b[finite]).max()) + 1e-30
            if np.abs(a[finite] - b[finite]).max() > allowed:
                return part
    return ""
