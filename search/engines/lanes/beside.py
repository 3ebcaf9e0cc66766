"""Trains members beside the lanes, by `model.fit` in the same process: those whose programs would have too few trials."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from jax._src.config import persistent_cache_min_compile_time_secs
from numpy.typing import NDArray

from search.engines import model_memory
from search.engines.checkpoints import Checkpoints
from search.engines.fit import JAX_CACHE_TRIALS, LONG_COMPILATION_S, FitEngine
from search.engines.lanes.lifting import KERAS_STATE
from search.engines.training import Trainer
from search.trials.events import Assignment, EpochEnd, Event, Failed, Member, Verdict

# Event: a trial is trained beside the lanes.
BESIDE = "trained by fit beside the lanes"


@dataclass
class _Training:
    """A member and the engine that trains it alone. `epoch` is its last complete epoch; `is_over`: no epoch follows."""

    assignment: Assignment
    engine: FitEngine
    epoch: int = 0
    has_begun: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class ShortOfMemory:
    """A member that could not be trained for lack of memory; `assignment` says how many epochs it had completed."""

    assignment: Assignment
    error: BaseException


class Beside:
    """Trains members one after another, each by one epoch in every pass, as lanes do: so all trials stay in step.

    Only one pass runs at a time, in a thread of its own, while the device trains the lanes.
    """

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints) -> None:
        self._trainer, self._checkpoints = trainer, checkpoints
        self._trainings: dict[Member, _Training] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside")
        self._trained = 0

    def __len__(self) -> int:
        return len(self._trainings)

    @property
    def members(self) -> list[Member]:
        """The members that have been started and not ended."""
        return list(self._trainings)

    def start(self, assignment: Assignment) -> None:
        """Accept a member whose model is within the study's limits; its first epoch begins in the next pass."""
        engine = FitEngine(self._trainer, self._checkpoints, setup=_setting_up, checks_limits=False)
        self._trainings[assignment.member] = _Training(assignment, engine)

    def begin(self) -> Future[list[Event]]:
        """Begin a pass: every member trains one epoch, after recomputing its stored ones. The result is a list of events."""
        return self._thread.submit(self._advance)

    def keep(self, member: Member, path: Path) -> str:
        """Write the best weights of a member; return the error text, or ""."""
        return self._trainings[member].engine.keep(member, path)

    def states(self) -> Iterator[tuple[Assignment, int, dict[str, NDArray[Any]]]]:
        """Yield what a checkpoint holds of each member. Call it between passes."""
        for training in self._trainings.values():
            yield from training.engine.states()

    def free(self, members: set[Member]) -> None:
        """End members. Call it between passes."""
        for member in sorted(members & self._trainings.keys()):
            training = self._trainings.pop(member)
            if training.has_begun:
                training.engine.apply([Verdict(member, ends=True)])
                self._trained += 1
        # Not while others train: they would trace their steps again.
        if self._trained >= JAX_CACHE_TRIALS and not self._trainings:
            self._trained = 0
            with KERAS_STATE:
                jax.clear_caches()

    def take_short_of_memory(self) -> list[ShortOfMemory]:
        """Remove and return the members that failed for lack of memory. Call it between passes."""
        short = [
            ShortOfMemory(replace(one.assignment, done=max(one.assignment.done, one.epoch)), error)
            for one in self._trainings.values()
            if (error := one.engine.error) is not None and model_memory.is_short(error)
        ]
        self.free({one.assignment.member for one in short})
        return short

    def close(self) -> None:
        """End all members and the thread."""
        self.free(set(self._trainings))
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _advance(self) -> list[Event]:
        return [event for _, training in sorted(self._trainings.items()) for event in _epoch(training)]


def _epoch(training: _Training) -> Iterator[Event]:
    """Train a member by one epoch, after recomputing its stored ones; yield the events."""
    engine, assignment = training.engine, training.assignment
    stored = min(assignment.done, assignment.epochs - 1)
    while not training.is_over:
        if training.has_begun:
            engine.apply([Verdict(assignment.member, ends=False)])
        else:
            training.has_begun = True
            engine.start(assignment)
        for event in engine.advance():
            yield event
            if not isinstance(event, EpochEnd):
                training.is_over = True
                return
            training.epoch = event.epoch
        if training.epoch > stored:
            return


@contextmanager
def _setting_up() -> Iterator[None]:
    """Keep other threads from changing Keras's state, and what only one trial computes out of the compile cache."""
    with KERAS_STATE, persistent_cache_min_compile_time_secs(LONG_COMPILATION_S):
        yield


def without(events: list[Event], members: set[Member]) -> list[Event]:
    """Return the events except for the failures of members."""
    return [event for event in events if not (isinstance(event, Failed) and event.member in members)]
