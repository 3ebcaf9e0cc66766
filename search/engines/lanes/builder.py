"""Builds the models of members in advance: in a thread and in the host's memory, while the device trains other members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import keras

from search.engines import failures, model_memory
from search.engines.lanes import arithmetic, keys, lifting
from search.engines.lanes.model_code import has_user_code
from search.engines.lanes.program import Program, Rows, State, state_of
from search.engines.pins import warnings_as_prints
from search.engines.reads import ReadConfig
from search.engines.training import Trainer
from search.errors import UsageError
from search.spec import code_files
from search.trials.events import Assignment, Member


@dataclass(frozen=True, slots=True)
class Built:
    """A member before its first epoch. Its `model` is the template of a new program if no program has its key.

    Attributes:
        structure: key of the configs of its layers, optimizer, loss and metrics; for one alone, its trial and replica.
        kinds: what `lifting.kinds` returns for its slots.
        fingerprint: of what its steps compute; "" before `fingerprinted`.
        why_alone: why it needs a program of its own, with its numbers as constants; "" if they live in its state.
        read: names that its builder and the compilation of its model read from the config.
    """

    assignment: Assignment
    model: keras.Model
    described: dict[str, Any]
    structure: str
    batch_size: int
    state: State
    kinds: frozenset[tuple[str, str, str]] = frozenset()
    fingerprint: str = ""
    why_alone: str = ""
    read: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """The program key: members with the same key share a program."""
        return f"{self.structure}-{arithmetic.short_key(self.fingerprint)}"

    @property
    def structure_at_any_batch_size(self) -> str:
        """The structure without its batch size."""
        return keys.program_key({**self.described, "batch_size": 0})

    @property
    def slots(self) -> dict[str, lifting.Slot]:
        """The slots of its lifted numbers, by path."""
        return {} if self.why_alone else lifting.find_slots(self.model)


# Without user code, equal structures compute the same: after this many equal fingerprints, take that one without tracing.
TRACED = 2


class Builder:
    """Builds one member after another, in the order of `prefetch`. `structures` are those that get programs; empty: all."""

    def __init__(self, trainer: Trainer, rows: Rows, structures: frozenset[str] = frozenset()) -> None:
        self._trainer, self._rows, self._structures = trainer, rows, structures
        self.has_user_code = study_has_user_code(trainer)
        self._fingerprints: dict[str, list[str]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="builder")
        self._futures: dict[Member, Future[Built]] = {}

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to build a member, unless it is already queued. May be called from any thread."""
        if assignment.member not in self._futures:
            self._futures[assignment.member] = self._thread.submit(self._build_ahead, assignment)

    def _build_ahead(self, assignment: Assignment) -> Built:
        with lifting.KERAS_STATE:
            try:
                return self.build(assignment)
            finally:
                self._trainer.pins.set()  # `build` may have changed settings, and other members train meanwhile

    def get(self, assignment: Assignment) -> Built:
        """Wait until a member is built and return it; raises what the user's `build` raised."""
        self.prefetch(assignment)
        return self._futures.pop(assignment.member).result()

    def build(self, assignment: Assignment, *, why_alone: str = "") -> Built:
        """Build a member now, in this thread. If it can't be lifted or compared, build it for a program of its own."""
        # One lock for build and trace: nothing else may change a global in between.
        with lifting.KERAS_STATE:
            if not why_alone:
                try:
                    return self._shared(assignment)
                except lifting.NotLiftable as error:
                    why_alone = failures.cause(error)
            return build(self._trainer, assignment, why_alone=why_alone)

    def is_rare(self, built: Built) -> bool:
        """Whether a member's structure gets no program, since the study is expected to have too few trials of it."""
        return bool(self._structures) and not built.why_alone and built.structure not in self._structures

    def _shared(self, assignment: Assignment) -> Built:
        built = build(self._trainer, assignment)
        if self.is_rare(built):
            return built
        fingerprints = self._fingerprints.setdefault(built.structure, [])
        if not self.has_user_code and len(fingerprints) >= TRACED and len(set(fingerprints)) == 1:
            return replace(built, fingerprint=fingerprints[0])
        built = fingerprinted(built, self._rows)
        fingerprints.append(built.fingerprint)
        return built

    def forget(self, member: Member) -> None:
        """Drop a member that will not train."""
        if future := self._futures.pop(member, None):
            future.cancel()

    def close(self) -> None:
        """Stop building; members that are still queued are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def study_has_user_code(trainer: Trainer) -> bool:
    """Whether a study's models may contain user code: its builder, loss or one of its metrics is in a user's file."""
    return bool(code_files.references(trainer.settings, trainer.base))


def build(trainer: Trainer, assignment: Assignment, *, why_alone: str = "") -> Built:
    """Build one member; raises NotLiftable, or what the user's builder raises."""
    config = ReadConfig(assignment.config)
    batch_size = int(config["batch_size"])
    # On the host: on the device, every small operation of an initializer would wait for the training.
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]):
        model = trainer.model(config, assignment.seed)
        if not why_alone and (changed := trainer.pins.changed()):
            # A process-wide setting would also change the programs of the members that train meanwhile.
            raise lifting.NotLiftable(f"its builder sets {', '.join(changed)} for the whole process")
        with _lifting_faults(model):
            keys.check(model)
            lifting.prepare(model)
            slots = {} if why_alone else lifting.find_slots(model)
            state = state_of(model, slots)
            if why_alone:
                alone = f"trial {assignment.member.trial}.{assignment.member.replica}"
                return Built(assignment, model, {}, alone, batch_size, state, why_alone=why_alone)
            with warnings_as_prints():  # Keras warns of what it can't write down
                described = keys.describe(model, slots, batch_size)
            kinds = lifting.kinds(slots)
            structure, read = keys.program_key(described), frozenset(config.read)
            return Built(assignment, model, described, structure, batch_size, state, kinds, read=read)


def built_or_none(of: Callable[[Mapping[str, Any]], Built], params: Mapping[str, Any]) -> Built | None:
    """Return the model `of` params; None if the user's builder raises, as it will again in a trial with this config."""
    try:
        return of(params)
    except (lifting.NotLiftable, UsageError):
        raise
    except BaseException:  # noqa: BLE001 (the user's code)
        return None


def fingerprinted(built: Built, rows: Rows) -> Built:
    """Trace a member that has just been built and add its fingerprint; NotLiftable if it can't be traced."""
    with lifting.KERAS_STATE, jax.default_device(jax.devices("cpu")[0]), _lifting_faults(built.model):
        shapes = rows.batch_shapes(built.batch_size)
        arithmetic.complete(built.model, shapes)
        if not has_user_code(built.model):
            digest = arithmetic.parts_digest(built.model, built.slots, built.state, shapes)
            if not digest.has_custom_gradient:
                return replace(built, fingerprint=digest.value)
        # Only the whole program shows what user code computes: for example in updates, or in a smaller last batch.
        program = Program(built.model, built.slots, rows, width=1, batch_size=built.batch_size)
        return replace(built, fingerprint=program.digest(built.state))


@contextmanager
def _lifting_faults(model: keras.Model) -> Iterator[None]:
    """Turn what a model raises during lifting into NotLiftable; out of memory passes through."""
    try:
        yield
    except lifting.NotLiftable:
        raise
    except BaseException as error:
        if model_memory.is_short(error):
            model_memory.note_needed(error, model_memory.size_of(model))
            raise
        raise lifting.NotLiftable(
            f"it can't be split into parts for a shared program: {failures.one_line(error)}"
        ) from error
