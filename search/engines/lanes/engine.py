"""The lanes engine: members in lanes of programs, all one epoch further at every tick. Runs in a worker process."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import keras

from search.engines import failures
from search.engines.lanes import lifting
from search.engines.lanes.program import Program
from search.engines.protocol import Assignment, EpochEnd, Event, Failed, Member, Verdict
from search.engines.training import ReadConfig, Trainer, validation_batch


@dataclass
class _Lane:
    assignment: Assignment
    epoch: int = 0


@dataclass
class _Room:
    """A program, who is in it, and who waits for a lane of it."""

    program: Program
    lanes: dict[int, _Lane] = field(default_factory=dict)
    waiting: deque[tuple[Assignment, keras.Model]] = field(default_factory=deque)

    def settle(self) -> None:
        """Give free lanes to those who wait, the lowest lane to the one who waits longest."""
        for lane in range(self.program.lanes):
            if lane not in self.lanes and self.waiting:
                assignment, model = self.waiting.popleft()
                self.program.fill(lane, model)
                self.lanes[lane] = _Lane(assignment)


class LanesEngine:
    """Trains up to `places` members at once, in programs of `lanes` lanes each."""

    def __init__(self, trainer: Trainer, *, places: int, lanes: int) -> None:
        self._trainer, self._places, self._lanes = trainer, places, lanes
        self._rooms: dict[str, _Room] = {}
        self._members: set[Member] = set()
        self._failed: list[Event] = []
        self._arrays = tuple(jax.device_put(array) for array in trainer.arrays())
        self._validation = tuple(jax.device_put(a) for a in (trainer.data.x_validation, trainer.data.y_validation))
        gc.collect()
        gc.freeze()

    @property
    def have_room(self) -> bool:
        return len(self._members) < self._places

    @property
    def traces(self) -> int:
        """How often a program has been traced: once a program, whatever was refilled."""
        return sum(room.program.traces for room in self._rooms.values())

    def start(self, assignment: Assignment) -> None:
        self._members.add(assignment.member)
        try:
            config = ReadConfig(assignment.config)
            model = self._trainer.model(config, assignment.seed)
            lifting.prepare(model)
            room = self._room(model, int(config["batch_size"]))
        except Exception as error:  # noqa: BLE001 (the user's builder: anything may come out of it)
            self._failed.append(Failed(assignment.member, failures.one_line(error), failures.trace(error)))
            return
        room.waiting.append((assignment, model))

    def advance(self) -> Sequence[Event]:
        events, self._failed = self._failed, []
        for room in self._rooms.values():
            room.settle()
            # What is stored already is computed again first, so that afterwards all are where they were before the crash.
            while behind := {n: lane for n, lane in room.lanes.items() if lane.epoch < lane.assignment.done}:
                events += _advance(room.program, behind)
            if room.lanes:
                events += _advance(room.program, room.lanes)
        return events

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = {verdict.member for verdict in verdicts if verdict.ends}
        self._members -= ended
        for room in self._rooms.values():
            room.lanes = {number: lane for number, lane in room.lanes.items() if lane.assignment.member not in ended}
            room.waiting = deque(waiting for waiting in room.waiting if waiting[0].member not in ended)

    def close(self) -> None:
        self._rooms.clear()
        self._members.clear()

    def _room(self, model: keras.Model, batch_size: int) -> _Room:
        key = lifting.program_key(model, lifting.slots(model), batch_size)
        if key not in self._rooms:
            program = Program(
                model,
                lanes=self._lanes,
                batch_size=batch_size,
                arrays=self._arrays,
                validation=self._validation,
                validation_batch=validation_batch(batch_size),
            )
            self._rooms[key] = _Room(program)
        return self._rooms[key]


def _advance(program: Program, lanes: Mapping[int, _Lane]) -> list[Event]:
    """Train some lanes of a program by an epoch each."""
    began = time.perf_counter()
    for lane in lanes.values():
        lane.epoch += 1
    found = program.advance({number: (lane.assignment.seed, lane.epoch) for number, lane in lanes.items()})
    # Each is charged its share of the time that all of them took together.
    seconds = (time.perf_counter() - began) / len(lanes)
    return [EpochEnd(lane.assignment.member, lane.epoch, found[number], seconds) for number, lane in lanes.items()]
