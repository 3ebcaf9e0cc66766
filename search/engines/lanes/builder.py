"""Builds members ahead of need: in a thread, and on the host's memory, while the device trains others."""

from __future__ import annotations

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
from search.engines.training import ReadConfig, Trainer
from search.spec.usercode import Reference
from search.trials.events import Assignment, Member


@dataclass(frozen=True, slots=True)
class Built:
    """A member before its first epoch. `model` serves as a template where no program has its key yet.

    Attributes:
        structure: the key of what its layers, optimizer, loss and metrics tell of themselves.
        text: what its steps compute; "" until `identified`.
        why_alone: why its numbers are constants of a program of its own; "": they live in its state.
    """

    assignment: Assignment
    model: keras.Model
    described: dict[str, Any]
    structure: str
    batch_size: int
    state: State
    text: str = ""
    why_alone: str = ""

    @property
    def key(self) -> str:
        """The program key: members that have it in common compute alike, and share a program."""
        return f"{self.structure}-{arithmetic.key_of(self.text)}"

    @property
    def slots(self) -> dict[str, lifting.Slot]:
        """Where its lifted numbers stand."""
        return {} if self.why_alone else lifting.slots(self.model)


# Models of our own builders and Keras's own losses and metrics hide nothing: after so many alike, the rest are not traced.
TRACED = 2


class Builder:
    """Builds one member after the other, in the order in which they are prefetched."""

    def __init__(self, trainer: Trainer, rows: Rows) -> None:
        self._trainer, self._rows = trainer, rows
        self.is_ours = is_ours(trainer)
        self._texts: dict[str, list[str]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="builder")
        self._coming: dict[Member, Future[Built]] = {}

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to build a member, unless that has begun already. May be called from any thread."""
        if assignment.member not in self._coming:
            self._coming[assignment.member] = self._thread.submit(self.build, assignment)

    def get(self, assignment: Assignment) -> Built:
        """Return a member when it is built; raises what its builder raised."""
        self.prefetch(assignment)
        return self._coming.pop(assignment.member).result()

    def build(self, assignment: Assignment, *, why_alone: str = "") -> Built:
        """Build a member now, in this thread; one that can't be lifted, or compared with others, for a program of its own."""
        # Under one lock: what a builder leaves in a global is still its own when its model is traced.
        with lifting.KERAS_STATE:
            if not why_alone:
                try:
                    return self._shared(assignment)
                except lifting.NotLiftable as error:
                    why_alone = str(error)
            return build(self._trainer, assignment, why_alone=why_alone)

    def _shared(self, assignment: Assignment) -> Built:
        built = build(self._trainer, assignment)
        texts = self._texts.setdefault(built.structure, [])
        if self.is_ours and len(texts) >= TRACED and len(set(texts)) == 1:
            return replace(built, text=texts[0])
        built = identified(built, self._rows)
        texts.append(built.text)
        return built

    def forget(self, member: Member) -> None:
        """Give up a member that will not train."""
        if coming := self._coming.pop(member, None):
            coming.cancel()

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def is_ours(trainer: Trainer) -> bool:
    """Whether no code of the user's has a part in the models of a study."""
    model, train = trainer.settings.model, trainer.settings.train
    named = [entry for entry in (model.build, train.loss, *(train.metrics or ())) if isinstance(entry, str)]
    return all(Reference.parse(entry, trainer.base) is None for entry in named)


def build(trainer: Trainer, assignment: Assignment, *, why_alone: str = "") -> Built:
    """Build one member; raises NotLiftable, or what the user's builder raises."""
    config = ReadConfig(assignment.config)
    batch_size = int(config["batch_size"])
    # On the host: otherwise every small operation of an initializer would queue behind the training on the device.
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]):
        model = trainer.model(config, assignment.seed)
        if not why_alone and (changed := trainer.pins.changed()):
            # Members are built while others train: what one sets would reach the others' programs.
            raise lifting.NotLiftable(f"its builder sets {', '.join(changed)} for the whole process")
        with _lifting_faults(model):
            keys.check(model)
            lifting.prepare(model)
            found = {} if why_alone else lifting.slots(model)
            state = state_of(model, found)
            if why_alone:
                alone = f"trial {assignment.member.trial}.{assignment.member.replica}"
                return Built(assignment, model, {}, alone, batch_size, state, why_alone=why_alone)
            described = keys.describe(model, found, batch_size)
            return Built(assignment, model, described, keys.program_key(described), batch_size, state)


def identified(built: Built, rows: Rows) -> Built:
    """Return a member that has just been built with the text of what it computes; NotLiftable if it can't be traced."""
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]), _lifting_faults(built.model):
        batches = arithmetic.Batches.of(rows.train, rows.validation, built.batch_size)
        text = arithmetic.text(built.model, built.slots, built.state, batches)
    return replace(built, text=text)


@contextmanager
def _lifting_faults(model: keras.Model) -> Iterator[None]:
    """Turn what a model raises while it is taken apart into NotLiftable."""
    try:
        yield
    except lifting.NotLiftable:
        raise
    except BaseException as error:
        if memory.is_short(error):
            memory.tell(error, memory.size_of(model))
            raise
        raise lifting.NotLiftable(f"it can't be taken apart: {failures.one_line(error)}") from error
