"""The protocol of engines: an engine trains members and knows no samplers, pruners or storage. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from search.trials.events import Assignment, Event, Member, Verdict

if TYPE_CHECKING:
    from search.engines.checkpoints import Checkpoints
    from search.engines.training import Trainer


@dataclass(frozen=True, slots=True)
class SaveModel:
    """An order to build a trial's model, load its kept weights and save it. The reply is Noted or Failed.

    The detail of Noted: `values`, the metrics by name; `of_file`, the names of those that come from the saved file, loaded
    back; `lines`, what the user has to know about the file; `evaluated`, the metrics of the study's own objects, before the
    file was written; `is_half`, whether the model computes in 16 bits.

    Attributes:
        weights: path of the file that `Keep` wrote.
        path: of the model to write, ending in .keras.
        origin: the fields of `ModelNotes` that the study knows: its name, its trial ...
        learning_rate: of the epoch of the weights; None if unknown.
    """

    member: Member
    config: Mapping[str, Any]
    seed: int
    weights: str
    path: str
    origin: Mapping[str, Any]
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class EvaluateModel:
    """An order to evaluate a model on the rows that this worker judges by. The reply is Noted or Failed.

    The detail of Noted: `values`, the metrics by name; `intervals`, name -> (low, high, how) of those that have one; `rows`,
    their number; `lines`, what the user has to know.

    Attributes:
        weights: path of the kept weights of the member; "" with `path`.
        path: of a model file to evaluate instead; "" for the member.
    """

    member: Member
    config: Mapping[str, Any]
    seed: int
    weights: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class DescribeModel:
    """An order to look at a member's model: what it gets wrong, and its first weights. The reply is Noted or Failed.

    The detail of Noted: `evaluated`, the metrics of the validation rows by name; `is_half`, whether the model computes in 16
    bits; `heads`, for each output its confusion matrix and worst rows; `weights`, pictures of its first layer. A part that
    can't be had has `left_out`, the reason.

    Attributes:
        weights: path of the kept weights of the member.
    """

    member: Member
    config: Mapping[str, Any]
    seed: int
    weights: str


@dataclass(frozen=True, slots=True)
class EnsembleMember:
    """A model of an ensemble: a trial's config and seed, and the file of its weights."""

    trial: int
    config: Mapping[str, Any]
    seed: int
    weights: str


@dataclass(frozen=True, slots=True)
class SaveEnsemble:
    """An order to save one model that averages several. The reply is that to `SaveModel`.

    Attributes:
        member: of the best one.
        members: the best one first.
        path, origin: as in `SaveModel`.
    """

    member: Member
    members: tuple[EnsembleMember, ...]
    path: str
    origin: Mapping[str, Any]


Order: TypeAlias = SaveModel | EvaluateModel | DescribeModel | SaveEnsemble
"""An order to a worker that trains nothing: its reply is Noted or Failed."""


class Declined(Exception):  # noqa: N818 (a property of a study, not a fault)
    """An engine can't train a study's models, or would not be faster; the message has the part and the reason."""


@dataclass(frozen=True)
class EngineRequest:
    """A worker's request for an engine.

    Attributes:
        trainer: makes the study's models and has its data.
        fixed: the values of every config that are not parameters.
        lanes: `MadeEngine.lanes` of the study's first start; empty at the first start itself. So are `structures`.
        workers: how many share this device's memory.
        is_chosen: whether the study names this engine; it then must not decline for being slower.
    """

    trainer: Trainer
    checkpoints: Checkpoints
    fixed: Mapping[str, Any]
    lanes: Mapping[str, int]
    structures: Sequence[str]
    workers: int
    is_chosen: bool


@dataclass(frozen=True)
class MadeEngine:
    """An engine that is ready to train.

    Attributes:
        lanes: how many members train at a time, as in `Ready.lanes`; empty for one member.
        memory: (bytes needed, bytes allowed); 0 if unknown.
        structures, counted: as in `Ready`.
    """

    engine: Engine
    lanes: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)
    structures: tuple[str, ...] = ()
    counted: Mapping[str, Any] = field(default_factory=dict)


class EngineFactory(Protocol):
    """A factory of engines, as in the registry."""

    def __call__(self, request: EngineRequest) -> MadeEngine:
        """Make the engine; Declined if it can't train this study, UsageError for a fault in the study."""


class Engine(Protocol):
    """Trains members in the process that it is made in. One contract test class runs against every implementation."""

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints that this engine writes."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds spent so far on other work than training, by part: compile, build."""

    def prefetch(self, assignment: Assignment) -> None:
        """Begin to prepare a member that will be started later. May do nothing; called from any thread."""

    def start(self, assignment: Assignment) -> None:
        """Accept a member; its first epoch begins in the next `advance` at the latest, if a place is free."""

    def advance(self) -> Sequence[Event]:
        """Train every member that has a place by one epoch; return its events, in order of members."""

    def keep(self, member: Member, path: Path) -> str:
        """Write the best weights of a member that is about to end; return the error text, or ""."""

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        """Free the places of members whose verdict ends them; the others continue."""

    def save(self) -> None:
        """Write a checkpoint of all members if one is due. Called after `advance`, while the coordinator decides."""

    def close(self) -> None:
        """Stop all training. Safe to call twice."""
