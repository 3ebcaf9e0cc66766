"""What an engine is: it trains members, and knows nothing of samplers, pruners or storage. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.core.events import Assignment, Event, Failed, Member, Noted, Verdict

if TYPE_CHECKING:
    from search.engines.checkpoints import Checkpoints


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


class Engine(Protocol):
    """Trains members in the process that it is made in. One contract test class runs against every implementation."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Where it saves what is under way."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """What it has spent so far on what is not training, by part: compile, build."""

    def foresee(self, assignment: Assignment) -> None:
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

    def save_model(self, order: SaveModel) -> Noted | Failed:
        """Save the model of a trial whose weights were kept. Called only while nothing is trained."""

    def close(self) -> None:
        """End everything, whatever is under way. Safe to call twice."""
