"""Supervises workers: starts, feeds, watches and replaces them. The search loop sees one trainer.

Nothing here imports keras.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from search.engines.devices import Device
from search.engines.protocol import Order
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
from search.workers.hosted import HostedWorker
from search.workers.messages import Go, Inspecting, Keep, Refused, Saved, WorkerSpec
from search.workers.pace import OVERDUE_FACTOR, OVERDUE_SLACK_S
from search.workers.transport import Gone, Transport

# `advance` waits this long for messages, then returns so that the loop can handle signals, the clock and the store.
TICK_S = 0.1
# A worker is replaced when it has grown by this much since its first trial, unless run.worker_memory sets a limit.
GROWTH_BYTES = 2 * 1024**3
# A grown worker is replaced in the middle of trials only after it has run for this many times its start-up time.
BUSY_RENEWAL = 20.0
# After this many failed starts in a row, the study can't start.
MAX_FAILED_STARTS = 2
# At close, how long a worker may take for its last tick before the pool kills it.
LAST_TICK_S = 5.0
# How long a worker may take to write a member's weights; less after a signal, which must end a command within 10 s.
KEEP_S, KEEP_INTERRUPTED_S = 120.0, 5.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Limits that a study sets for its workers.

    Attributes:
        memory: bytes at which a worker is replaced; None replaces it when it has grown by GROWTH_BYTES.
        trial_s: the study's time limit for a trial, if any: inspecting the model may not take much longer.
    """

    memory: int | None = None
    trial_s: float | None = None


class WorkerPool:
    """One worker for each device; the search loop uses them all through `Trainers`. Each worker reports its own capacity.

    Args:
        spec: the spec of all workers; the pool sets the number in it.
        transport: starts workers and reaches them.
        interruption: returns the number of a received signal, or 0. After a signal the pool waits less for workers.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        devices: Sequence[Device],
        transport: Transport,
        log: StudyLog,
        *,
        limits: WorkerLimits | None = None,
        interruption: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec, self._transport, self._log = spec, transport, log
        self._limits, self._interruption, self._clock = limits or WorkerLimits(), interruption, clock
        self._failed_starts = 0
        self._first_ready: Ready | None = None
        self._workers = [self._spawn(number, device) for number, device in enumerate(devices)]

    def wait_until_ready(self, *, tick: Any = None) -> Ready:
        """Wait until all workers are ready; return the first worker's Ready.

        Raises UsageError or DataError if a worker refused to start, StartError with the end of its stderr if it died.
        """
        while any(worker.ready is None for worker in self._workers):
            self._receive()
            self._check_inspection_time()
            if tick is not None:
                tick()
        assert self._first_ready is not None  # noqa: S101 (there is at least one worker)
        return self._first_ready

    def replace_spec(self, spec: WorkerSpec) -> None:
        """Use this spec for replacement workers: it contains what the first workers decided, such as the lanes."""
        self._spec = spec

    @property
    def has_capacity(self) -> bool:
        return any(worker.has_capacity for worker in self._workers)

    def start(self, assignment: Assignment) -> None:
        # The worker with the fewest members, so that all devices fill up evenly.
        worker = min((w for w in self._workers if w.has_capacity), key=lambda w: len(w.members))
        worker.members[assignment.member] = assignment
        worker.outbox.append(assignment)
        if worker.busy_since is not None:
            # Send at once: the worker can build this member's model while it trains the others.
            self._send(worker)

    def advance(self) -> Sequence[Event]:
        for worker in self._workers:
            if worker.ready is not None and worker.busy_since is None and (worker.outbox or worker.members):
                self._start_tick(worker)
        return [*self._receive(), *self._overdue()]

    def keep(self, members: Sequence[Member]) -> Sequence[Event]:
        events: list[Event] = []
        deadline = math.inf
        for member in members:
            worker = next((w for w in self._workers if member in w.members), None)
            if worker is None or worker.busy_since is not None:
                events.append(not_kept(member, "its worker was lost"))
                continue
            worker.outbox, outbox = [Keep(member, str(self._spec.files.weights(member)))], worker.outbox
            self._send(worker)
            worker.outbox = outbox
            began = self._clock()
            while not worker.link.has_sent(within_s=TICK_S):
                now = self._clock()
                if self._interruption():
                    deadline = min(deadline, now + KEEP_INTERRUPTED_S)  # one deadline for all members together
                if now - began > KEEP_S or now > deadline:
                    # The next `advance` notices the end and replaces the worker.
                    worker.link.kill()
                    events.append(not_kept(member, f"they were not written after {now - began:.0f} s"))
                    break
            else:
                try:
                    events += [message for message in worker.link.receive() if isinstance(message, Noted)]
                except Gone:
                    events.append(not_kept(member, "its worker was lost"))
        return events

    def answer(self, order: Order) -> Noted | Failed:
        """Let an idle worker do an order on models; return its report, or Failed."""
        worker = self._workers[0]
        if worker.outbox:  # the verdict that ended its last member
            self._start_tick(worker)
            with suppress(Gone):
                worker.link.receive()
            worker.busy_since = None
        worker.outbox = [order]
        self._send(worker)
        try:
            (answer,) = worker.link.receive()
        except Gone:
            return Failed(order.member, "its worker was lost", worker.link.last_words)
        assert isinstance(answer, Noted | Failed)  # noqa: S101 (the only replies to an order)
        return answer

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = set()
        for verdict in verdicts:
            worker = next((w for w in self._workers if verdict.member in w.members), None)
            if worker is None:
                continue
            if verdict.ends and (assignment := worker.members[verdict.member]) in worker.outbox:
                worker.outbox.remove(assignment)  # a new worker has not heard of it yet
            else:
                worker.outbox.append(verdict)
            if verdict.ends:
                del worker.members[verdict.member]
                ended.add(worker.number)
        for worker in list(self._workers):
            # A worker that has trained nothing since its start has not grown.
            if worker.ready is not None and worker.busy_since is None and (worker.members or worker.number in ended):
                self._renew_if_grown(worker)
        for worker in self._workers:
            if worker.is_full and worker.busy_since is None:
                # Start at once: the sampler draws further trials while the device trains.
                self._start_tick(worker)

    def close(self) -> None:
        for worker in self._workers:
            self._finish(worker)
        for worker in self._workers:
            worker.link.end()

    def _spawn(self, number: int, device: Device) -> HostedWorker:
        link = self._transport.start(number, device, replace(self._spec, number=number))
        return HostedWorker(number, device, link, began=self._clock())

    def _receive(self) -> list[Event]:
        events: list[Event] = []
        readable = self._transport.wait([worker.link for worker in self._workers], for_s=TICK_S)
        for worker in list(self._workers):
            if worker is not self._workers[worker.number]:
                continue  # it was replaced within this loop
            if worker.link not in readable:
                # A dead worker's child may keep the channel open, so check the process itself.
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
                if isinstance(message, Inspecting):
                    worker.busy_since = self._clock()
                elif isinstance(message, Ready):
                    self._accept_ready(worker, message)
                elif isinstance(message, Refused):
                    raise (DataError if message.is_data else UsageError)(message.message)
                elif isinstance(message, Saved):
                    # Without a checkpoint, never replace a worker in the middle of a trial; wait until it is idle.
                    worker.is_saved = message.is_whole
                elif isinstance(message, Event):
                    events.append(message)
                    self._record(worker, message)
        return events

    def _record(self, worker: HostedWorker, event: Event) -> None:
        """Record the progress of members, and the times of the worker's ticks."""
        if isinstance(event, Spent):
            worker.pace.end_tick(event.seconds.get("train", 0.0))
        if isinstance(event, Noted) and event.kind == "program compiled":
            worker.pace.programs += 1
        if isinstance(event, EpochEnd) and event.member in worker.members:
            assignment = worker.members[event.member]
            worker.members[event.member] = replace(assignment, done=max(assignment.done, event.epoch))
            worker.pace.seconds[event.member] = worker.pace.seconds.get(event.member, 0.0) + event.seconds

    def _accept_ready(self, worker: HostedWorker, ready: Ready) -> None:
        """Mark a worker as ready; UsageError if its data or builder differ from those of the first worker."""
        self._first_ready = self._first_ready or ready
        if ready.fingerprint != self._first_ready.fingerprint:
            raise UsageError("the data are not what this command began with: a file was changed, or a source is random")
        first = self._first_ready
        if (ready.engine, ready.lanes, ready.structures) != (first.engine, first.lanes, first.structures):
            raise ManyfitError(
                f"the workers came to different engines: {self._first_ready.engine} and {ready.engine} ({ready.why})"
            )
        if ready.source != self._first_ready.source:
            raise UsageError(
                "the builder's source is not what this command began with; change it back, or use a new --name"
            )
        worker.ready = ready
        worker.start_s = self._clock() - worker.began
        self._failed_starts = 0

    def _replace(self, worker: HostedWorker, *, hung: bool = False) -> list[Event]:
        """End a worker and start another on its device; return a Lost event for each of its members."""
        worker.link.end()
        reason = worker.link.death
        self._log.write(f"worker {worker.number} {reason}")
        tail = worker.link.last_words
        if worker.ready is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise StartError(
                    f"the worker on {worker.device.name} can't start: it {reason}; its last words:\n{tail}",
                    f"workers that looked at the model for them died; the last one {reason}",
                )
        new = self._workers[worker.number] = self._spawn(worker.number, worker.device)
        new.pace, new.start_s = worker.pace.for_successor(), worker.start_s
        alone = len(worker.members) == 1
        # Members got their places in the order of their starts; the others only waited.
        places = worker.ready.places if worker.ready is not None else 1
        return [
            Lost(member, f"its worker {reason}", tail, alone=alone, trained=number < places, hung=hung)
            for number, member in enumerate(worker.members)
        ]

    def _check_inspection_time(self) -> None:
        """Raise StartError if inspecting the model takes much longer than a trial may, and another engine is left to try."""
        if self._limits.trial_s is None or len(self._spec.engines) == 1:
            return
        for worker in self._workers:
            limit_s = OVERDUE_FACTOR * self._limits.trial_s + OVERDUE_SLACK_S
            if worker.busy_since is not None and self._clock() - worker.busy_since > limit_s:
                why = f"looking at the model for them was not done after {limit_s:.0f} s"
                raise StartError(f"the worker on {worker.device.name} can't start: {why}", why)

    def _overdue(self) -> list[Event]:
        """Replace hung workers. A single member is Overdue; several are Lost, and each is retried alone to find the cause."""
        events: list[Event] = []
        for worker in list(self._workers):
            if worker.busy_since is None or not worker.members:
                continue
            seconds = self._clock() - worker.busy_since
            programs: float = worker.ready.lanes.get("programs", 1) if worker.ready is not None else 1
            if worker.ready is not None and worker.ready.structures:
                programs = math.inf  # a member beside the lanes compiles its own
            deadline_s = worker.pace.deadline_s(worker.members.values(), start_s=worker.start_s, programs=programs)
            if deadline_s is None or seconds <= deadline_s:
                continue
            lost = self._replace(worker, hung=True)
            events += [Overdue(next(iter(worker.members)), seconds)] if len(worker.members) == 1 else lost
        return events

    def _renew_if_grown(self, worker: HostedWorker) -> None:
        """Replace a worker whose memory has passed the limit.

        An idle worker is replaced at once. A busy one is replaced only if its members can resume from checkpoints, and if it
        has run so long that the restart costs at most a twentieth of that time.
        """
        if worker.members and not (worker.ready is not None and worker.ready.resumes and worker.is_saved):
            return
        if worker.members and self._clock() - worker.began < BUSY_RENEWAL * worker.start_s:
            return
        if not (size := worker.link.memory):
            return
        worker.first_size = worker.first_size or size
        limit = self._limits.memory if self._limits.memory is not None else worker.first_size + GROWTH_BYTES
        if size > limit:
            self._log.write(f"worker {worker.number} has grown to {size / 1e6:.0f} MB and is replaced")
            self._finish(worker)
            worker.link.end()
            new = self._workers[worker.number] = self._spawn(worker.number, worker.device)
            new.members, new.pace, new.start_s = dict(worker.members), worker.pace.for_successor(), worker.start_s
            new.outbox = list(worker.members.values())

    def _start_tick(self, worker: HostedWorker) -> None:
        worker.outbox.append(Go())
        worker.pace.begin_tick(worker.members.values())
        worker.busy_since = self._clock()
        self._send(worker)

    def _send(self, worker: HostedWorker) -> None:
        messages, worker.outbox = worker.outbox, []
        worker.link.send(messages)

    def _finish(self, worker: HostedWorker) -> None:
        """Let a worker without members apply its last verdicts: the callbacks of its models learn that training ended."""
        if worker.members or not worker.outbox or worker.busy_since is not None:
            return
        self._start_tick(worker)
        worker.link.has_sent(within_s=LAST_TICK_S)
