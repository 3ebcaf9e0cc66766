"""The lanes engine: at every tick it trains all members in lanes by one epoch. Runs in a worker process."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from search.data.stored_images import StoredImages
from search.engines import failures, memory, model_limits
from search.engines.batches import shuffled
from search.engines.checkpoints import Checkpoints
from search.engines.lanes import arithmetic, lifting, sizing
from search.engines.lanes.builder import Builder, Built, fingerprinted
from search.engines.lanes.program import Block, Program, Rows, State
from search.engines.logs import numbers
from search.engines.protocol import Declined, EngineRequest, MadeEngine
from search.engines.training import Trainer
from search.trials.events import Assignment, EpochEnd, Event, Failed, Member, Noted, Verdict

# Programs without members are kept for later members, up to this many: each holds a model and its compiled code.
MOST_PROGRAMS = 32
# Event: why a trial shares no program.
OWN_PROGRAM = "program of its own"
_NOT_ALIKE = "it does not compute the same as other trials with the same layers, optimizer, loss and metrics"


@dataclass
class _Lane:
    """A member in a lane. `epoch` is its last complete epoch, counted from 1; 0 before the first."""

    assignment: Assignment
    epoch: int = 0


@dataclass
class _Loaded:
    """A program with as many blocks of lanes as its members need."""

    program: Program
    blocks: list[tuple[Block, dict[int, _Lane]]] = field(default_factory=list)

    def add(self, lane: _Lane, state: State) -> None:
        """Put a member into the first free lane; without one, add a block."""
        for block, lanes in self.blocks:
            if len(lanes) < self.program.width:
                self._put(block, lanes, lane, state)
                return
        block, lanes = Block(self.program), {}
        self._put(block, lanes, lane, state)
        self.blocks.append((block, lanes))

    def free(self, members: set[Member]) -> None:
        """Free the lanes of members. Free lanes still compute until they are refilled; their results are ignored."""
        for _, lanes in self.blocks:
            for number in [number for number, lane in lanes.items() if lane.assignment.member in members]:
                del lanes[number]

    def compact(self) -> None:
        """Move members into fewer blocks where possible: a block costs the same however few members it has."""
        self.blocks.sort(key=lambda pair: -len(pair[1]))
        while self.blocks:
            last, moving = self.blocks[-1]
            holes = [
                (block, lanes) for block, lanes in self.blocks[:-1] for _ in range(self.program.width - len(lanes))
            ]
            if len(holes) < len(moving):
                return
            for (block, lanes), (number, lane) in zip(holes, sorted(moving.items()), strict=False):
                self._put(block, lanes, lane, last.take(number))
            self.blocks.pop()

    def _put(self, block: Block, lanes: dict[int, _Lane], lane: _Lane, state: State) -> None:
        number = next(number for number in range(self.program.width) if number not in lanes)
        block.fill(number, state)
        lanes[number] = lane


# Decided at a study's first start; every later worker gets these values.
_DECIDED = ("places", "ahead", "programs", "width")


def make(request: EngineRequest) -> MadeEngine:
    """Make the engine with the lanes that were decided, or else that fit; NotLiftable if lanes can't train the models."""
    if isinstance(request.trainer.data.x_train, StoredImages):
        raise Declined("its images are read as they are needed (data.lazy), and lanes need all rows on the device")
    rows = sizing.rows_of(request.trainer)
    if request.lanes:
        places, ahead, programs, width = (request.lanes[name] for name in _DECIDED)
        chosen = sizing.Lanes(places, ahead, programs, width)
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
        compiled=chosen.compiled,
        checkpoints=request.checkpoints,
    )
    lanes = {name: getattr(chosen, name) for name in _DECIDED}
    return MadeEngine(engine, lanes, chosen.memory)


class LanesEngine:
    """Trains up to `places` members at once, in blocks of at most `width` lanes; further members wait in a queue.

    Args:
        programs: how many the study is expected to need; a structure with more keys than that gets programs of one lane.
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
        compiled: Mapping[str, Program] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.checkpoints = checkpoints or Checkpoints(None)
        self._rows = rows
        self._places, self._width = places, width
        self._programs = programs
        self._builder = Builder(trainer, rows)
        # Keys by structure; by structure and kinds of numbers, the part of a step that lifting changes ("": none).
        self._keys: dict[str, list[str]] = {}
        self._comparisons: dict[tuple[str, frozenset[tuple[str, str, str]]], Future[str]] = {}
        self._comparing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="comparing")
        self._loaded: dict[str, _Loaded] = {}
        self._waiting: deque[Assignment] = deque()
        self._orders: dict[Member, tuple[int, NDArray[np.int64]]] = {}
        self._pending_events: list[Event] = []
        self._is_short_of_memory = False
        self._trainer = trainer
        self._size: memory.Size | None = None
        # Milliseconds for one row, by structure.
        self._latencies: dict[str, float] = {}
        self._retried_alone: Member | None = None
        self.seconds: dict[str, float] = {"compile": 0.0, "build": 0.0}
        for key, program in (compiled or {}).items():
            self._loaded[key] = _Loaded(program)
            self._note_compiled(program)
        gc.collect()
        gc.freeze()

    @property
    def traces(self) -> int:
        """How often programs have been traced: once per program, however often its lanes are refilled."""
        return sum(loaded.program.traces for loaded in self._loaded.values())

    @property
    def members(self) -> list[Member]:
        """The members that have been started and not ended."""
        return sorted(
            [lane.assignment.member for lane in self._lanes()] + [assignment.member for assignment in self._waiting]
        )

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to build a member that will be started later. May be called from any thread."""
        if not self._is_short_of_memory:
            self._builder.prefetch(assignment)

    def start(self, assignment: Assignment) -> None:
        self.prefetch(assignment)
        self._waiting.append(assignment)

    def advance(self) -> Sequence[Event]:
        while True:
            try:
                self._fill_places()
                events = self._train()
            except (jax.errors.JaxRuntimeError, ValueError) as error:
                # Any other device error ends the worker without failing a member.
                if not _is_device_error(error) or not memory.is_short(error):
                    raise
                self._reduce_places(error)
            else:
                pending, self._pending_events = self._pending_events, []
                return [*pending, *sorted(events, key=lambda event: (event.member, event.epoch))]

    def save(self) -> None:
        """Write a checkpoint of all lanes if one is due."""
        if self.checkpoints.is_due:
            self.checkpoints.save(self._states())

    def _states(self) -> Iterator[tuple[Assignment, int, dict[str, NDArray[Any]]]]:
        for loaded in self._loaded.values():
            for block, lanes in loaded.blocks:
                leaves = jax.tree.leaves(block.on_host()) if lanes else []
                for number, lane in lanes.items():
                    state = {str(i): leaf[number] for i, leaf in enumerate(leaves)}
                    yield lane.assignment, lane.epoch, state

    def keep(self, member: Member, path: Path) -> str:
        """Write the best weights of a member in a lane; return the error text, or ""."""
        for loaded in self._loaded.values():
            for block, lanes in loaded.blocks:
                for number, lane in lanes.items():
                    if lane.assignment.member == member:
                        weights = loaded.program.weights(jax.device_get(block.take(number)["best"]))
                        return self.checkpoints.keep(path, weights, {"trial": member.trial})
        return "it is in no lane"

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = {verdict.member for verdict in verdicts if verdict.ends}
        self._waiting = deque(assignment for assignment in self._waiting if assignment.member not in ended)
        for member in ended:
            self._builder.forget(member)
            self._orders.pop(member, None)
        for loaded in self._loaded.values():
            loaded.free(ended)

    def close(self) -> None:
        self._builder.close()
        self._comparing.shutdown(wait=False, cancel_futures=True)
        self._loaded.clear()
        self._waiting.clear()

    def _lanes(self) -> Iterator[_Lane]:
        for loaded in self._loaded.values():
            for _, lanes in loaded.blocks:
                yield from lanes.values()

    def _fill_places(self) -> None:
        """Put waiting members into free lanes, in the order of their starts."""
        taken = sum(1 for _ in self._lanes())
        while self._waiting and taken < self._places:
            assignment = self._waiting.popleft()
            self._size = None
            began = time.perf_counter()
            try:
                before = self.seconds["compile"]
                try:
                    built, loaded = self._ready(assignment)
                finally:
                    self.seconds["build"] += time.perf_counter() - began - (self.seconds["compile"] - before)
            except BaseException as error:
                if _is_device_error(error):
                    self._waiting.appendleft(assignment)
                    raise
                # The user's builder and layers may raise anything.
                self._pending_events.append(model_limits.ending(assignment.member, error, self._trainer))
                continue
            if self._is_short_of_memory:
                self._size = memory.size_of(built.model)
            try:
                epoch, state = self._resumed(assignment, built.state)
                loaded.add(_Lane(assignment, epoch), state)
            except BaseException:
                self._waiting.appendleft(assignment)
                raise
            taken += 1
        for loaded in self._loaded.values():
            loaded.compact()

    def _resumed(self, assignment: Assignment, fresh: State) -> tuple[int, State]:
        """Return the epoch and state that a member resumes from: its checkpoint's, or 0 and `fresh`."""
        checkpoint = self.checkpoints.load(assignment) if assignment.done else None
        leaves, structure = jax.tree.flatten(fresh)
        if checkpoint is None or len(checkpoint[1]) != len(leaves):
            return 0, fresh
        epoch, arrays = checkpoint
        return epoch, jax.tree.unflatten(structure, [arrays[str(number)] for number in range(len(leaves))])

    def _ready(self, assignment: Assignment) -> tuple[Built, _Loaded]:
        """Return a member and its program: a shared one, or one of its own if its numbers can't live in a lane's state.

        The lifted step is compared with Keras's own step for every new structure and every new kind of its numbers: code
        that asks whether a number is zero, one or negative gets the same answer for all lanes.
        """
        built = self._builder.get(assignment)
        self._check_limits(built)
        comparison = None if built.why_alone else self._comparison(built)
        try:
            shared = self._program_of(built)  # compiles while the comparison runs
            why = "" if comparison is None else self._why_alone(comparison)
        except Exception as error:
            if built.why_alone or memory.is_short(error) or _is_device_error(error):
                raise
            why = f"its step can't be compiled for several lanes: {failures.one_line(error)}"
        return self._program_of(self._builder.build(assignment, why_alone=why)) if why else shared

    def _check_limits(self, built: Built) -> None:
        """Raise OverLimitError if a member's model is beyond a limit. The latency of each structure is measured once."""
        limits = self._trainer.settings.limits
        model_limits.check_size(limits, built.model, built.assignment)
        if limits.latency_ms is None or not model_limits.is_checked(built.assignment):
            return
        structure = built.structure_at_any_batch_size if built.described else built.structure
        if structure not in self._latencies:
            # The lock also keeps the builder's thread from disturbing the measurement.
            with lifting.KERAS_STATE:
                self._latencies[structure] = model_limits.latency_ms(built.model, self._trainer.data.x_train)
        model_limits.check_latency(limits, self._latencies[structure])

    def _why_alone(self, comparison: Future[str]) -> str:
        """Return why a member's numbers can't live in a lane's state; "" if they can."""
        try:
            part = comparison.result()
        except Exception as error:
            if not memory.is_short(error):
                raise
            return "" if self._builder.is_ours else "there is no memory to compare its first step with Keras's own"
        if not part:
            return ""
        return f"with lifted numbers, the {part} of its first step would differ from Keras's own"

    def _comparison(self, built: Built) -> Future[str]:
        case = (built.structure_at_any_batch_size, built.kinds)
        comparison = self._comparisons.get(case)
        if comparison is None or (comparison.done() and comparison.exception() is not None):
            given = (built.model, built.slots, built.state, self._rows.train, built.batch_size)
            comparison = self._comparisons[case] = self._comparing.submit(arithmetic.difference, *given)
        return comparison

    def _program_of(self, built: Built) -> tuple[Built, _Loaded]:
        """Return a member and its program. If its key is new, the member may have been built again."""
        known_keys = self._keys.setdefault(built.structure, [])
        if built.key not in known_keys:
            known_keys.append(built.key)
        if built.key not in self._loaded:
            empty = [key for key, loaded in self._loaded.items() if not loaded.blocks]
            for key in empty[: max(0, len(self._loaded) + 1 - MOST_PROGRAMS)]:
                del self._loaded[key]
            if why := built.why_alone or (_NOT_ALIKE if len(known_keys) > 1 else ""):
                self._pending_events.append(Noted(OWN_PROGRAM, {"trial": built.assignment.member.trial, "why": why}))
            built, program = self._compiled(built, width=1 if len(known_keys) > self._programs else self._width)
            self._loaded[built.key] = _Loaded(program)
            self._note_compiled(program)
        return built, self._loaded[built.key]

    def _compiled(self, built: Built, *, width: int) -> tuple[Built, Program]:
        """Compile a program for a member with a new key; return it with the member that it was traced from."""
        with lifting.KERAS_STATE:
            may_differ = bool(built.fingerprint) and not self._builder.is_ours
            if built.why_alone or (may_differ and fingerprinted(built, self._rows).fingerprint != built.fingerprint):
                # Another member's builder may have changed a global since this member was built.
                built = self._builder.build(built.assignment, why_alone=built.why_alone)
            width = 1 if built.why_alone else width
            program = Program(built.model, built.slots, self._rows, width=width, batch_size=built.batch_size)
            program.trace(built.state)
            self._trainer.pins.set()  # what its builder has set holds for its own trace only
        program.compile(built.state)
        return built, program

    def _note_compiled(self, program: Program) -> None:
        self.seconds["compile"] += program.compile_s
        detail = {"lanes": program.width, "batch_size": program.batch_size, "seconds": round(program.compile_s, 3)}
        self._pending_events.append(Noted("program compiled", detail))

    def _train(self) -> list[EpochEnd]:
        events: list[EpochEnd] = []
        # Recompute the stored epochs first: then every member has reached its epoch before the crash.
        while behind := [lane for lane in self._lanes() if lane.epoch < lane.assignment.done]:
            events += self._epoch(behind)
        return events + self._epoch(list(self._lanes()))

    def _epoch(self, chosen: Sequence[_Lane]) -> list[EpochEnd]:
        """Train the chosen lanes by one epoch each."""
        members = {lane.assignment.member for lane in chosen}
        busy = []
        last_end = time.perf_counter()
        for loaded in self._loaded.values():
            for block, lanes in loaded.blocks:
                if training := {number: lane for number, lane in lanes.items() if lane.assignment.member in members}:
                    block.begin({number: self._order(lane) for number, lane in training.items()})
                    busy.append((block, training))
        # While the device computes, draw the orders of the next epoch: a millisecond per lane with many rows.
        for lane in chosen:
            if lane.epoch + 2 <= lane.assignment.epochs:
                epoch, seed = lane.epoch + 2, lane.assignment.seed
                self._orders[lane.assignment.member] = (epoch, shuffled(self._rows.count, seed, epoch))
        events: list[EpochEnd] = []
        for block, training in busy:
            metrics = block.end()
            # Blocks run one after another: a member's seconds are its share of its own block's time.
            began, last_end = last_end, time.perf_counter()
            share = (last_end - began) / len(training)
            events += [
                EpochEnd(lane.assignment.member, lane.epoch + 1, _of_lane(metrics, number), share)
                for number, lane in sorted(training.items())
            ]
        for lane in chosen:
            lane.epoch += 1
        return events

    def _order(self, lane: _Lane) -> NDArray[np.int64]:
        epoch, order = self._orders.pop(lane.assignment.member, (0, None))
        if order is None or epoch != lane.epoch + 1:
            return shuffled(self._rows.count, lane.assignment.seed, lane.epoch + 1)
        return order

    def _reduce_places(self, error: Exception) -> None:
        """Halve the places and restart all members; each first recomputes the epochs that it had completed."""
        lanes = sorted(self._lanes(), key=lambda lane: lane.assignment.member)
        self._loaded.clear()
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
                memory.note_needed(error, self._size)
            self._pending_events.append(Failed(alone.member, memory.reason(error, self._trainer.memory_limit())))
        before, self._places = self._places, max(1, min(self._places, max(1, len(restarted))) // 2)
        self._width = min(self._width, self._places)
        self._waiting.extendleft(reversed(restarted))
        self._is_short_of_memory = True
        for assignment in self._waiting:
            self._builder.forget(assignment.member)
        gc.collect()
        if self._places < before:
            self._pending_events.append(Noted("out of memory", {"lanes_before": before, "lanes": self._places}))


def _is_device_error(error: BaseException) -> bool:
    """Whether the device failed. JAX raises its own type, but a ValueError when it copies an array to the device."""
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and f"{error}".startswith("RESOURCE_EXHAUSTED")
    )


def _of_lane(metrics: Mapping[str, NDArray[Any]], lane: int) -> dict[str, float]:
    return numbers({name: values[lane] for name, values in metrics.items()})
