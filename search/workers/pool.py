"""Supervises workers: starts, feeds, watches and replaces them, so that all of them together look like one trainer.

Nothing here imports keras.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.engines.checkpoints import kept_path
from search.engines.devices import Device
from search.engines.protocol import SaveModel
from search.errors import DataError, ManyfitError, StartError, UsageError
from search.log import StudyLog
from search.spec.ready import Ready
from search.trials.events import (
    Assignment,
    EpochEnd,
    Event,
    Failed,
    Lost,
    Member,
    Noted,
    Overdue,
    Spent,
    Verdict,
    not_kept,
)
from search.workers.messages import Go, Keep, Looking, Refused, Saved, WorkerSpec
from search.workers.pace import OVERDUE_FACTOR, OVERDUE_SLACK_S, Pace
from search.workers.transport import Gone, Link, Transport

# How long `advance` waits for something to happen: signals, the clock and the store are looked after in between.
TICK_S = 0.1
# A worker is replaced when it has grown by this much since its first trial, unless run.worker_memory says otherwise.
GROWTH_BYTES = 2 * 1024**3
# In the middle of trials no sooner than after so many times what its start took.
BUSY_RENEWAL = 20.0
# A worker that can't even start this often in a row will not start at all.
MOST_FAILED_STARTS = 2
# How long a worker may take to end a training before it is ended itself.
SETTLE_S = 5.0
# How long the weights of a member may take to be written; and after a signal, which is to end a command within 10 s.
KEEP_S, KEEP_INTERRUPTED_S = 120.0, 5.0


@dataclass
class _Worker:
    """A worker and what it is at.

    Attributes:
        ready: None until it has its data.
        members: what it trains, with how far each of them is.
        began: the moment of its start; `start_s`: the seconds until it was ready.
        outbox: what it is told at the next tick, all at once: so that it never begins an epoch with half of it.
        busy_since: the moment of the tick that it has still to answer; None if there is none. What is sent meanwhile is
            for the tick after it.
        is_saved: whether its last checkpoint could be written.
    """

    number: int
    device: Device
    link: Link
    began: float
    ready: Ready | None = None
    members: dict[Member, Assignment] = field(default_factory=dict)
    start_s: float = 0.0
    outbox: list[Assignment | Verdict | Keep | SaveModel | Go] = field(default_factory=list)
    busy_since: float | None = None
    first_size: int = 0
    is_saved: bool = True
    pace: Pace = field(default_factory=Pace)

    @property
    def has_capacity(self) -> bool:
        return self.ready is not None and len(self.members) < self.ready.capacity

    @property
    def is_full(self) -> bool:
        """Whether it can train as many members at once as it ever will, whoever is still to come."""
        return self.ready is not None and len(self.members) >= self.ready.places


@dataclass(frozen=True, slots=True)
class Terms:
    """What a study asks of its workers.

    Attributes:
        memory: bytes at which a worker is replaced between two trials; None: when it has grown by GROWTH_BYTES.
        look_s: seconds that a trial may take, if that is limited: workers may not look at the model much longer.
        folder: of the study's files.
    """

    memory: int | None = None
    look_s: float | None = None
    folder: Path = Path()


class WorkerPool:
    """One worker a device, each with as many members as it says it has places for, behind the loop's port.

    Args:
        spec: of every worker, but for its number.
        transport: starts workers and reaches them.
        interruption: returns the number of a signal that has come, or 0: nothing is waited for then.
        clock: tells the time, in seconds.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        devices: Sequence[Device],
        transport: Transport,
        log: StudyLog,
        *,
        terms: Terms | None = None,
        interruption: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec, self._transport, self._log = spec, transport, log
        self._terms, self._interruption, self._clock = terms or Terms(), interruption, clock
        self._failed_starts = 0
        # A callback of the user's can't be saved.
        self._can_go_on = not spec.settings.train.callbacks
        self._first: Ready | None = None
        self._workers = [self._spawn(number, device) for number, device in enumerate(devices)]

    def wait_until_ready(self, *, tick: Any = None) -> Ready:
        """Wait for every worker's data and builder; return what the first one says.

        Raises what a worker refused (exit 2), or StartError with the end of its stderr if it died.
        """
        while any(worker.ready is None for worker in self._workers):
            self._receive()
            self._end_endless_looks()
            if tick is not None:
                tick()
        assert self._first is not None  # noqa: S101 (there is at least one worker)
        return self._first

    def go_on_as(self, spec: WorkerSpec) -> None:
        """Give workers that will replace others what the first ones have found out, so that they need not do it again."""
        self._spec = spec

    @property
    def has_capacity(self) -> bool:
        return any(worker.has_capacity for worker in self._workers)

    def start(self, assignment: Assignment) -> None:
        # The emptiest one, so that several devices fill up together; of equals the first.
        worker = min((w for w in self._workers if w.has_capacity), key=lambda w: len(w.members))
        worker.members[assignment.member] = assignment
        worker.outbox.append(assignment)
        if worker.busy_since is not None:
            # It trains: this one is for later, and can be built meanwhile.
            self._send(worker)

    def advance(self) -> Sequence[Event]:
        for worker in self._workers:
            if worker.ready is not None and worker.busy_since is None and (worker.outbox or worker.members):
                self._go(worker)
        return [*self._receive(), *self._overdue()]

    def keep(self, members: Sequence[Member]) -> Sequence[Event]:
        events: list[Event] = []
        until = math.inf
        for member in members:
            worker = next((w for w in self._workers if member in w.members), None)
            if worker is None or worker.busy_since is not None:
                events.append(not_kept(member, "its worker was lost"))
                continue
            worker.outbox, outbox = [Keep(member, str(kept_path(self._terms.folder, member)))], worker.outbox
            self._send(worker)
            worker.outbox = outbox
            began = self._clock()
            while not worker.link.has_sent(within_s=TICK_S):
                now = self._clock()
                if self._interruption():
                    until = min(until, now + KEEP_INTERRUPTED_S)  # for all of them together
                if now - began > KEEP_S or now > until:
                    # It is given up, and its end noticed at the next `advance`.
                    worker.link.kill()
                    events.append(not_kept(member, f"they were not written after {now - began:.0f} s"))
                    break
            else:
                try:
                    events += [message for message in worker.link.receive() if isinstance(message, Noted)]
                except Gone:
                    events.append(not_kept(member, "its worker was lost"))
        return events

    def save_model(self, order: SaveModel) -> Noted | Failed:
        """Let a worker that trains nothing save a model; return its metrics, or what went wrong."""
        worker = self._workers[0]
        worker.outbox = [order]
        self._send(worker)
        try:
            (answer,) = worker.link.receive()
        except Gone:
            return Failed(order.member, "its worker was lost", worker.link.last_words)
        assert isinstance(answer, Noted | Failed)  # noqa: S101 (a worker answers so)
        return answer

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = set()
        for verdict in verdicts:
            worker = next((w for w in self._workers if verdict.member in w.members), None)
            if worker is None:
                continue
            worker.outbox.append(verdict)
            if verdict.ends:
                del worker.members[verdict.member]
                ended.add(worker.number)
        for worker in list(self._workers):
            # One that has only just started is as large as it has to be.
            if worker.ready is not None and worker.busy_since is None and (worker.members or worker.number in ended):
                self._renew_if_grown(worker)
        for worker in self._workers:
            if worker.is_full and worker.busy_since is None:
                # At once: what is still to be drawn is drawn while the device trains.
                self._go(worker)

    def close(self) -> None:
        for worker in self._workers:
            self._settle(worker)
        for worker in self._workers:
            worker.link.end()

    def _spawn(self, number: int, device: Device) -> _Worker:
        link = self._transport.start(number, device, replace(self._spec, number=number))
        return _Worker(number, device, link, began=self._clock())

    def _receive(self) -> list[Event]:
        events: list[Event] = []
        heard = self._transport.wait([worker.link for worker in self._workers], for_s=TICK_S)
        for worker in list(self._workers):
            if worker is not self._workers[worker.number]:
                continue  # another one's death has ended all of them
            if worker.link not in heard:
                # What it has started may hold its end of the channel open.
                if not worker.link.is_running and not worker.link.has_sent():
                    events += self._replace(worker)
                continue
            try:
                messages = worker.link.receive()
            except Gone:
                events += self._replace(worker)
                continue
            worker.busy_since = None
            for message in messages:
                if isinstance(message, Looking):
                    worker.busy_since = self._clock()
                elif isinstance(message, Ready):
                    self._greet(worker, message)
                elif isinstance(message, Refused):
                    raise (DataError if message.is_data else UsageError)(message.message)
                elif isinstance(message, Saved):
                    # Without a checkpoint, never replace a worker in the middle of a trial; wait until it is idle.
                    worker.is_saved = message.is_whole
                elif isinstance(message, Event):
                    events.append(message)
                    self._watch(worker, message)
        return events

    def _watch(self, worker: _Worker, event: Event) -> None:
        """Take note of how far members are, and of what an epoch of this worker takes."""
        if isinstance(event, Spent):
            worker.pace.ticked(event.seconds.get("train", 0.0))
        if isinstance(event, Noted) and event.kind == "program compiled":
            worker.pace.compiled += 1
        if isinstance(event, EpochEnd) and event.member in worker.members:
            assignment = worker.members[event.member]
            worker.members[event.member] = replace(assignment, done=max(assignment.done, event.epoch))
            worker.pace.spent[event.member] = worker.pace.spent.get(event.member, 0.0) + event.seconds

    def _greet(self, worker: _Worker, ready: Ready) -> None:
        """Let a worker begin that has the data and the builder that all others have; UsageError if they differ."""
        self._first = self._first or ready
        if ready.fingerprint != self._first.fingerprint:
            raise UsageError("the data are not what this command began with: a file was changed, or a source is random")
        if (ready.engine, ready.lanes) != (self._first.engine, self._first.lanes):
            raise ManyfitError(
                f"the workers came to different engines: {self._first.engine} and {ready.engine} ({ready.why})"
            )
        if ready.source != self._first.source:
            raise UsageError(
                "the builder's source is not what this command began with; change it back, or use a new --name"
            )
        worker.ready = ready
        worker.start_s = self._clock() - worker.began
        self._failed_starts = 0

    def _replace(self, worker: _Worker, *, hung: bool = False) -> list[Event]:
        """Start a new worker in the place of a dead one; return what that means for its members."""
        worker.link.end()
        reason = worker.link.death
        self._log.write(f"worker {worker.number} {reason}")
        tail = worker.link.last_words
        if worker.ready is None:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise StartError(
                    f"the worker on {worker.device.name} can't start: it {reason}; its last words:\n{tail}",
                    f"workers that looked at the model for them died; the last one {reason}",
                )
        new = self._workers[worker.number] = self._spawn(worker.number, worker.device)
        new.pace, new.start_s = worker.pace.after(), worker.start_s
        alone = len(worker.members) == 1
        # Members get their places in the order in which they came.
        places = worker.ready.places if worker.ready is not None else 1
        return [
            Lost(member, f"its worker {reason}", tail, alone=alone, trained=number < places, hung=hung)
            for number, member in enumerate(worker.members)
        ]

    def _end_endless_looks(self) -> None:
        """Raise StartError when a builder takes longer for the look of an engine than a trial may, and there is another."""
        if self._terms.look_s is None or len(self._spec.engines) == 1:
            return
        for worker in self._workers:
            limit = OVERDUE_FACTOR * self._terms.look_s + OVERDUE_SLACK_S
            if worker.busy_since is not None and self._clock() - worker.busy_since > limit:
                why = f"looking at the model for them was not done after {limit:.0f} s"
                raise StartError(f"the worker on {worker.device.name} can't start: {why}", why)

    def _overdue(self) -> list[Event]:
        """End workers that stand still. A member that was alone is to blame; several go on one at a time, to find the one."""
        events: list[Event] = []
        for worker in list(self._workers):
            if worker.busy_since is None or not worker.members:
                continue
            seconds = self._clock() - worker.busy_since
            programs = worker.ready.lanes.get("programs", 1) if worker.ready is not None else 1
            deadline_s = worker.pace.deadline_s(worker.members.values(), start_s=worker.start_s, programs=programs)
            if deadline_s is None or seconds <= deadline_s:
                continue
            lost = self._replace(worker, hung=True)
            events += [Overdue(next(iter(worker.members)), seconds)] if len(worker.members) == 1 else lost
        return events

    def _renew_if_grown(self, worker: _Worker) -> None:
        """Replace a worker when its memory has passed the limit.

        Between two trials at once; in the middle of some, which then go on from their checkpoints, only if it has worked so
        much longer than it took to start that this costs a twentieth at most.
        """
        if worker.members and not (self._can_go_on and worker.is_saved):
            return
        if worker.members and self._clock() - worker.began < BUSY_RENEWAL * worker.start_s:
            return
        if not (size := worker.link.memory):
            return
        worker.first_size = worker.first_size or size
        limit = self._terms.memory if self._terms.memory is not None else worker.first_size + GROWTH_BYTES
        if size > limit:
            self._log.write(f"worker {worker.number} has grown to {size / 1e6:.0f} MB and is replaced")
            self._settle(worker)
            worker.link.end()
            new = self._workers[worker.number] = self._spawn(worker.number, worker.device)
            new.members, new.pace, new.start_s = dict(worker.members), worker.pace.after(), worker.start_s
            new.outbox = list(worker.members.values())

    def _go(self, worker: _Worker) -> None:
        worker.outbox.append(Go())
        worker.pace.begins(worker.members.values())
        worker.busy_since = self._clock()
        self._send(worker)

    def _send(self, worker: _Worker) -> None:
        messages, worker.outbox = worker.outbox, []
        worker.link.send(messages)

    def _settle(self, worker: _Worker) -> None:
        """Let a worker without members finish what it is at: the last verdict reaches the model's callbacks, too."""
        if worker.members or not worker.outbox or worker.busy_since is not None:
            return
        self._go(worker)
        worker.link.has_sent(within_s=SETTLE_S)
