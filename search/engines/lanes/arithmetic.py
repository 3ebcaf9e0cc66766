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
    told = _shown(parts, state, metrics, batches.train, batches.validation)
    if _updates_by_code_of_its_own(model) or told.has_own_gradient:
        return told.text + _shown(whole, state, metrics, batches.train).text
    return told.text


def _loss(model: keras.Model, state: Any, metrics: Any, batch: Any) -> Any:
    """Return what Keras takes the gradient of: (loss, (loss, outputs, statistics, metrics))."""
    rows = (*batch, *([None] * (3 - len(batch))))
    trainable, other, optimizer = (list(state[part]) for part in ("trainable", "other", "optimizer"))
    return model.compute_loss_and_updates(
        trainable, other, metrics, *rows, training=True, optimizer_variables=optimizer
    )


def _shown(function: Any, *arguments: Any) -> _Told:
    told = _Told()
    traced = jax.make_jaxpr(function)(*arguments)
    told.text = told.closed(traced)
    return told


# Gradients by a rule of one's own, and arithmetic over lanes by one: a trace without gradients and lanes doesn't show them.
_OWN_GRADIENT = frozenset({"custom_vjp_call", "custom_lin"})
_OWN_LANES = frozenset({"custom_vmap_call"})
_OF_JAX = str(Path(jax.__file__).parent)
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class _Told:
    """A jaxpr as a text, with all that it holds.

    JAX's own printing leaves out the constants of inner jaxprs, shortens arrays, and names rules for gradients only.

    Attributes:
        text: the digest of the jaxpr.
        has_own_gradient: whether a function in it has a rule for its gradient that isn't JAX's.
    """

    def __init__(self) -> None:
        self.text = ""
        self.has_own_gradient = False
        self._known: dict[int, tuple[str, Any]] = {}

    def closed(self, jaxpr: ClosedJaxpr) -> str:
        return _digest(self.open(jaxpr.jaxpr), *map(self._value, jaxpr.consts))

    def open(self, jaxpr: Jaxpr) -> str:
        if id(jaxpr) not in self._known:
            # Kept with its jaxpr: an identity in memory is given anew once its owner is gone.
            self._known[id(jaxpr)] = self._lines(jaxpr), jaxpr
        return self._known[id(jaxpr)][0]

    def _lines(self, jaxpr: Jaxpr) -> str:
        numbers: dict[Any, int] = {}

        def defined(variables: Any) -> str:
            return " ".join(f"{numbers.setdefault(v, len(numbers))}:{v.aval.str_short()}" for v in variables)

        def used(atoms: Any) -> str:
            return " ".join(
                f"{self._value(a.val)}:{a.aval.str_short()}" if isinstance(a, Literal) else str(numbers[a])
                for a in atoms
            )

        lines = [defined((*jaxpr.constvars, *jaxpr.invars))]
        for equation in jaxpr.eqns:
            self._look_at(equation)
            params = " ".join(f"{key}={self._value(value)}" for key, value in sorted(equation.params.items()))
            lines.append(f"{used(equation.invars)} {equation.primitive.name} {params} {defined(equation.outvars)}")
        return _digest(*lines, used(jaxpr.outvars))

    def _look_at(self, equation: Any) -> None:
        name = equation.primitive.name
        if "_callback" in name:
            raise NotLiftable("a step of it calls back into Python, which can't be compared between trials")
        if name in _OWN_LANES:
            raise NotLiftable(
                "a step of it has a rule of its own for many rows at once (custom_vmap), which no trace shows"
            )
        if name == "custom_jvp_call":
            where = equation.params["jvp_jaxpr_fun"].debug_info.func_src_info
            self.has_own_gradient |= f" at {_OF_JAX}" not in where
        self.has_own_gradient |= name in _OWN_GRADIENT

    def _value(self, value: Any) -> str:
        if isinstance(value, ClosedJaxpr | Jaxpr):
            return self.closed(value) if isinstance(value, ClosedJaxpr) else self.open(value)
        if isinstance(value, Mapping):
            return _digest(*(f"{key}={self._value(inner)}" for key, inner in value.items()))
        if isinstance(value, tuple | list):
            return f"({' '.join(map(self._value, value))})"
        if hasattr(value, "__array__"):
            is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(value) if is_key else value)
            return _digest(f"{array.shape}{array.dtype}", array.tobytes()) if array.shape else repr(array.item())
        # Strip memory addresses: they differ between functions that are alike.
        return _ADDRESS.sub("", repr(value))


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else part.encode())
        found.update(b"\n")
    return found.hexdigest()


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
