"""What a model computes in a step: its fingerprint, and a comparison of the lifted step with the plain one.

A model's structure holds only what its layers put into their configs. A number that reaches the arithmetic by another
path (a closure, an argument that `get_config` leaves out) shows only here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from search.engines.lanes import lifting
from search.engines.lanes.lifting import NotLiftable, Slot
from search.engines.training import validation_batch

# In multiples of the arithmetic's precision: a lifted number is rounded to float32 once more than a plain one.
TOLERANCE = 250.0
# A difference counts only if every batch shows it: rounding may switch a single unit of a dropout on or off.
TRIES = 2


@dataclass(frozen=True, slots=True)
class BatchShapes:
    """The shapes and types of a training batch and of a validation batch."""

    train: tuple[jax.ShapeDtypeStruct, ...]
    validation: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, train: tuple[Any, ...], validation: tuple[Any, ...], batch_size: int) -> BatchShapes:
        """Return the shapes and types of batches of the arrays `train` and `validation`."""
        return cls(_first(train, batch_size), _first(validation, validation_batch(batch_size)))


def _first(arrays: tuple[Any, ...], rows: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct((min(rows, len(a)), *a.shape[1:]), a.dtype) for a in arrays)


def complete(model: keras.Model, batches: BatchShapes) -> None:
    """Create the variables of a model's metrics, as Keras does at the first batch."""
    model._symbolic_build(data_batch=tuple(np.zeros((2, *b.shape[1:]), b.dtype) for b in batches.train))


def fingerprint(model: keras.Model, slots: Mapping[str, Slot], state: Mapping[str, Any], batches: BatchShapes) -> str:
    """Return a fingerprint of what training and evaluation compute from a batch; it does not depend on lifted numbers.

    Two models of one structure with equal fingerprints can share a program. Gradients follow from the loss, and weight
    updates from the configs of Keras's own optimizers. If a model has its own code for either, the fingerprint covers the
    whole step. NotLiftable if a step calls back into Python, which a trace does not show. The caller holds KERAS_STATE.
    """
    complete(model, batches)

    def parts(state: Any, metrics: Any, train: Any, validation: Any) -> Any:
        with lifting.bound(slots, state["numbers"]):
            loss = _loss(model, state, metrics, train)
            evaluated = model.test_step((list(state["trainable"]), list(state["other"]), metrics), validation)
        return loss, evaluated

    def whole(state: Any, metrics: Any, train: Any) -> Any:
        with lifting.bound(slots, state["numbers"]):
            carry = (list(state["trainable"]), list(state["other"]), list(state["optimizer"]), metrics)
            return model.train_step(carry, train)

    metrics = [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in model.metrics_variables]
    digest = _traced(parts, state, metrics, batches.train, batches.validation)
    if _has_own_update_code(model) or digest.has_own_gradient:
        return digest.value + _traced(whole, state, metrics, batches.train).value
    return digest.value


def _loss(model: keras.Model, state: Any, metrics: Any, batch: Any) -> Any:
    """Return the value that Keras differentiates: (loss, (loss, outputs, statistics, metrics))."""
    rows = (*batch, *([None] * (3 - len(batch))))
    trainable, other, optimizer = (list(state[part]) for part in ("trainable", "other", "optimizer"))
    return model.compute_loss_and_updates(
        trainable, other, metrics, *rows, training=True, optimizer_variables=optimizer
    )


def _traced(function: Any, *arguments: Any) -> _JaxprDigest:
    digest = _JaxprDigest()
    jaxpr = jax.make_jaxpr(function)(*arguments)
    digest.value = digest.of_closed(jaxpr)
    return digest


# Custom rules for gradients, and for vmap: a trace without gradients and without lanes does not show what they compute.
_OWN_GRADIENT = frozenset({"custom_vjp_call", "custom_lin"})
_OWN_LANES = frozenset({"custom_vmap_call"})
_JAX_FOLDER = str(Path(jax.__file__).parent)
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class _JaxprDigest:
    """A digest of a jaxpr with its constants, inner jaxprs and rules.

    JAX's own printing hides differences: it omits inner constants, shortens arrays and only names gradient rules.

    Attributes:
        value: the digest of the whole jaxpr.
        has_own_gradient: whether a function in the jaxpr has a gradient rule that isn't JAX's.
    """

    def __init__(self) -> None:
        self.value = ""
        self.has_own_gradient = False
        self._known: dict[int, tuple[str, Any]] = {}

    def of_closed(self, jaxpr: ClosedJaxpr) -> str:
        return _digest(self.of_open(jaxpr.jaxpr), *map(self._value, jaxpr.consts))

    def of_open(self, jaxpr: Jaxpr) -> str:
        if id(jaxpr) not in self._known:
            # Keep the jaxpr alive: Python reuses the id of an object that has been freed.
            self._known[id(jaxpr)] = self._lines(jaxpr), jaxpr
        return self._known[id(jaxpr)][0]

    def _lines(self, jaxpr: Jaxpr) -> str:
        ids: dict[Any, int] = {}

        def defined(variables: Any) -> str:
            return " ".join(f"{ids.setdefault(v, len(ids))}:{v.aval.str_short()}" for v in variables)

        def used(atoms: Any) -> str:
            return " ".join(
                f"{self._value(a.val)}:{a.aval.str_short()}" if isinstance(a, Literal) else str(ids[a]) for a in atoms
            )

        lines = [defined((*jaxpr.constvars, *jaxpr.invars))]
        for equation in jaxpr.eqns:
            self._check_rules(equation)
            params = " ".join(f"{key}={self._value(value)}" for key, value in sorted(equation.params.items()))
            lines.append(f"{used(equation.invars)} {equation.primitive.name} {params} {defined(equation.outvars)}")
        return _digest(*lines, used(jaxpr.outvars))

    def _check_rules(self, equation: Any) -> None:
        name = equation.primitive.name
        if "_callback" in name:
            raise NotLiftable("a step of it calls back into Python, which can't be compared between trials")
        if name in _OWN_LANES:
            raise NotLiftable(
                "a step of it has a rule of its own for many rows at once (custom_vmap), which no trace shows"
            )
        if name == "custom_jvp_call":
            source = equation.params["jvp_jaxpr_fun"].debug_info.func_src_info
            self.has_own_gradient |= f" at {_JAX_FOLDER}" not in source
        self.has_own_gradient |= name in _OWN_GRADIENT

    def _value(self, value: Any) -> str:
        if isinstance(value, ClosedJaxpr | Jaxpr):
            return self.of_closed(value) if isinstance(value, ClosedJaxpr) else self.of_open(value)
        if isinstance(value, Mapping):
            return _digest(*(f"{key}={self._value(inner)}" for key, inner in value.items()))
        if isinstance(value, tuple | list):
            return f"({' '.join(map(self._value, value))})"
        if hasattr(value, "__array__"):
            is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(value) if is_key else value)
            return _digest(f"{array.shape}{array.dtype}", array.tobytes()) if array.shape else repr(array.item())
        # Strip memory addresses: they differ between equal functions.
        return _ADDRESS.sub("", repr(value))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _has_own_update_code(model: keras.Model) -> bool:
    """Whether an optimizer, schedule or constraint is not Keras's, so that its `get_config` may be incomplete."""
    parts = [model.optimizer, *(variable.constraint for variable in model.trainable_variables)]
    if isinstance(model.optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        parts.append(model.optimizer._learning_rate)
    trusted = ("keras.", "search.")
    return any(part is not None and not type(part).__module__.startswith(trusted) for part in parts)


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
    size = min(batch_size, len(rows[0]))
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

    def both(state: Any, batch: Any, gradients: Any) -> Any:
        with lifting.bound(slots, state["numbers"]):
            lifted = {**step(batch, state), "weights": update(gradients, state)}
        return lifted, {**step(batch, state), "weights": update(gradients, state)}

    differs = ""
    compiled: Any = None
    for attempt in range(TRIES):
        rng = np.random.default_rng(attempt)
        batch = tuple(np.asarray(array[attempt * size : (attempt + 1) * size]) for array in rows)
        if len(batch[0]) < size:
            return differs
        gradients = [rng.normal(size=w.shape).astype(w.dtype) for w in state["trainable"]]
        # On the host, because the lanes need the device's memory.
        with jax.default_device(jax.devices("cpu")[0]):
            if compiled is None:
                with lifting.KERAS_STATE:
                    lowered = jax.jit(both).lower(state, batch, gradients)
                # It runs only once or twice: fast compilation matters more than fast code.
                compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
            lifted, plain = jax.device_get(compiled(state, batch, gradients))
        differs = _first_difference(lifted, plain, state["trainable"], _precision(model))
        if not differs:
            return ""
    return differs


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
