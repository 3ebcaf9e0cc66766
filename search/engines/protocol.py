"""What the scheduler and an engine say to each other: values that also travel as JSON between processes.

Nothing here imports keras. An engine trains members; it knows nothing of samplers, pruners or storage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, get_args

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One training of a trial."""

    trial: int
    replica: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """A member to train.

    Attributes:
        config: everything a builder and training read: fixed arguments and the trial's parameters.
        epochs: how many epochs it may have.
        seed: what its weights, shuffles and dropout depend on, and nothing else does.
        limit_s: seconds that its epochs may take together; None for no limit.
        done: epochs of it that are stored already; they are computed again before its neighbours go on.
    """

    member: Member
    config: Mapping[str, Any]
    epochs: int
    seed: int
    limit_s: float | None = None
    done: int = 0

    @property
    def mark(self) -> str:
        """What tells this training from any other that may once have borne the same number."""
        training = json.dumps([self.config, self.epochs, self.seed], sort_keys=True)
        return hashlib.sha256(training.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """A member is one epoch further.

    Attributes:
        epoch: counted from 1.
        metrics: all that was measured, `val_` for the validation set; may hold nan and inf.
        seconds: wall time of this epoch, evaluation included.
    """

    member: Member
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """The member's own training ended before its epochs were used up: a callback of the user's asked for it."""

    member: Member


@dataclass(frozen=True, slots=True)
class Failed:
    """The member raised. `reason` is one line; `detail` the traceback, or the last lines of a worker's stderr."""

    member: Member
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """The member's worker is gone, which blames nobody.

    Attributes:
        alone: no other member was in that worker.
        trained: it was being trained, and not only waiting for a place.
        hung: the worker was ended because it stood still, which one of its members is to blame for.
    """

    member: Member
    reason: str
    detail: str = ""
    alone: bool = True
    trained: bool = True
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Overdue:
    """The member's worker was ended because an epoch took far longer than the trial's limit allows."""

    member: Member
    seconds: float


@dataclass(frozen=True, slots=True)
class Noted:
    """Something for the study's history that no single member is the cause of: a program compiled, lanes given up."""

    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spent:
    """Where a worker's time went since it last told, in seconds by part."""

    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Saved:
    """Whether the last checkpoint that a worker had to write is there; True before the first one."""

    is_whole: bool


Event: TypeAlias = EpochEnd | Stopped | Failed | Lost | Overdue | Noted | Spent


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a member after its event: `ends` frees its place, otherwise it goes on."""

    member: Member
    ends: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """Write the best weights of a member that is about to end into a file, and answer when they are there."""

    member: Member
    path: str


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


@dataclass(frozen=True, slots=True)
class Go:
    """Ends what a worker is told for a tick: it applies all of it, trains, and answers. Anything without it has no answer."""


class Engine(Protocol):
    """What the scheduler drives. One contract test class runs against every implementation."""

    @property
    def have_room(self) -> bool:
        """Whether `start` may be called now."""

    def start(self, assignment: Assignment) -> None:
        """Take a member in; its first epoch begins no later than the next `advance`."""

    def advance(self) -> Sequence[Event]:
        """Return what happened: every member in step one epoch further, or nothing yet (then call again)."""

    def keep(self, members: Sequence[Member]) -> Sequence[Event]:
        """See that the best weights of members that are about to end are on disk; return what went wrong."""

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        """Go on with the members that may, free the places of those that may not."""

    def close(self) -> None:
        """End everything, whatever is under way. Safe to call twice."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has its data and its builder, and both look sound.

    Attributes:
        data: `DataInfo` as a table.
        fingerprint: of the data.
        source: hash of the builder's source.
        files: hash of each file that the user's functions are made of, by its name.
        source_before: what `source` would be by the rule of manyfit 0.1.0, for studies that were begun by that.
        engine: which one it is; with engine = "auto" the worker has decided.
        why: the reason, if that is fit where lanes were possible.
        lanes: how many members it trains at a time (`places`), how many more it takes, to build their models meanwhile
            (`ahead`), in how many compiled `programs`, and in blocks of what `width`; empty for an engine without lanes.
        memory: bytes that all lanes together need, as the compiler estimates it, and bytes that they may have; 0: not known.
        warnings: what is allowed and probably not meant.
        model: parameters, layers and bytes of the model in the middle of the space; empty if its builder raised there.
        read: names that builder and callbacks asked their config for, whether they were in it or not.
        undrawn: parameters that no model was built with, since the builder raised: whether they are read is not known.
        compiles_itself: whether every model that was built came compiled.
        steps: of the shortest training in the space.
    """

    data: Mapping[str, Any]
    fingerprint: str
    source: str
    engine: str = "fit"
    why: str = ""
    lanes: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)
    warnings: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    source_before: str = ""
    read: tuple[str, ...] = ()
    undrawn: tuple[str, ...] = ()
    compiles_itself: bool = False
    steps: int = 0

    @property
    def places(self) -> int:
        """How many members it trains at a time."""
        return self.lanes.get("places", 1)

    @property
    def room(self) -> int:
        """How many members it takes: those that it trains, and those that it builds meanwhile."""
        return self.places + self.lanes.get("ahead", 0)


@dataclass(frozen=True, slots=True)
class Looking:
    """A worker has its data and begins to run the builder, which may die or hang for some configs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker found something in the study that a person must mend first."""

    message: str
    is_data: bool = False


Message: TypeAlias = Event | Assignment | Verdict | Keep | SaveModel | Go | Looking | Ready | Refused | Saved

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
    return {"type": type(message).__name__, **table}


def _message(table: dict[str, Any]) -> Message:
    name = table.pop("type", None) if isinstance(table, dict) else table
    adapter = _ADAPTERS.get(name) if isinstance(name, str) else None
    if adapter is None:
        raise ValueError(f"no such message: {name!r}")
    found: Message = adapter.validate_python(table)
    return found
