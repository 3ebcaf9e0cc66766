"""A stored study as plain values: all of it as a storage loads it, and what a commit adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from search.spec.study import StudyFile
from search.trials.events import Member
from search.trials.objective import Objective
from search.trials.trial import Trial

# The kind of an event for files that the user's code has imported for some configs only; `files` has their hashes.
IMPORTED = "imported"
# The kind of an event for an evaluation of the test rows; `values` has the metrics.
TEST_EVALUATED = "test rows evaluated"
# The kind of an event for an epoch that was trained again, after an interruption, and came to another value; `stored` stays.
RECOMPUTED = "recomputed epoch differs"
# Kinds of events after which a study's builder may be another one, with other files: nothing had been trained.
_OF_A_NEW_BUILDER = ("builder mended", "builder changed")


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """An event that the table of trials does not show: a lost worker, a time limit, an interruption."""

    kind: str
    detail: dict[str, Any]
    at: datetime


@dataclass(frozen=True)
class History:
    """A study as it is stored.

    Attributes:
        file: its settings; the path is that of the study file it was first started from, which may no longer exist.
        seconds: spent on it so far.
        spent: its workers' time in seconds by part: compile, build (waiting for models to be built), train (and evaluate),
            wait (for the coordinator), save (checkpoints, while the coordinator judges).
        ended: why it is done, or "".
        events: (time in UTC, kind, detail), the oldest first.
        study_attrs: what its sampler stores with it.
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
    def imported(self) -> dict[str, str]:
        """Hashes of the files that the user's code imported while it trained, at their first import, by name."""
        files: dict[str, str] = {}
        for _, kind, detail in self.events:
            if kind in _OF_A_NEW_BUILDER:
                files.clear()
            elif kind == IMPORTED:
                files = {**detail["files"], **files}
        return files

    @property
    def full_identity(self) -> dict[str, Any]:
        """The identity, with the files that were imported after its first start among the model's files."""
        model = self.identity["model"]
        if not (imported := self.imported):
            return self.identity
        return {**self.identity, "model": {**model, "files": {**imported, **model.get("files", {})}}}

    @property
    def test_evaluations(self) -> int:
        """How often the test rows have been evaluated."""
        return sum(kind == TEST_EVALUATED for _, kind, _ in self.events)

    @property
    def complete(self) -> list[Trial]:
        """COMPLETE trials, the best first; among equal ones the lower number first."""
        complete = [trial for trial in self.trials if trial.state == "COMPLETE" and trial.value is not None]
        return sorted(complete, key=Objective.of(self.file).rank)


@dataclass(frozen=True, slots=True)
class TrialStart:
    """A trial that was drawn and given to an engine."""

    number: int
    params: Mapping[str, Any]
    at: datetime | None
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Epoch:
    """A finished epoch of a member, counted from 1.

    `value` is the trial's objective at this epoch if this member is the last of the trial's to finish it, else None.
    """

    member: Member
    epoch: int
    seconds: float
    metrics: Mapping[str, float | None]
    value: float | None


@dataclass(frozen=True, slots=True)
class TrialState:
    """The current state of a trial, with the attributes of `Trial`; `seconds` are those of all its epochs together."""

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
    """All changes of a study since the last commit. A storage stores all of it, or nothing.

    Attributes:
        states: the current states of all trials whose state changed.
        study_attrs: those that the sampler has changed.
        seconds, spent, ended: of the whole study, as in `History`.
    """

    started: Sequence[TrialStart] = ()
    epochs: Sequence[Epoch] = ()
    states: Sequence[TrialState] = ()
    study_attrs: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[HistoryEvent] = ()
    seconds: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)
    ended: str = ""
