"""The lanes engine: at every tick it trains all members by one epoch, in lanes or beside them. Runs in a worker process."""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from search.data.stored_images import StoredImages
from search.engines import failures, model_limits, model_memory
from search.engines.checkpoints import Checkpoints
from search.engines.lanes import beside, sizing
from search.engines.lanes.beside import BESIDE, Beside
from search.engines.lanes.blocks import Lane
from search.engines.lanes.callbacks import LaneCallbacks
from search.engines.lanes.program import Program, Rows, State
from search.engines.lanes.programs import Programs, is_device_error
from search.engines.logs import numbers
from search.engines.protocol import Declined, EngineRequest, MadeEngine
from search.engines.training import Trainer
from search.trials.events import Assignment, EpochEnd, Event, Failed, Member, Noted, OverLimit, Stopped, Verdict

# Decided at a study's first start; every later worker gets these values.
_DECIDED = ("places", "ahead", "programs", "width")


def make(request: EngineRequest) -> MadeEngine:
    """Make the engine with the lanes that were decided, or else that fit; NotLiftable if lanes can't train the models."""
    if isinstance(request.trainer.data.x_train, StoredImages):
        raise Declined("its images are read as they are needed (data.lazy), and lanes need all rows on the device")
    rows = sizing.rows_of(request.trainer)
    if request.lanes:
        places, ahead, programs, width = (request.lanes[name] for name in _DECIDED)
        chosen = sizing.Lanes(places, ahead, programs, width, structures=tuple(request.structures))
    else:
        chosen = sizing.choose(
            request.trainer, rows, request.fixed, workers=request.workers, is_asked_for=request.is_chosen
        )
    engine = LanesEngine(
        request.trainer,
        rows,
        places=chosen.places,
        width=chosen.width,
        programs=chosen.programs,
        structures=chosen.structures,
        compiled=chosen.compiled,
        checkpoints=request.checkpoints,
    )
    lanes = {name: getattr(chosen, name) for name in _DECIDED}
    return MadeEngine(engine, lanes, chosen.memory, chosen.structures, chosen.counted)


class LanesEngine:
    """Trains up to `places` members at once, in blocks of at most `width` lanes; further members wait in a queue.

    Args:
        programs: how many the study is expected to need; a structure with more keys than that gets programs of one lane.
        structures: those that get programs; members of others train by `model.fit` beside the lanes. Empty: all get them.
        compiled: programs that are already compiled, by key.
    """

    def __init__(
        self,
        trainer: Trainer,
        rows: Rows,
        *,
        places: int,
        width: int,
        programs: int = 1,
        structures: Sequence[str] = (),
        compiled: Mapping[str, Program] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.checkpoints = checkpoints or Checkpoints(None)
        self._rows = rows
        self._places = places
        self._events: list[Event] = []
        self._programs = Programs(
            trainer,
            rows,
            self._events,
            width=width,
            expected=programs,
            structures=frozenset(structures),
            compiled=compiled or {},
        )
        self._beside = Beside(trainer, self.checkpoints)
        name, sign = trainer.objective
        objective = (name, "maximize" if sign > 0 else "minimize")
        self._callbacks = LaneCallbacks(trainer.settings.train.callbacks, self.checkpoints.files, objective)
        self._waiting: deque[Assignment] = deque()
        self._orders: dict[Member, tuple[int, NDArray[np.int64]]] = {}
        self._is_short_of_memory = False
        self._trainer = trainer
        self._size: model_memory.Size | None = None
        self._retried_alone: Member | None = None
        self._build_s = 0.0
        gc.collect()
        gc.freeze()

    @property
    def seconds(self) -> dict[str, float]:
        return {"compile": self._programs.compile_s, "build": self._build_s}

    @property
    def traces(self) -> int:
        """How often programs have been traced: once per program, however often its lanes are refilled."""
        return sum(loaded.program.traces for loaded in self._programs.loaded.values())

    @property
    def members(self) -> list[Member]:
        """The members that have been started and not ended."""
        in_lanes, waiting = (lane.member for lane in self._programs.lanes), (one.member for one in self._waiting)
        return sorted([*in_lanes, *self._beside.members, *waiting])

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to build a member that will be started later. May be called from any thread."""
        if not self._is_short_of_memory:
            self._programs.builder.prefetch(assignment)

    def start(self, assignment: Assignment) -> None:
        self.prefetch(assignment)
        self._waiting.append(assignment)

    def advance(self) -> Sequence[Event]:
        trained: list[Event] = []
        by_fit: Future[list[Event]] | None = None
        while True:
            try:
                self._fill_places()
                by_fit = by_fit or self._beside.begin()
                try:
                    trained += self._train()
                finally:
                    wait([by_fit])  # nothing may be freed while a member trains
            except (jax.errors.JaxRuntimeError, ValueError) as error:
                # Any other device error ends the worker without failing a member.
                if not is_device_error(error) or not model_memory.is_short(error):
                    raise
                self._reduce_places(error)
            else:
                trained += self._retry_the_short(by_fit.result())
                pending = [*self._events]
                self._events.clear()
                return [*pending, *sorted(trained, key=_by_member_and_epoch)]

    def _retry_the_short(self, events: list[Event]) -> list[Event]:
        """Let members beside the lanes that lacked memory begin anew, with fewer places; return the other events."""
        if self._places == 1 or not (short := self._beside.take_short_of_memory()):
            return events
        self._waiting.extendleft(one.assignment for one in reversed(short))
        self._reduce_places(short[0].error)
        return beside.without(events, {one.assignment.member for one in short})

    def save(self) -> None:
        """Write a checkpoint of all lanes if one is due."""
        if self.checkpoints.is_due:
            self.checkpoints.save(chain(self._states(), self._beside.states()))

    def _states(self) -> Iterator[tuple[Assignment, int, dict[str, NDArray[Any]]]]:
        for loaded in self._programs.loaded.values():
            for block, lanes in loaded.blocks:
                leaves = jax.tree.leaves(block.on_host()) if lanes else []
                for number, lane in lanes.items():
                    state = {str(i): leaf[number] for i, leaf in enumerate(leaves)}
                    yield lane.assignment, lane.epoch, state

    def keep(self, member: Member, path: Path) -> str:
        """Write the best weights of a member that trains; return the error text, or ""."""
        if member in self._beside.members:
            return self._beside.keep(member, path)
        for loaded in self._programs.loaded.values():
            for block, lanes in loaded.blocks:
                for number, lane in lanes.items():
                    if lane.member == member:
                        weights = loaded.program.weights(jax.device_get(block.take(number)["best"]))
                        return self.checkpoints.keep(path, weights, {"trial": member.trial})
        return "it is in no lane"

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = {verdict.member for verdict in verdicts if verdict.ends}
        self._waiting = deque(assignment for assignment in self._waiting if assignment.member not in ended)
        for member in ended:
            self._programs.builder.forget(member)
            self._orders.pop(member, None)
        self._programs.free(ended)
        self._beside.free(ended)
        self._callbacks.end(ended)

    def close(self) -> None:
        self._beside.close()
        self._callbacks.close()
        self._programs.close()
        self._waiting.clear()

    def _fill_places(self) -> None:
        """Put waiting members into free lanes or beside them, in the order of their starts."""
        taken = sum(1 for _ in self._programs.lanes) + len(self._beside)
        while self._waiting and taken < self._places:
            assignment = self._waiting.popleft()
            self._size = None
            began = time.perf_counter()
            try:
                compiled_before = self._programs.compile_s
                try:
                    built, loaded = self._programs.of(assignment)
                finally:
                    self._build_s += time.perf_counter() - began - (self._programs.compile_s - compiled_before)
            except BaseException as error:
                if is_device_error(error):
                    self._waiting.appendleft(assignment)
                    raise
                # The user's builder and layers may raise anything.
                self._events.append(model_limits.ending(assignment.member, error, self._trainer))
                continue
            if self._is_short_of_memory:
                self._size = model_memory.size_of(built.model)
            if loaded is None:
                self._beside.start(assignment)
                self._events.append(Noted(BESIDE, {"trial": assignment.member.trial}))
                taken += 1
                continue
            try:
                epoch, state = self._resumed(assignment, built.state)
                try:
                    self._callbacks.begin(assignment.member, epoch)
                except OSError as error:
                    self._events.append(_failed(assignment.member, error))
                    continue
                loaded.add(Lane(assignment, epoch), state)
            except BaseException:
                self._waiting.appendleft(assignment)
                raise
            taken += 1
        for loaded in self._programs.loaded.values():
            loaded.compact()

    def _resumed(self, assignment: Assignment, fresh: State) -> tuple[int, State]:
        """Return the epoch and state that a member resumes from: its checkpoint's, or 0 and `fresh`."""
        checkpoint = self.checkpoints.load(assignment) if assignment.done else None
        leaves, structure = jax.tree.flatten(fresh)
        # A member that trained beside the lanes has a state of other parts.
        if checkpoint is None or checkpoint[1].keys() != {str(number) for number in range(len(leaves))}:
            return 0, fresh
        epoch, arrays = checkpoint
        return epoch, jax.tree.unflatten(structure, [arrays[str(number)] for number in range(len(leaves))])

    def _train(self) -> list[EpochEnd | Failed]:
        events: list[EpochEnd | Failed] = []
        # Recompute the stored epochs first: then every member has reached its epoch before the crash.
        while behind := [lane for lane in self._programs.lanes if lane.epoch < lane.assignment.done]:
            events += self._epoch(behind)
        return events + self._epoch(list(self._programs.lanes))

    def _epoch(self, chosen: Sequence[Lane]) -> list[EpochEnd | Failed]:
        """Train the chosen lanes by one epoch each."""
        members = {lane.member for lane in chosen}
        busy = []
        last_end = time.perf_counter()
        for loaded in self._programs.loaded.values():
            for block, lanes in loaded.blocks:
                if training := {number: lane for number, lane in lanes.items() if lane.member in members}:
                    folds = {number: lane.member.replica for number, lane in training.items()}
                    block.begin({number: self._order(lane) for number, lane in training.items()}, folds)
                    busy.append((block, training))
        # While the device computes, draw the orders of the next epoch: a millisecond per lane with many rows.
        for lane in chosen:
            if lane.epoch + 2 <= lane.assignment.epochs:
                epoch, seed = lane.epoch + 2, lane.assignment.seed
                self._orders[lane.member] = (epoch, self._rows.shuffled(lane.member, seed, epoch))
        events: list[EpochEnd] = []
        for block, training in busy:
            metrics = block.end()
            # Blocks run one after another: a member's seconds are its share of its own block's time.
            began, last_end = last_end, time.perf_counter()
            share = (last_end - began) / len(training)
            events += [
                EpochEnd(lane.member, lane.epoch + 1, _of_lane(metrics, number), share)
                for number, lane in sorted(training.items())
            ]
        for lane in chosen:
            lane.epoch += 1
        return [self._logged(event) for event in events]

    def _logged(self, event: EpochEnd) -> EpochEnd | Failed:
        """Pass an epoch on to the callbacks. If one can't write its file, its member alone fails, as in fit."""
        try:
            self._callbacks.epoch_end(event.member, event.epoch, event.metrics)
        except OSError as error:
            self._programs.free({event.member})
            self._callbacks.end([event.member])
            return _failed(event.member, error)
        return event

    def _order(self, lane: Lane) -> NDArray[np.int64]:
        epoch, order = self._orders.pop(lane.member, (0, None))
        if order is None or epoch != lane.epoch + 1:
            return self._rows.shuffled(lane.member, lane.assignment.seed, lane.epoch + 1)
        return order

    def _reduce_places(self, error: BaseException) -> None:
        """Halve the places and restart all members; each first recomputes the epochs that it had completed."""
        lanes = sorted(self._programs.lanes, key=lambda lane: lane.member)
        self._programs.loaded.clear()
        self._orders.clear()
        restarted = [replace(lane.assignment, done=max(lane.assignment.done, lane.epoch)) for lane in lanes]
        if len(restarted) + len(self._waiting) == 0:
            raise error
        alone = restarted[0] if restarted else self._waiting[0]
        if self._places == 1 and self._retried_alone != alone.member:
            # Try it once more: only now is everything else freed.
            self._retried_alone = alone.member
        elif self._places == 1:
            (restarted or self._waiting).remove(alone)
            if self._size is not None:
                model_memory.note_needed(error, self._size)
            self._events.append(Failed(alone.member, model_memory.reason(error, self._trainer.memory_limit())))
        training = len(restarted) + len(self._beside)
        before, self._places = self._places, max(1, min(self._places, max(1, training)) // 2)
        self._programs.width = min(self._programs.width, self._places)
        self._waiting.extendleft(reversed(restarted))
        self._is_short_of_memory = True
        for assignment in self._waiting:
            self._programs.builder.forget(assignment.member)
        gc.collect()
        if self._places < before:
            self._events.append(Noted("out of memory", {"lanes_before": before, "lanes": self._places}))


def _failed(member: Member, error: OSError) -> Failed:
    return Failed(member, failures.one_line(error), failures.trace(error))


def _by_member_and_epoch(event: Event) -> tuple[Member, float]:
    """Order the epochs of each member, and its end after them."""
    assert isinstance(event, EpochEnd | Failed | OverLimit | Stopped)  # noqa: S101 (what trains a member reports these)
    return event.member, event.epoch if isinstance(event, EpochEnd) else math.inf


def _of_lane(metrics: Mapping[str, NDArray[Any]], lane: int) -> dict[str, float]:
    return numbers({name: values[lane] for name, values in metrics.items()})
