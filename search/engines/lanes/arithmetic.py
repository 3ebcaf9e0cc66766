"""What a model computes in a step: its fingerprint, and a comparison of the lifted step with the plain one.

A model's structure holds only what its layers put into their configs. A number that reaches the arithmetic by another
path (a closure, an argument that `get_config` leaves out) shows only here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from search.engines.lanes import lifting
from search.engines.lanes.jaxprs import JaxprDigest
from search.engines.lanes.lifting import Slot
from search.engines.lanes.model_code import has_user_code
from search.engines.training import validation_batch

# In multiples of the arithmetic's precision: a lifted number is rounded to float32 once more than a plain one.
TOLERANCE = 250.0
# A difference counts only if every batch shows it: rounding may switch a single unit of a dropout on or off.
TRIES = 2


@dataclass(frozen=True, slots=True)
class BatchShapes:
    """The shapes and types of a training batch and of a validation batch, in the structure of the rows."""

    train: tuple[Any, ...]
    validation: tuple[Any, ...]

    @classmethod
    def of(cls, train: tuple[Any, ...], validation: tuple[Any, ...], batch_size: int) -> BatchShapes:
        """Return the shapes and types of batches of the arrays `train` and `validation`."""
        return cls(_first(train, batch_size), _first(validation, validation_batch(batch_size)))


def _first(arrays: tuple[Any, ...], rows: int) -> tuple[Any, ...]:
    shapes: tuple[Any, ...] = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((min(rows, len(a)), *a.shape[1:]), a.dtype), arrays
    )
    return shapes


def complete(model: keras.Model, batches: BatchShapes) -> None:
    """Create the variables of a model's metrics, as Keras does at the first batch."""
    model._symbolic_build(data_batch=jax.tree.map(lambda b: np.zeros((2, *b.shape[1:]), b.dtype), batches.train))


def parts_digest(
    model: keras.Model, slots: Mapping[str, Slot], state: Mapping[str, Any], batches: BatchShapes
) -> JaxprDigest:
    """Return the digest of what a model's loss and evaluation compute from a batch; lifted numbers don't change it.

    For a model of Keras's own parts this decides: gradients follow from the loss, and weight updates from the configs of the
    optimizer and the constraints. NotLiftable if a step calls back into Python. The caller holds KERAS_STATE.
    """
    complete(model, batches)

    def parts(state: Any, metrics: Any, train: Any, validation: Any) -> Any:
        with lifting.bound(slots, state["numbers"]):
            loss = _loss(model, state, metrics, train)
            evaluated = model.test_step((list(state["trainable"]), list(state["other"]), metrics), validation)
        return loss, evaluated

    metrics = [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in model.metrics_variables]
    return JaxprDigest(parts, state, metrics, batches.train, batches.validation)


def _loss(model: keras.Model, state: Any, metrics: Any, batch: Any) -> Any:
    """Return the value that Keras differentiates: (loss, (loss, outputs, statistics, metrics))."""
    rows = (*batch, *([None] * (3 - len(batch))))
    trainable, other, optimizer = (list(state[part]) for part in ("trainable", "other", "optimizer"))
    return model.compute_loss_and_updates(
        trainable, other, metrics, *rows, training=True, optimizer_variables=optimizer
    )


def short_key(fingerprint: str) -> str:
    """Return a short key for a fingerprint."""
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:16]


def difference(
    model: keras.Model, slots: Mapping[str, Slot], state: Mapping[str, Any], rows: tuple[Any, ...], batch_size: int
) -> str:
    """Compute a first step with lifted numbers and with plain ones; return the part that differs, or "".

    Both steps use the same rows, weights and seeds. The optimizer is compared on random gradients: some optimizers turn a
    gradient that is only rounding error into a step of full size. Compiling is slow: call this once per structure.
    """
    size = min(batch_size, _count(rows))
    with lifting.KERAS_STATE:  # a trace in another thread replaces the model's numbers, zeros too
        unused = _unused_seeds(model, slots)
    metrics = [jnp.asarray(variable.value) for variable in model.metrics_variables]
    compared = [index for index, variable in enumerate(model.non_trainable_variables) if id(variable) not in unused]

    def step(batch: Any, state: Any) -> Any:
        def loss_of(trainable: Any) -> Any:
            return _loss(model, {**state, "trainable": trainable}, metrics, batch)

        (loss, (_, outputs, other, _)), gradients = jax.value_and_grad(loss_of, has_aux=True)(list(state["trainable"]))
        statistics = [other[index] for index in compared]
        return {"loss": loss, "outputs": outputs, "statistics": statistics, "gradients": gradients}

    def update(gradients: Any, state: Any) -> Any:
        return model.optimizer.stateless_apply(list(state["optimizer"]), gradients, list(state["trainable"]))[0]

    def lifted(state: Any, batch: Any, gradients: Any) -> Any:
        with lifting.bound(slots, state["numbers"]):
            return plain(state, batch, gradients)

    def plain(state: Any, batch: Any, gradients: Any) -> Any:
        return {**step(batch, state), "weights": update(gradients, state)}

    # User code may have rules of its own for several lanes at once; Keras's parts have none.
    is_of_user = has_user_code(model)
    states = [state, _moved(state)] if is_of_user else [state]
    in_lanes = jax.vmap(lifted, (0, None, None)) if is_of_user else lifted
    given = _stacked(states) if is_of_user else state
    weights = given["trainable"]

    differs = ""
    steps: list[Any] = []
    for attempt in range(TRIES):
        rng = np.random.default_rng(attempt)
        batch = jax.tree.map(lambda array: np.asarray(array[attempt * size : (attempt + 1) * size]), rows)  # noqa: B023
        if _count(batch) < size:
            return differs
        gradients = [rng.normal(size=w.shape).astype(w.dtype) for w in state["trainable"]]
        # On the host, because the lanes need the device's memory.
        with jax.default_device(jax.devices("cpu")[0]):
            steps = steps or [_compiled(in_lanes, given, batch, gradients), _compiled(plain, state, batch, gradients)]
            of_lanes = jax.device_get(steps[0](given, batch, gradients))
            alone = [jax.device_get(steps[1](one, batch, gradients)) for one in states]
        differs = _first_difference(of_lanes, _stacked(alone) if is_of_user else alone[0], weights, _precision(model))
        if not differs:
            return ""
    return differs


def _count(rows: tuple[Any, ...]) -> int:
    return len(jax.tree.leaves(rows)[0])


def _compiled(step: Any, *arguments: Any) -> Any:
    with lifting.KERAS_STATE:
        lowered = jax.jit(step).lower(*arguments)
    # It runs only once or twice: fast compilation matters more than fast code.
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _moved(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with other weights and other seeds, and the same numbers."""
    seeds = [part + 1 if jnp.issubdtype(part.dtype, jnp.integer) else part for part in state["other"]]
    return {**state, "trainable": tuple(part * 1.01 for part in state["trainable"]), "other": tuple(seeds)}


def _unused_seeds(model: keras.Model, slots: Mapping[str, Slot]) -> set[int]:
    """Return the ids of seeds that only lifted zeros draw from. Plain zeros do not draw; no output depends on these draws."""
    owners = Counter(
        id(generator.state)
        for layer in lifting.layers_of(model)
        for generator in {id(g): g for g in vars(layer).values() if isinstance(g, keras.random.SeedGenerator)}.values()
    )
    off = [slot.owner for slot in slots.values() if isinstance(slot.owner, keras.layers.Layer) and not slot.get()]
    seeds = [id(layer.seed_generator.state) for layer in off if hasattr(layer, "seed_generator")]
    return {seed for seed in seeds if owners[seed] == 1}


def _precision(model: keras.Model) -> float:
    dtypes = {layer.compute_dtype for layer in lifting.layers_of(model)}
    return max((float(jnp.finfo(dtype).eps) for dtype in dtypes if dtype and "float" in dtype), default=1.2e-7)


def _first_difference(lifted: Mapping[str, Any], plain: Mapping[str, Any], weights: Any, precision: float) -> str:
    """Name the first part in which two steps differ by more than rounding."""
    for part in plain:
        # Compare weight updates, not weights: an update is small beside its weight.
        base = list(weights) if part == "weights" else [0.0] * len(jax.tree.leaves(plain[part]))
        # Some gradients are only rounding error, such as that of a bias before a batch normalization.
        largest = max(
            (float(np.abs(np.nan_to_num(leaf)).max()) for leaf in jax.tree.leaves(plain[part]) if np.size(leaf)),
            default=0.0,
        )
        floor = 0.1 * largest if part == "gradients" else 0.0
        for one, two, before in zip(jax.tree.leaves(lifted[part]), jax.tree.leaves(plain[part]), base, strict=True):
            a, b, start = (np.asarray(x, np.float64) for x in (one, two, before))
            finite = np.isfinite(b)
            if not np.array_equal(finite, np.isfinite(a)):
                return part
            if not finite.any():
                continue
            change = np.abs((b - start) * finite).max()
            allowed = precision * (TOLERANCE * max(change, floor) + 4 * np.abs(b[finite]).max()) + 1e-30
            if np.abs(a[finite] - b[finite]).max() > allowed:
                return part
    return ""
