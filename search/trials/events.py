"""The messages between the loop and the engines: members to train, events of members, and verdicts on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One training of a trial."""

    trial: int
    replica: int = 0

    @property
    def key(self) -> str:
        """Its name within a checkpoint."""
        return f"{self.trial}.{self.replica}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """A member to train.

    Attributes:
        config: everything that the builder and the training read: fixed arguments and the trial's params.
        epochs: how many epochs it may have.
        seed: of its initial weights, shuffles and dropout; nothing else depends on it.
        limit_s: seconds that all its epochs together may take; None for no limit.
        done: how many of its epochs are stored already; they are recomputed before its neighbours go on.
    """

    member: Member
    config: Mapping[str, Any]
    epochs: int
    seed: int
    limit_s: float | None = None
    done: int = 0

    @property
    def fingerprint(self) -> str:
        """Fingerprint of config, epochs and seed: a checkpoint of another trial with the same number is never loaded."""
        training = json.dumps([self.config, self.epochs, self.seed], sort_keys=True)
        return hashlib.sha256(training.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """A member has finished an epoch.

    Attributes:
        epoch: counted from 1.
        metrics: all metrics by name, those of the validation set with the prefix `val_`; may hold nan and inf.
        seconds: wall time of this epoch, evaluation included.
    """

    member: Member
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """A callback of the user stopped the member's training before its last epoch."""

    member: Member


@dataclass(frozen=True, slots=True)
class Failed:
    """The member raised. `reason` is one line; `detail` the traceback, or the last lines of a worker's stderr."""

    member: Member
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class OverLimit:
    """The member's model is beyond a limit of the study, so it was not trained; `reason` is one line."""

    member: Member
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The member's worker has ended; which member caused that is not known.

    Attributes:
        alone: no other member was in that worker.
        trained: the member was training, and not only waiting for a place.
        hung: the worker was ended because it made no progress; one of its members is the cause.
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
    """An event for the study's history that belongs to no single member, such as a compiled program."""

    kind: str
    detail: Mapping[str, Any]


def not_kept(member: Member, why: str) -> Noted:
    """Return the event for weights that could not be kept."""
    return Noted("weights not kept", {"trial": member.trial, "why": why})


@dataclass(frozen=True, slots=True)
class Spent:
    """A worker's time since its last report, in seconds by part."""

    seconds: Mapping[str, float]


Event: TypeAlias = EpochEnd | Stopped | Failed | OverLimit | Lost | Overdue | Noted | Spent
"""Any report of an engine or of its worker."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on a member after its event: it `ends` and its place becomes free, or it goes on."""

    member: Member
    ends: bool
