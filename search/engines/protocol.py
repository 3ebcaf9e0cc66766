"""What an engine is: it trains members, and knows nothing of samplers, pruners or storage. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.trials.events import Assignment, Event, Member, Verdict

if TYPE_CHECKING:
    from search.engines.checkpoints import Checkpoints
    from search.engines.training import Trainer


@dataclass(frozen=True, slots=True)
class SaveModel:
    """Build a trial's model, give it its kept weights, and save it; answered by Noted, or Failed.

    The answer's detail: `values`, the metrics by name; `is_of_file`, whether they are those of the written file, loaded
    back; `lines`, what a person has to know of the file.

    Attributes:
        weights: the file that `Keep` wrote.
        path: where the model goes, ending in .keras.
        learning_rate: of the epoch that the weights are of; None if it is not known.
    """

    member: Member
    config: Mapping[str, Any]
    seed: int
    weights: str
    path: str
    learning_rate: float | None = None


class Declined(Exception):  # noqa: N818 (a property of a study, not an error of anybody's)
    """An engine can't train a study's models, or it would not pay; the message says which part and why."""


@dataclass(frozen=True)
class Wanted:
    """What a worker asks an engine for.

    Attributes:
        trainer: makes the study's models, and has its data.
        fixed: what every config has beside its parameters.
        lanes: what was decided at the study's first start, as `Made.lanes`; empty if that is now.
        workers: that share this device's memory.
        is_chosen: whether the study names this engine: whether it pays is then not asked.
    """

    trainer: Trainer
    checkpoints: Checkpoints
    fixed: Mapping[str, Any]
    lanes: Mapping[str, int]
    workers: int
    is_chosen: bool


@dataclass(frozen=True)
class Made:
    """An engine that is ready to train.

    Attributes:
        lanes: how many members it trains at a time, as `Ready.lanes`; empty for one.
        memory: bytes that they need, and may have; 0: not known.
    """

    engine: Engine
    lanes: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)


class Make(Protocol):
    """What stands in the registry of engines."""

    def __call__(self, wanted: Wanted) -> Made:
        """Make the engine; Declined if it can't train this study, UsageError for what a person must mend."""


class Engine(Protocol):
    """Trains members in the process that it is made in. One contract test class runs against every implementation."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Where it saves what is under way."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """What it has spent so far on what is not training, by part: compile, build."""

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to get a member ready that will be started. May do nothing; called from any thread."""

    def start(self, assignment: Assignment) -> None:
        """Take a member in; its first epoch begins no later than the next `advance`, if it has a place."""

    def advance(self) -> Sequence[Event]:
        """Train every member that has a place by one epoch; return what happened, in order of members."""

    def keep(self, member: Member, path: Path) -> str:
        """Write the best weights of a member that is about to end; return why that could not be done, or ""."""

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        """Go on with the members that may, free the places of those that may not."""

    def save(self) -> None:
        """Write a checkpoint of all members if it is time. Called after `advance`, while the coordinator judges."""

    def close(self) -> None:
        """End everything, whatever is under way. Safe to call twice."""
