"""What the loop and those who train say to each other: members, what happened to them, and what becomes of them."""

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
    def fingerprint(self) -> str:
        """Fingerprint of config, epochs and seed: a checkpoint of another trial with the same number is never loaded."""
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


def not_kept(member: Member, why: str) -> Noted:
    """Return what the study's history says of weights that could not be kept."""
    return Noted("weights not kept", {"trial": member.trial, "why": why})


@dataclass(frozen=True, slots=True)
class Spent:
    """Where a worker's time went since it last told, in seconds by part."""

    seconds: Mapping[str, float]


Event: TypeAlias = EpochEnd | Stopped | Failed | Lost | Overdue | Noted | Spent
"""What an engine, or the worker that hosts it, reports."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a member after its event: `ends` frees its place, otherwise it goes on."""

    member: Member
    ends: bool
