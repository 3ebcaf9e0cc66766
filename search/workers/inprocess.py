"""A trainer for the search loop that runs its engine in this process: for replay, tests and engines without Keras."""

from __future__ import annotations

from collections.abc import Sequence

from search.engines.protocol import Engine
from search.engines.replay import Curves, ReplayEngine
from search.trials.events import Assignment, Event, Member, Verdict, not_kept
from search.trials.files import StudyFiles


class InProcess:
    """Trains up to `capacity` members by an engine in this process.

    Args:
        files: those of the study, for the weights of the best members; None keeps no weights.
    """

    def __init__(self, engine: Engine, *, capacity: int = 1, files: StudyFiles | None = None) -> None:
        self._engine, self._capacity, self._files = engine, capacity, files
        self._members: set[Member] = set()

    @property
    def has_capacity(self) -> bool:
        return len(self._members) < self._capacity

    def start(self, assignment: Assignment) -> None:
        self._members.add(assignment.member)
        self._engine.prefetch(assignment)
        self._engine.start(assignment)

    def advance(self) -> Sequence[Event]:
        return self._engine.advance()

    def keep(self, members: Sequence[Member]) -> Sequence[Event]:
        if self._files is None:
            return []
        errors = [(member, self._engine.keep(member, self._files.weights(member))) for member in members]
        return [not_kept(member, why) for member, why in errors if why]

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = {verdict.member for verdict in verdicts if verdict.ends}
        self._engine.apply(verdicts)
        self._engine.checkpoints.mark_ended(ended)
        self._members -= ended
        self._engine.save()

    def close(self) -> None:
        self._engine.close()


class Replaying(InProcess):
    """Replays curves instead of training. `lanes` members train at a time, and `ahead` more may wait for a lane."""

    def __init__(self, curves: Curves, lanes: int = 1, ahead: int = 0) -> None:
        super().__init__(ReplayEngine(curves, lanes), capacity=lanes + ahead)
