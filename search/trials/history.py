"""What is kept of a study: all of it, as a storage gives it back, and what a commit adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from search.spec.study import StudyFile
from search.trials.events import Member
from search.trials.objective import Objective
from search.trials.trial import Trial


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that the study's table alone does not explain: a lost worker, a clock's decision, an interruption."""

    kind: str
    detail: dict[str, Any]
    at: datetime


@dataclass(frozen=True)
class History:
    """A study as it is stored.

    Attributes:
        file: its settings; the path is that of the study file it was first started from, which may be gone.
        seconds: spent on it so far.
        spent: where its workers' time went, in seconds by part: compile, build (waiting for models to be built), train (and
            evaluate), wait (for the coordinator), save (checkpoints, while the coordinator judges).
        ended: why it is done, or "".
        events: (moment in UTC, kind, detail), the first first.
        study_attrs: what its sampler keeps with it.
    """

    file: StudyFile
    resolved: dict[str, Any]
    identity: dict[str, Any]
    seconds: float
    ended: str
    trials: list[Trial] = field(default_factory=list)
    events: list[tuple[datetime, str, dict[str, Any]]] = field(default_factory=list)
    study_attrs: dict[str, Any] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> list[Trial]:
        """COMPLETE trials, the best first; of equals the lower number first."""
        done = [trial for trial in self.trials if trial.state == "COMPLETE" and trial.value is not None]
        return sorted(done, key=Objective.of(self.file).rank)


@dataclass(frozen=True, slots=True)
class TrialStart:
    """A trial that was drawn and given to an engine."""

    number: int
    params: Mapping[str, Any]
    at: datetime | None
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Epoch:
    """A whole epoch of a member, counted from 1. `value` is its objective."""

    member: Member
    epoch: int
    seconds: float
    metrics: Mapping[str, float | None]
    value: float


@dataclass(frozen=True, slots=True)
class TrialState:
    """What a trial has come to: the attributes are those of `Trial`, the seconds those of all its epochs together."""

    number: int
    state: str
    ended: str
    why: str
    detail: str
    value: float | None
    best_epoch: int | None
    epochs: int
    seconds: float
    ended_at: datetime | None
    attrs: Mapping[str, Any]

    @property
    def is_ended(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True, slots=True)
class Commit:
    """All that has happened to a study since the last commit: stored whole, or not at all.

    Attributes:
        states: of trials that changed theirs, as they are now.
        study_attrs: those that the sampler has changed.
        seconds, spent, ended: as `History` has them, of the whole study.
    """

    started: Sequence[TrialStart] = ()
    epochs: Sequence[Epoch] = ()
    states: Sequence[TrialState] = ()
    study_attrs: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[HistoryEvent] = ()
    seconds: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)
    ended: str = ""
