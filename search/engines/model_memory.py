"""The memory that a model needs in training, and its limit: a model that does not fit is refused before it allocates."""

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

from search.engines import devices, failures, pins

_NEEDED = "of the model, "


class TooLarge(Exception):  # noqa: N818 (a property of a model, not a fault)
    """A model does not fit into memory while it trains; the message has its size and the limit.

    `parameters` and the bytes of `weights` are those of the model, or of as much as has been built.
    """

    def __init__(self, message: str, parameters: int, weights: int) -> None:
        super().__init__(message)
        self.parameters, self.weights = parameters, weights


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a model. `weights` and `training` are bytes; `training`: weights, gradients and the optimizer's slots."""

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
    """A memory limit in bytes. `owner` begins the printed text, such as "the GPU has"."""

    bytes: int
    owner: str

    def __str__(self) -> str:
        return f"{self.owner} {text(self.bytes)}"


def text(count: int) -> str:
    """Format a number of bytes for a person."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def limit(worker_memory: int | str = "auto") -> MemoryLimit:
    """Return the memory limit of a model: the device's total memory (free or not), or the worker's limit if it is lower."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1") and (gpu_bytes := _gpu_bytes()):
        return MemoryLimit(gpu_bytes, "the GPU has")
    host = machine()
    if isinstance(worker_memory, int) and worker_memory < host.bytes:
        return MemoryLimit(worker_memory, "run.worker_memory allows")
    return host


def machine() -> MemoryLimit:
    """Return the lowest limit on this process's memory: of the machine, its container or the process."""
    limits = [MemoryLimit(psutil.virtual_memory().total, "the machine has")]
    cgroup = Path("/sys/fs/cgroup/memory.max")
    if cgroup.exists() and (value := cgroup.read_text(encoding="ascii").strip()).isdigit():
        limits.append(MemoryLimit(int(value), "the container has"))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(MemoryLimit(soft, "the process may have"))
    return min(limits, key=lambda limit: limit.bytes)


@cache
def _gpu_bytes() -> int:
    """Return the memory of this worker's GPU in bytes; 0 if there is none or its driver reports none."""
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else {}
        return int((stats or {}).get("bytes_limit", 0))
    return devices.memory_of(os.environ["CUDA_VISIBLE_DEVICES"])


def size_of(model: keras.Model) -> Size:
    """Return the size of a compiled model; an estimate if its optimizer has no slots yet."""
    weights, gradients, optimizer = _bytes(model.weights), _bytes(model.trainable_variables), model.optimizer
    is_built = optimizer is not None and optimizer.built
    slots = _bytes(optimizer.variables) if is_built else gradients * _slots(optimizer)
    return Size(parameters_of(model), weights, weights + gradients + slots)


def parameters_of(model: keras.Model) -> int:
    """Return the number of a model's parameters; of a model that its first step builds, those that exist now."""
    return sum(math.prod(variable.shape) for variable in model.weights)


def _bytes(variables: Iterable[Any]) -> int:
    return sum(math.prod(variable.shape) * dtype_utils.dtype_size(variable._dtype) // 8 for variable in variables)


def _slots(optimizer: Any) -> int:
    """Return how many numbers an optimizer keeps for each weight, by building a copy of it for one tiny weight."""
    try:
        with pins.warnings_as_prints():
            other = type(optimizer).from_config(optimizer.get_config())
        other.build([keras.Variable(np.zeros((2, 3), np.float32))])
        return sum(tuple(variable.shape) == (2, 3) for variable in other.variables)
    except Exception:  # noqa: BLE001 (the user's optimizer: the estimate then omits its slots)
        return 0


@dataclass
class Watch:
    """Counts the weights of a model while it is built. Once they exceed the limit, further variables get no memory."""

    limit: MemoryLimit
    parameters: int = 0
    weights: int = 0
    initialize: Callable[[Any, Any], None] = field(default=keras.Variable._initialize_with_initializer)

    @property
    def is_too_much(self) -> bool:
        return self.weights > self.limit.bytes

    def begin(self, variable: Any, initializer: Callable[..., Any]) -> None:
        """Initialize a variable; beyond the limit, give it a shape but no value."""
        self.parameters += math.prod(variable._shape)
        self.weights += _bytes([variable])
        if not self.is_too_much:
            self.initialize(variable, initializer)
            return

        def stand_in(*arguments: Any, **options: Any) -> Any:
            # In a stateless scope Keras needs shapes only, so the initializer's values are never computed.
            if in_stateless_scope():
                return initializer(*arguments, **options)
            raise self.refusal()

        variable._value, variable._initializer = None, stand_in

    @property
    def so_far(self) -> str:
        return f"the first {self.parameters:,} of its parameters take {text(self.weights)}"

    def refusal(self, model: keras.Model | None = None) -> TooLarge:
        """Return the error for the model: with its size, or with the size of what has been built so far."""
        if model is not None:
            size = size_of(model)
            return TooLarge(f"the model is too large: {size}; {self.limit}", size.parameters, size.weights)
        return TooLarge(f"the model is too large: {self.so_far}; {self.limit}", self.parameters, self.weights)

    def check(self, model: keras.Model) -> None:
        """Raise TooLarge if a compiled model does not fit into memory while it trains."""
        # 7: weights, gradients and at most 5 slots of any optimizer. Counting slots takes a millisecond: skip it if small.
        if self.is_too_much or (self.weights * 7 > self.limit.bytes and size_of(model).training > self.limit.bytes):
            raise self.refusal(model)


@contextmanager
def watched(limit: MemoryLimit) -> Iterator[Watch]:
    """Within this context, a model can be built up to the memory limit; TooLarge beyond it.

    Use it once at a time in a process: it patches `keras.Variable`.
    """
    watch = Watch(limit)
    patched = keras.Variable
    before = patched._initialize_with_initializer

    def begin(variable: Any, initializer: Any) -> None:
        watch.begin(variable, initializer)

    patched._initialize_with_initializer = begin
    try:
        yield watch
    except Exception as error:
        if watch.is_too_much:
            # A builder or Keras may raise anything because of a variable without a value.
            raise watch.refusal() from None
        if is_short(error) and watch.parameters:
            note_needed(error, watch.so_far)
        raise
    finally:
        patched._initialize_with_initializer = before


def is_short(error: BaseException) -> bool:
    """Whether an exception means out of memory: of the host, TensorFlow or JAX."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    # JAX has one type for all device errors; out of memory in dispatch has the status INTERNAL, so match its words, too.
    message = failures.message(error)
    return any(words in message for words in ("RESOURCE_EXHAUSTED", "Out of memory"))


def note_needed(error: BaseException, needed: object) -> None:
    """Add a note on the memory that was needed to an out-of-memory exception, for `reason`."""
    error.add_note(f"{_NEEDED}{needed}")


def reason(error: BaseException, limit: MemoryLimit) -> str:
    """Describe a member's exception in one line; for out of memory, with the memory that was needed and the limit."""
    if isinstance(error, TooLarge):
        return str(error)
    if not is_short(error):
        return failures.one_line(error)
    # JAX adds notes, too.
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_NEEDED)]
    return "; ".join([f"out of memory: {limit}", *(notes[-1:]), failures.one_line(error)])
