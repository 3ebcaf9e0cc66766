"""Messages between coordinator and worker, as JSON. Nothing here imports keras."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_args

from pydantic import ConfigDict, TypeAdapter

from search.checking.exhibit import Bars, Grid, Images, Lines, Listing
from search.checking.report import Checked
from search.data.uses import Use
from search.engines.protocol import DescribeModel, EvaluateModel, SaveEnsemble, SaveModel
from search.spec.declared_space import DeclaredSpace
from search.spec.finding import Finding
from search.spec.ready import Ready
from search.spec.settings import Settings
from search.trials.events import Assignment, Event, Member, Verdict
from search.trials.files import StudyFiles


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker needs to start: its first message. No field has a default; an unknown field is an error.

    Attributes:
        base: the folder that paths in the settings are relative to.
        fixed: arguments that every config has beside its parameters.
        engines: names to try in this order; the first engine that accepts the model trains.
        why: the reason, if an earlier engine was left out; else empty.
        lanes: as `Ready.lanes`, decided at the study's first start; empty if this worker decides.
        structures: as `Ready.structures`, decided with the lanes.
        database: the study's database, and `name` the study's name: they name its files.
        number: the worker's number in the pool.
        workers: how many workers share the CPU.
        checks: whether worker 0 looks for what would waste the study.
        use: which rows it trains on, and which it judges models by.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    settings: Settings
    base: str
    fixed: Mapping[str, Any]
    engines: tuple[str, ...]
    why: str
    lanes: Mapping[str, int]
    structures: tuple[str, ...]
    database: str
    name: str
    number: int
    workers: int
    checks: bool
    use: Use

    @property
    def files(self) -> StudyFiles:
        """The files of the study."""
        return StudyFiles(Path(self.database), self.name)


@dataclass(frozen=True, slots=True)
class FindSpace:
    """The only message to a worker that runs a builder in KerasTuner's form to find its space.

    The reply is DeclaredSpace or Refused.

    Attributes:
        base: the folder that paths in the settings are relative to.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    settings: Settings
    base: str


@dataclass(frozen=True, slots=True)
class CheckStudy:
    """The only message to a worker that checks a study. The replies are Findings and Exhibits one by one and
    then Checked, or Refused.

    Attributes:
        base: the folder that paths in the settings are relative to.
        config: whose model is checked.
        has_data: whether the data are checked, too.
        may_move: whether the training may be checked on another backend instead.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    settings: Settings
    base: str
    config: Mapping[str, Any]
    has_data: bool
    may_move: bool


@dataclass(frozen=True, slots=True)
class UseModel:
    """The only message to a worker that uses a model file without its study. The reply is Noted or Refused.

    Attributes:
        task: "predict" or "plot".
        model: path of the .keras file.
        options: of the task, as `search.engines.predicting` and `plotting` take them.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    task: str
    model: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Keep:
    """Write the best weights of a member that is about to end to a file, then reply."""

    member: Member
    path: str


@dataclass(frozen=True, slots=True)
class Go:
    """The end of a batch of messages. The worker applies the batch, trains one epoch and replies."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Whether the worker could write its last checkpoint; True before the first one."""

    is_whole: bool


@dataclass(frozen=True, slots=True)
class Inspecting:
    """A worker has loaded its data and begins to run the builder, which may crash or hang for some configs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker can't start: a person must first correct the study or its data."""

    message: str
    is_data: bool = False


Message: TypeAlias = (
    WorkerSpec
    | FindSpace
    | CheckStudy
    | UseModel
    | Finding
    | Images
    | Lines
    | Bars
    | Grid
    | Listing
    | Checked
    | Event
    | Assignment
    | Verdict
    | Keep
    | SaveModel
    | EvaluateModel
    | DescribeModel
    | SaveEnsemble
    | Go
    | Inspecting
    | Ready
    | Refused
    | Saved
    | DeclaredSpace
)

First: TypeAlias = WorkerSpec | FindSpace | CheckStudy | UseModel
"""The first message to a worker, which says what it is for."""

# Built at import: pydantic resolves annotations by name, and later a user's module may have the name of our package.
_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind.__name__: TypeAdapter(kind) for kind in get_args(Message)}


def encode(messages: Sequence[Message]) -> bytes:
    """Return one batch of messages (such as the events of a tick) as JSON. Pickle would run code of the sender."""
    return json.dumps([_table(message) for message in messages]).encode()


def decode(raw: bytes) -> list[Message]:
    """Return the messages that `encode` wrote, with every value validated; ValueError for anything else."""
    return [_message(table) for table in json.loads(raw)]


def _table(message: Message) -> dict[str, Any]:
    # `asdict` would copy all values first.
    table = {name: getattr(message, name) for name in message.__slots__}
    if "member" in table:
        table["member"] = {"trial": message.member.trial, "replica": message.member.replica}  # type: ignore[union-attr]
    if isinstance(message, SaveEnsemble):
        table["members"] = [asdict(each) for each in message.members]
    if isinstance(message, WorkerSpec | FindSpace | CheckStudy):
        table["settings"] = message.settings.model_dump(mode="json")
    if isinstance(message, Ready):
        table["findings"] = [asdict(finding) for finding in message.findings]
    return {"type": type(message).__name__, **table}


def _message(table: dict[str, Any]) -> Message:
    name = table.pop("type", None) if isinstance(table, dict) else table
    adapter = _ADAPTERS.get(name) if isinstance(name, str) else None
    if adapter is None:
        raise ValueError(f"no such message: {name!r}")
    message: Message = adapter.validate_python(table)
    return message
