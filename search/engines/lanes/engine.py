"""The lanes engine: members in lanes of programs, all one epoch further at every tick. Runs in a worker process."""

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

from search.engines import failures, memory
from search.engines.batches import shuffled
from search.engines.checkpoints import Checkpoints
from search.engines.lanes import arithmetic, keys, lifting, sizing
from search.engines.lanes.builder import Builder, Built, identified
from search.engines.lanes.program import Block, Program, Rows, State
from search.engines.logs import numbers
from search.engines.protocol import Made, Wanted
from search.engines.training import Trainer
from search.trials.events import Assignment, EpochEnd, Event, Failed, Member, Noted, Verdict

# Programs without members are kept for those to come, but not for ever: each holds a model and its compiled code.
MOST_PROGRAMS = 32
# The kind of event that says why a trial shares no program.
OWN_PROGRAM = "program of its own"
_NOT_ALIKE = "what it computes is not what other trials with the same layers, optimizer, loss and metrics compute"


@dataclass
class _Lane:
    """A member in a lane: `epoch` is its last whole one, counted from 1."""

    assignment: Assignment
    epoch: int = 0


@dataclass
class _Loaded:
    """A program and its blocks of lanes: as many as its members need."""

    program: Program
    blocks: list[tuple[Block, dict[int, _Lane]]] = field(default_factory=list)

    def place(self, lane: _Lane, state: State) -> None:
        """Put a member into the first free lane, of a new block if there is none."""
        for block, lanes in self.blocks:
            if len(lanes) < self.program.width:
                self._put(block, lanes, lane, state)
                return
        block, lanes = Block(self.program), {}
        self._put(block, lanes, lane, state)
        self.blocks.append((block, lanes))

    def free(self, members: set[Member]) -> None:
        """Let members go. Their lanes compute along until they are filled again; nobody looks."""
        for _, lanes in self.blocks:
            for number in [number for number, lane in lanes.items() if lane.assignment.member in members]:
                del lanes[number]

    def close_ranks(self) -> None:
        """Move members together where that saves a whole block: a block costs the same however few are in it."""
        self.blocks.sort(key=lambda pair: -len(pair[1]))
        while self.blocks:
            last, leaving = self.blocks[-1]
            holes = [
                (block, lanes) for block, lanes in self.blocks[:-1] for _ in range(self.program.width - len(lanes))
            ]
            if len(holes) < len(leaving):
                return
            for (block, lanes), (number, lane) in zip(holes, sorted(leaving.items()), strict=False):
                self._put(block, lanes, lane, last.take(number))
            self.blocks.pop()

    def _put(self, block: Block, lanes: dict[int, _Lane], lane: _Lane, state: State) -> None:
        number = next(number for number in range(self.program.width) if number not in lanes)
        block.fill(number, state)
        lanes[number] = lane


# What is decided at a study's first start, and told to every worker after that.
_DECIDED = ("places", "ahead", "programs", "width")


def make(wanted: Wanted) -> Made:
    """Make the engine, in as many lanes as were decided or as fit; NotLiftable if the study's models are not lifted."""
    rows = sizing.rows_of(wanted.trainer)
    if wanted.lanes:
        places, ahead, programs, width = (wanted.lanes[name] for name in _DECIDED)
        chosen = sizing.Lanes(places, ahead, programs, width)
    else:
        chosen = sizing.choose(
            wanted.trainer, rows, wanted.fixed, workers=wanted.workers, is_asked_for=wanted.is_chosen
        )
    engine = LanesEngine(
        wanted.trainer,
        rows,
        places=chosen.places,
        width=chosen.width,
        programs=chosen.programs,
        compiled=chosen.compiled,
        checkpoints=wanted.checkpoints,
    )
    lanes = {name: getattr(chosen, name) for name in _DECIDED}
    return Made(engine, lanes, chosen.memory)


class LanesEngine:
    """Trains up to `places` members at once, in blocks of at most `width` lanes; more than that wait for a place.

    Args:
        programs: how many kinds of models the study is expected to have; further ones get programs of one lane.
        compiled: programs that are there already, by their keys.
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
        # By structure: the keys that its members have had. By structure and zeros: what differs when lifted ("": nothing).
        self._kinds: dict[str, list[str]] = {}
        self._compared: dict[tuple[str, frozenset[str]], Future[str]] = {}
        self._comparing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="comparing")
        self._loaded: dict[str, _Loaded] = {}
        self._waiting: deque[Assignment] = deque()
        self._orders: dict[Member, tuple[int, NDArray[np.int64]]] = {}
        self._aside: list[Event] = []
        self._is_short_of_memory = False
        self._trainer = trainer
        self._size: memory.Size | None = None
        self._was_alone: Member | None = None
        self.seconds: dict[str, float] = {"compile": 0.0, "build": 0.0}
        for key, program in (compiled or {}).items():
            self._loaded[key] = _Loaded(program)
            self._tell_compiled(program)
        gc.collect()
        gc.freeze()

    @property
    def traces(self) -> int:
        """How often a program has been traced: once a program, whatever was refilled."""
        return sum(loaded.program.traces for loaded in self._loaded.values())

    @property
    def members(self) -> list[Member]:
        """All that have been started and not ended."""
        return sorted(
            [lane.assignment.member for lane in self._lanes()] + [assignment.member for assignment in self._waiting]
        )

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to build a member that will be started. May be called from any thread."""
        if not self._is_short_of_memory:
            self._builder.prefetch(assignment)

    def start(self, assignment: Assignment) -> None:
        self.prefetch(assignment)
        self._waiting.append(assignment)

    def advance(self) -> Sequence[Event]:
        while True:
            try:
                self._settle()
                events = self._train()
            except (jax.errors.JaxRuntimeError, ValueError) as error:
                # Any other fault of the device's ends the worker, which blames nobody.
                if not _is_the_devices(error) or not memory.is_short(error):
                    raise
                self._give_up_lanes(error)
            else:
                aside, self._aside = self._aside, []
                return [*aside, *sorted(events, key=lambda event: (event.member, event.epoch))]

    def save(self) -> None:
        """Write a checkpoint of all lanes if it is time."""
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
        """Write the best weights of a member in a lane; return why that could not be done, or ""."""
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

    def _settle(self) -> None:
        """Give free places to those who wait longest."""
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
                if _is_the_devices(error):
                    self._waiting.appendleft(assignment)
                    raise
                # The user's builder and layers: anything may come out of them.
                reason = memory.reason(error, self._trainer.memory_limit())
                self._aside.append(Failed(assignment.member, reason, failures.trace(error)))
                continue
            if self._is_short_of_memory:
                self._size = memory.size_of(built.model)
            try:
                epoch, state = self._where_it_was(assignment, built.state)
                loaded.place(_Lane(assignment, epoch), state)
            except BaseException:
                self._waiting.appendleft(assignment)
                raise
            taken += 1
        for loaded in self._loaded.values():
            loaded.close_ranks()

    def _where_it_was(self, assignment: Assignment, fresh: State) -> tuple[int, State]:
        """Return what a member goes on from: its epochs, and its state after them."""
        found = self.checkpoints.load(assignment) if assignment.done else None
        leaves, structure = jax.tree.flatten(fresh)
        if found is None or len(found[1]) != len(leaves):
            return 0, fresh
        epoch, arrays = found
        return epoch, jax.tree.unflatten(structure, [arrays[str(number)] for number in range(len(leaves))])

    def _ready(self, assignment: Assignment) -> tuple[Built, _Loaded]:
        """Return a member and its program: one that it shares, or its own where its numbers can't live in a lane's state.

        The lifted step is compared with Keras's own for every new structure, and for every new set of numbers that are zero:
        a lifted number never says that it is zero.
        """
        built = self._builder.get(assignment)
        comparison = None if built.why_alone else self._comparison(built)
        built, loaded = self._program_of(built)  # compiles, while the comparison does
        if comparison is not None and (why := self._why_alone(comparison)):
            return self._program_of(self._builder.build(assignment, why_alone=why))
        return built, loaded

    def _why_alone(self, comparison: Future[str]) -> str:
        """Return why a member's numbers can't live in a lane's state; "" if they can."""
        try:
            what = comparison.result()
        except Exception as error:
            if not memory.is_short(error):
                raise
            return "" if self._builder.is_ours else "there is no memory to compare its first step with Keras's own"
        if not what:
            return ""
        return f"with its numbers in a lane's state, the {what} of its first step would not be those of Keras's own"

    def _comparison(self, built: Built) -> Future[str]:
        zeros = frozenset(path for path, pair in built.state["numbers"].items() if not pair[0])
        kind = (keys.program_key({**built.described, "batch_size": 0}), zeros)
        known = self._compared.get(kind)
        if known is None or (known.done() and known.exception() is not None):
            given = (built.model, built.slots, built.state, self._rows.train, built.batch_size)
            known = self._compared[kind] = self._comparing.submit(arithmetic.difference, *given)
        return known

    def _program_of(self, built: Built) -> tuple[Built, _Loaded]:
        """Return the program of a member, and the member: one whose key is new may have to be built once more."""
        known = self._kinds.setdefault(built.structure, [])
        if built.key not in known:
            known.append(built.key)
        if built.key not in self._loaded:
            empty = [key for key, loaded in self._loaded.items() if not loaded.blocks]
            for key in empty[: max(0, len(self._loaded) + 1 - MOST_PROGRAMS)]:
                del self._loaded[key]
            if why := built.why_alone or (_NOT_ALIKE if len(known) > 1 else ""):
                self._aside.append(Noted(OWN_PROGRAM, {"trial": built.assignment.member.trial, "why": why}))
            built, program = self._compiled(built, width=1 if len(known) > self._programs else self._width)
            self._loaded[built.key] = _Loaded(program)
            self._tell_compiled(program)
        return built, self._loaded[built.key]

    def _compiled(self, built: Built, *, width: int) -> tuple[Built, Program]:
        """Compile the program of a member whose key is new; return it with the member that it was traced from."""
        with lifting.KERAS_STATE:
            may_differ = bool(built.text) and not self._builder.is_ours
            if (may_differ and identified(built, self._rows).text != built.text) or built.why_alone:
                # Another member's builder may have changed a global since this one was built.
                built = self._builder.build(built.assignment, why_alone=built.why_alone)
            width = 1 if built.why_alone else width
            program = Program(built.model, built.slots, self._rows, width=width, batch_size=built.batch_size)
            program.trace(built.state)
        program.compile(built.state)
        return built, program

    def _tell_compiled(self, program: Program) -> None:
        self.seconds["compile"] += program.compile_s
        detail = {"lanes": program.width, "batch_size": program.batch_size, "seconds": round(program.compile_s, 3)}
        self._aside.append(Noted("program compiled", detail))

    def _train(self) -> list[EpochEnd]:
        events: list[EpochEnd] = []
        # What is stored already is computed again first, so that afterwards all are where they were before the crash.
        while behind := [lane for lane in self._lanes() if lane.epoch < lane.assignment.done]:
            events += self._epoch(behind)
        return events + self._epoch(list(self._lanes()))

    def _epoch(self, chosen: Sequence[_Lane]) -> list[EpochEnd]:
        """Train some of the lanes by an epoch each."""
        wanted = {lane.assignment.member for lane in chosen}
        busy = []
        then = time.perf_counter()
        for loaded in self._loaded.values():
            for block, lanes in loaded.blocks:
                if now := {number: lane for number, lane in lanes.items() if lane.assignment.member in wanted}:
                    block.begin({number: self._order(lane) for number, lane in now.items()})
                    busy.append((block, now))
        # While the device computes: the orders of the next epoch, a millisecond a lane with many rows.
        for lane in chosen:
            if lane.epoch + 2 <= lane.assignment.epochs:
                epoch, seed = lane.epoch + 2, lane.assignment.seed
                self._orders[lane.assignment.member] = (epoch, shuffled(self._rows.count, seed, epoch))
        events: list[EpochEnd] = []
        for block, now in busy:
            metrics = block.end()
            # Blocks run one after the other: each is charged its own time, and a member its share of that.
            before, then = then, time.perf_counter()
            share = (then - before) / len(now)
            events += [
                EpochEnd(lane.assignment.member, lane.epoch + 1, _of_lane(metrics, number), share)
                for number, lane in sorted(now.items())
            ]
        for lane in chosen:
            lane.epoch += 1
        return events

    def _order(self, lane: _Lane) -> NDArray[np.int64]:
        epoch, order = self._orders.pop(lane.assignment.member, (0, None))
        if order is None or epoch != lane.epoch + 1:
            return shuffled(self._rows.count, lane.assignment.seed, lane.epoch + 1)
        return order

    def _give_up_lanes(self, error: Exception) -> None:
        """Halve the places, and let all members start over: they are back where they were before anyone goes on."""
        lanes = sorted(self._lanes(), key=lambda lane: lane.assignment.member)
        self._loaded.clear()
        self._orders.clear()
        again = [replace(lane.assignment, done=max(lane.assignment.done, lane.epoch)) for lane in lanes]
        if len(again) + len(self._waiting) == 0:
            raise error
        alone = again[0] if again else self._waiting[0]
        if self._places == 1 and self._was_alone != alone.member:
            # Once more, now that everything else is gone.
            self._was_alone = alone.member
        elif self._places == 1:
            (again or self._waiting).remove(alone)
            if self._size is not None:
                memory.tell(error, self._size)
            self._aside.append(Failed(alone.member, memory.reason(error, self._trainer.memory_limit())))
        was, self._places = self._places, max(1, min(self._places, max(1, len(again))) // 2)
        self._width = min(self._width, self._places)
        self._waiting.extendleft(reversed(again))
        self._is_short_of_memory = True
        for assignment in self._waiting:
            self._builder.forget(assignment.member)
        gc.collect()
        if self._places < was:
            self._aside.append(Noted("out of memory", {"lanes_before": was, "lanes": self._places}))


def _is_the_devices(error: BaseException) -> bool:
    """Whether an exception tells of the device. JAX has a type for that, and a ValueError where it copies an array there."""
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and f"{error}".startswith("RESOURCE_EXHAUSTED")
    )


def _of_lane(metrics: Mapping[str, NDArray[Any]], lane: int) -> dict[str, float]:
    return numbers({name: values[lane] for name, values in metrics.items()})
