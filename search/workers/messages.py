"""What coordinator and worker send each other, as JSON. Nothing here imports keras."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from pydantic import ConfigDict, TypeAdapter

from search.engines.protocol import SaveModel
from search.spec.ready import Ready
from search.spec.settings import Settings
from search.trials.events import Assignment, Event, Member, Verdict


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker needs to start: the first message to every worker. No field has a default, and unknown ones are errors.

    Attributes:
        base: the folder that paths in the settings are relative to.
        fixed: what every config has beside its parameters.
        engines: to be tried in this order; the first one that takes the model trains.
        why: the reason, if an engine was left out before.
        lanes: what was decided at the study's first start, as `Ready.lanes`; empty if this worker decides.
        folder: of the study's files, for checkpoints.
        number: of this worker in the pool.
        workers: how many share the CPU.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    settings: Settings
    base: str
    fixed: Mapping[str, Any]
    engines: tuple[str, ...]
    why: str
    lanes: Mapping[str, int]
    folder: str
    number: int
    workers: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Write the best weights of a member that is about to end into a file, and answer when they are there."""

    member: Member
    path: str


@dataclass(frozen=True, slots=True)
class Go:
    """The end of a batch of messages. The worker applies the batch, trains one epoch and replies."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Whether the last checkpoint that a worker had to write is there; True before the first one."""

    is_whole: bool


@dataclass(frozen=True, slots=True)
class Looking:
    """A worker has its data and begins to run the builder, which may die or hang for some configs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker found something in the study that a person must mend first."""

    message: str
    is_data: bool = False


Message: TypeAlias = (
    WorkerSpec | Event | Assignment | Verdict | Keep | SaveModel | Go | Looking | Ready | Refused | Saved
)

# Made now: pydantic looks up the names in annotations, and later a user's own module may bear the name of our package.
_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind.__name__: TypeAdapter(kind) for kind in get_args(Message)}


def encode(messages: Sequence[Message]) -> bytes:
    """Write messages that belong together (a tick's events, or its verdicts) as JSON: no pickle crosses between processes."""
    return json.dumps([_table(message) for message in messages]).encode()


def decode(raw: bytes) -> list[Message]:
    """Read what `encode` wrote, every value of the type that its message says; ValueError for what is no message."""
    return [_message(table) for table in json.loads(raw)]


def _table(message: Message) -> dict[str, Any]:
    # Not `asdict`, which copies all that is in a message first.
    table = {name: getattr(message, name) for name in message.__slots__}
    if "member" in table:
        table["member"] = {"trial": message.member.trial, "replica": message.member.replica}  # type: ignore[union-attr]
    if isinstance(message, WorkerSpec):
        table["settings"] = message.settings.model_dump(mode="json")
    return {"type": type(message).__name__, **table}


def _message(table: dict[str, Any]) -> Message:
    name = table.pop("type", None) if isinstance(table, dict) else table
    adapter = _ADAPTERS.get(name) if isinstance(name, str) else None
    if adapter is None:
        raise ValueError(f"no such message: {name!r}")
    found: Message = adapter.validate_python(table)
    return found
