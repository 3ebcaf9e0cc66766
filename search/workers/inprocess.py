"""An engine in this very process, as the loop sees those who train: for what needs no Keras, and no process to die alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.engines.checkpoints import kept_path
from search.engines.protocol import Engine
from search.engines.replay import Curves, ReplayEngine
from search.trials.events import Assignment, Event, Member, Verdict, not_kept


class InProcess:
    """Trains up to `capacity` members by an engine that was made here.

    Args:
        folder: where the weights of the best members go; None to keep none.
    """

    def __init__(self, engine: Engine, *, capacity: int = 1, folder: Path | None = None) -> None:
        self._engine, self._capacity, self._folder = engine, capacity, folder
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
        if self._folder is None:
            return []
        troubles = [(member, self._engine.keep(member, kept_path(self._folder, member))) for member in members]
        return [not_kept(member, why) for member, why in troubles if why]

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        ended = {verdict.member for verdict in verdicts if verdict.ends}
        self._engine.apply(verdicts)
        self._engine.checkpoints.end(ended)
        self._members -= ended
        self._engine.save()

    def close(self) -> None:
        self._engine.close()


class Replaying(InProcess):
    """Plays curves instead of training, in `lanes` places; `ahead` more members may wait for one."""

    def __init__(self, curves: Curves, lanes: int = 1, ahead: int = 0) -> None:
        super().__init__(ReplayEngine(curves, lanes), capacity=lanes + ahead)
