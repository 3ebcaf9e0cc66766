"""Builds members ahead of need: in a thread, and on the host's memory, while the device trains others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import keras

from search.engines import failures, memory
from search.engines.lanes import arithmetic, keys, lifting
from search.engines.lanes.program import Rows, State, state_of
from search.engines.protocol import Assignment, Member
from search.engines.training import ReadConfig, Trainer


@dataclass(frozen=True, slots=True)
class Built:
    """A member before its first epoch. `model` serves as a template where no program has its key yet.

    Attributes:
        structure: the key of what its layers, optimizer, loss and metrics tell of themselves.
        text: what its steps compute; "" until `identified`.
        is_lifted: whether its numbers live in its state; if not, they are constants of a program of its own.
        seconds: what `identified` took.
    """

    assignment: Assignment
    model: keras.Model
    described: dict[str, Any]
    structure: str
    batch_size: int
    state: State
    text: str = ""
    is_lifted: bool = True
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """The program key: members that have it in common compute alike, and share a program."""
        return f"{self.structure}-{arithmetic.key_of(self.text)}"

    @property
    def slots(self) -> dict[str, lifting.Slot]:
        """Where its lifted numbers stand."""
        return lifting.slots(self.model) if self.is_lifted else {}


class Builder:
    """Builds one member after the other, in the order in which they are foreseen."""

    def __init__(self, trainer: Trainer, rows: Rows) -> None:
        self._trainer, self._rows = trainer, rows
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="builder")
        self._coming: dict[Member, Future[Built]] = {}

    def foresee(self, assignment: Assignment) -> None:
        """Begin to build a member, unless that has begun already. May be called from any thread."""
        if assignment.member not in self._coming:
            self._coming[assignment.member] = self._thread.submit(self.build, assignment)

    def get(self, assignment: Assignment) -> Built:
        """Return a member when it is built; raises what its builder raised."""
        self.foresee(assignment)
        return self._coming.pop(assignment.member).result()

    def build(self, assignment: Assignment, *, is_lifted: bool = True) -> Built:
        """Build a member now, in this thread."""
        # Under one lock: what a builder leaves in a global is still its own when its model is traced.
        with lifting.KERAS_STATE:
            return identified(build(self._trainer, assignment, is_lifted=is_lifted), self._rows)

    def forget(self, member: Member) -> None:
        """Give up a member that will not train."""
        if coming := self._coming.pop(member, None):
            coming.cancel()

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def build(trainer: Trainer, assignment: Assignment, *, is_lifted: bool = True) -> Built:
    """Build one member; raises NotLiftable, or what the user's builder raises."""
    config = ReadConfig(assignment.config)
    batch_size = int(config["batch_size"])
    # On the host: otherwise every small operation of an initializer would queue behind the training on the device.
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]):
        model = trainer.model(config, assignment.seed)
        with _lifting_faults(model):
            keys.check(model)
            lifting.prepare(model)
            found = lifting.slots(model) if is_lifted else {}
            described = keys.describe(model, found, batch_size)
            state = state_of(model, found)
            structure = keys.program_key(described)
            return Built(assignment, model, described, structure, batch_size, state, is_lifted=is_lifted)


def identified(built: Built, rows: Rows) -> Built:
    """Return a member that has just been built with the text of what it computes; NotLiftable if it can't be traced."""
    began = time.perf_counter()
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]), _lifting_faults(built.model):
        batches = arithmetic.Batches.of(rows.train, rows.validation, built.batch_size)
        text = arithmetic.text(built.model, built.slots, built.state, batches)
    return replace(built, text=text, seconds=time.perf_counter() - began)


@contextmanager
def _lifting_faults(model: keras.Model) -> Iterator[None]:
    """Turn what a model raises while it is taken apart into NotLiftable."""
    try:
        yield
    except lifting.NotLiftable:
        raise
    except Exception as error:
        if memory.is_short(error):
            memory.tell(error, memory.size_of(model))
            raise
        raise lifting.NotLiftable(f"it can't be taken apart: {failures.one_line(error)}") from error
