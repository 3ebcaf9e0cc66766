"""Builds members ahead of need: in a thread, and on the host's memory, while the device trains others."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import keras

from search.engines import failures, memory
from search.engines.lanes import keys, lifting
from search.engines.lanes.program import State, state_of
from search.engines.protocol import Assignment, Member
from search.engines.training import ReadConfig, Trainer


@dataclass(frozen=True, slots=True)
class Built:
    """A member before its first epoch. `model` serves as a template where no program has its key yet."""

    model: keras.Model
    described: dict[str, Any]
    key: str
    batch_size: int
    state: State


class Builder:
    """Builds one member after the other, in the order in which they are foreseen."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="builder")
        self._coming: dict[Member, Future[Built]] = {}

    def foresee(self, assignment: Assignment) -> None:
        """Begin to build a member, unless that has begun already. May be called from any thread."""
        if assignment.member not in self._coming:
            self._coming[assignment.member] = self._thread.submit(build, self._trainer, assignment)

    def get(self, assignment: Assignment) -> Built:
        """Return a member when it is built; raises what its builder raised."""
        self.foresee(assignment)
        return self._coming.pop(assignment.member).result()

    def forget(self, member: Member) -> None:
        """Give up a member that will not train."""
        if coming := self._coming.pop(member, None):
            coming.cancel()

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def build(trainer: Trainer, assignment: Assignment) -> Built:
    """Build one member; raises NotLiftable, or what the user's builder raises."""
    config = ReadConfig(assignment.config)
    batch_size = int(config["batch_size"])
    # On the host: otherwise every small operation of an initializer would queue behind the training on the device.
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]):
        model = trainer.model(config, assignment.seed)
        if changed := trainer.pins.changed():
            # Members are built while others train: what one sets would reach the others' programs.
            raise lifting.NotLiftable(f"its builder sets {', '.join(changed)} for the whole process")
        try:
            lifting.prepare(model)
            described = keys.describe(model, lifting.slots(model), batch_size)
            return Built(model, described, keys.program_key(described), batch_size, state_of(model))
        except lifting.NotLiftable:
            raise
        except Exception as error:
            if memory.is_short(error):
                memory.tell(error, memory.size_of(model))
                raise
            raise lifting.NotLiftable(f"it can't be taken apart: {failures.one_line(error)}") from error
