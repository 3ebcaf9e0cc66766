"""The replay engine: it returns recorded or computed curves instead of training, to test and benchmark the search itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from search.engines.checkpoints import Checkpoints
from search.trials.events import Assignment, EpochEnd, Event, Failed, Member, Verdict

Curves = Callable[[Assignment, int], Mapping[str, float]]
"""(assignment, epoch from 1) -> the metrics of that epoch. An exception fails the member."""


class ReplayEngine:
    """Replays curves in `lanes` places: each `advance` moves every member in a place by one epoch, in order of members."""

    def __init__(self, curves: Curves, lanes: int = 1) -> None:
        self._curves, self._lanes = curves, lanes
        self._members: dict[Member, tuple[Assignment, int]] = {}
        self.checkpoints = Checkpoints(None)
        self.seconds: dict[str, float] = {}

    def prefetch(self, assignment: Assignment) -> None:
        pass  # curves need no preparation

    def start(self, assignment: Assignment) -> None:
        self._members[assignment.member] = (assignment, 0)

    def advance(self) -> Sequence[Event]:
        placed = sorted(self._members)[: self._lanes]
        events: list[EpochEnd | Failed] = []
        # Like an engine that trains: first repeat the epochs that are already stored.
        while behind := [m for m in placed if self._members[m][1] < self._members[m][0].done]:
            events += self._epoch(behind)
            failed = {event.member for event in events if isinstance(event, Failed)}
            placed = [member for member in placed if member not in failed]
        return sorted(events + self._epoch(placed), key=lambda event: event.member)

    def _epoch(self, members: Sequence[Member]) -> list[EpochEnd | Failed]:
        events: list[EpochEnd | Failed] = []
        for member in members:
            assignment, epoch = self._members[member]
            try:
                metrics = self._curves(assignment, epoch + 1)
            except Exception as error:  # noqa: BLE001 (a curve replaces a training, which may raise anything)
                events.append(Failed(member, f"{type(error).__name__}: {error}"))
                continue
            self._members[member] = (assignment, epoch + 1)
            events.append(EpochEnd(member, epoch + 1, metrics, seconds=0.0))
        return events

    def keep(self, member: Member, path: Path) -> str:  # noqa: ARG002 (required by the protocol)
        return "curves have no weights"

    def save(self) -> None:
        pass  # curves have no state to save

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.ends:
                self._members.pop(verdict.member, None)

    def close(self) -> None:
        self._members.clear()
