"""Checks whether a model is within the limits of its study, before it trains. Runs in a worker process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from search.engines import failures, model_memory
from search.engines.model_memory import TooLarge
from search.engines.training import Trainer, has_call
from search.errors import UsageError
from search.spec.settings import LimitsSection
from search.trials.events import Assignment, Failed, Member, OverLimit

# Calls of a model before its latency is measured, and measured ones: as many as fit into MEASURED_S, within these bounds.
WARM_UPS = 10
LEAST_CALLS, MOST_CALLS = 15, 200
MEASURED_S = 0.5


class OverLimitError(Exception):
    """A model is beyond a limit of its study; the message has its size or latency, and the limit."""


def check(trainer: Trainer, model: keras.Model, assignment: Assignment) -> None:
    """Raise OverLimitError if a member's compiled model is beyond a limit of its study."""
    limits = trainer.settings.limits
    check_size(limits, model, assignment)
    if limits.latency_ms is not None and is_checked(assignment):
        check_latency(limits, latency_ms(model, trainer.data.x_train))


def is_checked(assignment: Assignment) -> bool:
    """Return whether a member is held against the limits: the first of its trial, before its first epoch.

    A trial that has begun is never refused later, because a latency differs from one measurement to the next.
    """
    return assignment.member.replica == 0 and not assignment.done


def check_size(limits: LimitsSection, model: keras.Model, assignment: Assignment) -> None:
    """Raise OverLimitError if a member's compiled model has more parameters or larger weights than allowed."""
    if not limits.are_set or not is_checked(assignment):
        return
    for excess in _excesses(limits, model_memory.parameters_of(model), model_memory.size_of(model).weights):
        raise OverLimitError(excess)


def check_latency(limits: LimitsSection, measured_ms: float) -> None:
    """Raise OverLimitError if a model takes longer than allowed."""
    if limits.latency_ms is not None and measured_ms > limits.latency_ms:
        raise OverLimitError(
            f"it takes {measured_ms:.3g} ms for one row; limits.latency_ms allows {limits.latency_ms:g}"
        )


def latency_ms(model: keras.Model, rows: Any) -> float:
    """Return the median time in milliseconds that a model takes for one row, on the device that trains.

    The call is compiled, and begins and ends with arrays in the host's memory. `rows` are training rows as `fit` gets them.
    """
    one = keras.tree.map_structure(lambda array: array[:1], rows)
    call = _compiled(model)
    for _ in range(WARM_UPS):
        call(one)
    times: list[float] = []
    until = time.perf_counter() + MEASURED_S
    while len(times) < LEAST_CALLS or (len(times) < MOST_CALLS and time.perf_counter() < until):
        began = time.perf_counter()
        call(one)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def check_possible(limits: LimitsSection, model: keras.Model) -> None:
    """Raise UsageError if a model of this kind can't be held against the limits before it trains."""
    if limits.latency_ms is not None and not has_call(model):
        raise UsageError(
            "limits.latency_ms: the model has a train_step and no call, so its latency can't be measured; remove the limit, "
            "or give it a call"
        )
    layers = model._flatten_layers(include_self=has_call(model))
    if (limits.parameters or limits.model_mb) and not all(layer.built for layer in layers):
        raise UsageError(
            "limits: the model gets its weights in its first step, so its size is not known before; build its layers in the "
            "builder, such as by model.build((None, *data.input_shape))"
        )


def warnings(limits: LimitsSection, model: keras.Model) -> Iterator[str]:
    """Yield a warning if the model in the middle of the space is beyond a limit."""
    for excess in _excesses(limits, model_memory.parameters_of(model), model_memory.size_of(model).weights):
        yield f"the config in the middle of the space would be refused: {excess}"


def ending(member: Member, error: BaseException, trainer: Trainer) -> Failed | OverLimit:
    """Return how a member ends that an exception kept from training, or from training on."""
    limits = trainer.settings.limits
    if isinstance(error, OverLimitError):
        return OverLimit(member, str(error))
    if isinstance(error, TooLarge):
        # Building ended early, so these are the least that it has.
        for excess in _excesses(limits, error.parameters, error.weights, "at least "):
            return OverLimit(member, excess)
    return Failed(member, model_memory.reason(error, trainer.memory_limit()), failures.trace(error))


def _excesses(limits: LimitsSection, parameters: int, weights: int, least: str = "") -> Iterator[str]:
    if limits.parameters is not None and parameters > limits.parameters:
        yield f"it has {least}{parameters:,} parameters; limits.parameters allows {limits.parameters:,}"
    if limits.model_mb is not None and weights / 1e6 > limits.model_mb:
        yield f"its weights take {least}{weights / 1e6:.3g} MB; limits.model_mb allows {limits.model_mb:g}"


def _compiled(model: keras.Model) -> Callable[[Any], Any]:
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        # A model of a lane is built in the host's memory.
        trainable, other = (
            jax.device_put([variable.value for variable in variables], device)
            for variables in (model.trainable_variables, model.non_trainable_variables)
        )
        call = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
        return lambda one: jax.tree.map(np.asarray, call((trainable, other), one))
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False), jit_compile=model.jit_compile)
    return lambda one: tf.nest.map_structure(np.asarray, function(tf.nest.map_structure(tf.constant, one)))
