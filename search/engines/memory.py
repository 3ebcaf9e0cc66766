"""What a model takes while it trains, and what there is for it: one that can't fit is refused before it takes anything."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.utils import dtype_utils

from search.engines import devices, failures

_NEEDED = "of the model, "


class TooLarge(Exception):  # noqa: N818 (a property of a model, not an error of anybody's)
    """A model can't be trained in the memory there is; the message says what it needs and what is there."""


@dataclass(frozen=True, slots=True)
class Size:
    """A model's. `weights` and `training` are bytes: training holds weights, gradients and the optimizer's slots."""

    parameters: int
    weights: int
    training: int

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters take {text(self.weights)}, training them about {text(self.training)} "
            "(weights, gradients, the optimizer's slots)"
        )


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The memory there is: its bytes, and whose they are."""

    bytes: int
    owner: str

    def __str__(self) -> str:
        return f"{self.owner} {text(self.bytes)}"


def text(count: int) -> str:
    """Write a number of bytes for a person."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def limit(worker_memory: int | str = "auto") -> MemoryLimit:
    """Return what a model may take at most, whoever uses it at the moment: the device's memory, or the worker's limit."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1") and (there := _of_gpu()):
        return MemoryLimit(there, "the GPU has")
    found = machine()
    if isinstance(worker_memory, int) and worker_memory < found.bytes:
        return MemoryLimit(worker_memory, "run.worker_memory allows")
    return found


def machine() -> MemoryLimit:
    """Return what this process may take of the machine's memory."""
    found = [MemoryLimit(psutil.virtual_memory().total, "the machine has")]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (told := limit.read_text(encoding="ascii").strip()).isdigit():
        found.append(MemoryLimit(int(told), "the container has"))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        found.append(MemoryLimit(soft, "the process may have"))
    return min(found, key=lambda one: one.bytes)


@cache
def _of_gpu() -> int:
    """Return the bytes of this worker's GPU; 0 if there is none, or nobody tells."""
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else {}
        return int((stats or {}).get("bytes_limit", 0))
    return devices.memory_of(os.environ["CUDA_VISIBLE_DEVICES"])


def size_of(model: keras.Model) -> Size:
    """Return what a compiled model takes; of an optimizer that has no slots yet it is an estimate."""
    weights, gradients, optimizer = _bytes(model.weights), _bytes(model.trainable_variables), model.optimizer
    is_built = optimizer is not None and optimizer.built
    slots = _bytes(optimizer.variables) if is_built else gradients * _slots(optimizer)
    return Size(parameters_of(model), weights, weights + gradients + slots)


def parameters_of(model: keras.Model) -> int:
    """Return how many numbers a model learns or keeps; of one that its first step builds, those that are there by now."""
    return sum(math.prod(variable.shape) for variable in model.weights)


def _bytes(variables: Iterable[Any]) -> int:
    return sum(math.prod(variable.shape) * dtype_utils.dtype_size(variable._dtype) // 8 for variable in variables)


def _slots(optimizer: Any) -> int:
    """Return how many numbers an optimizer keeps for each weight: seen on one weight that costs nothing."""
    try:
        other = type(optimizer).from_config(optimizer.get_config())
        other.build([keras.Variable(np.zeros((2, 3), np.float32))])
        return sum(tuple(variable.shape) == (2, 3) for variable in other.variables)
    except Exception:  # noqa: BLE001 (the user's optimizer: then they are left out of the estimate)
        return 0


@dataclass
class Watch:
    """Counts the weights of a model while it is built. When they exceed the limit, nothing more is allocated."""

    limit: MemoryLimit
    parameters: int = 0
    weights: int = 0
    initialize: Callable[[Any, Any], None] = field(default=keras.Variable._initialize_with_initializer)

    @property
    def is_too_much(self) -> bool:
        return self.weights > self.limit.bytes

    def begin(self, variable: Any, initializer: Callable[..., Any]) -> None:
        """Give a variable its first value, or only the shape of it."""
        self.parameters += math.prod(variable._shape)
        self.weights += _bytes([variable])
        if not self.is_too_much:
            self.initialize(variable, initializer)
            return

        def stand_in(*arguments: Any, **options: Any) -> Any:
            # While Keras only looks at shapes, what an initializer gives is never computed.
            if in_stateless_scope():
                return initializer(*arguments, **options)
            raise self.refusal()

        variable._value, variable._initializer = None, stand_in

    @property
    def so_far(self) -> str:
        return f"the first {self.parameters:,} of its parameters take {text(self.weights)}"

    def refusal(self, model: keras.Model | None = None) -> TooLarge:
        """Return why the model is refused: with its size, or what of it is known."""
        if model is not None:
            return TooLarge(f"the model is too large: {size_of(model)}; {self.limit}")
        return TooLarge(f"the model is too large: {self.so_far}; {self.limit}")

    def check(self, model: keras.Model) -> None:
        """Refuse a compiled model, TooLarge, if it can't be trained in the memory there is."""
        # Five is more than any optimizer keeps; looking for its slots takes a millisecond, which small models are spared.
        if self.is_too_much or (self.weights * 7 > self.limit.bytes and size_of(model).training > self.limit.bytes):
            raise self.refusal(model)


@contextmanager
def watched(there: MemoryLimit) -> Iterator[Watch]:
    """Let a model be built inside, within the memory limit; TooLarge beyond it.

    One at a time in a process, like everything that Keras keeps in globals.
    """
    watch = Watch(there)
    kind = keras.Variable
    before = kind._initialize_with_initializer

    def begin(variable: Any, initializer: Any) -> None:
        watch.begin(variable, initializer)

    kind._initialize_with_initializer = begin
    try:
        yield watch
    except Exception as error:
        if watch.is_too_much:
            # A variable without a value can make a builder, and Keras, raise anything.
            raise watch.refusal() from None
        if is_short(error) and watch.parameters:
            note_needed(error, watch.so_far)
        raise
    finally:
        kind._initialize_with_initializer = before


def is_short(error: BaseException) -> bool:
    """Whether an exception says that memory is used up: the host's, TensorFlow's or JAX's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    # JAX's has one type for all faults of a device, and is INTERNAL where dispatching found no memory.
    said = failures.message(error)
    return any(words in said for words in ("RESOURCE_EXHAUSTED", "Out of memory"))


def note_needed(error: BaseException, needed: object) -> None:
    """Let an exception that says that memory is short know what was needed, for `reason`."""
    error.add_note(f"{_NEEDED}{needed}")


def reason(error: BaseException, there: MemoryLimit) -> str:
    """Name an exception out of a member in one line; if memory was short, with what was needed and what is there."""
    if isinstance(error, TooLarge):
        return str(error)
    if not is_short(error):
        return failures.one_line(error)
    # JAX leaves notes of its own.
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_NEEDED)]
    return "; ".join([f"out of memory: {there}", *(notes[-1:]), failures.one_line(error)])
