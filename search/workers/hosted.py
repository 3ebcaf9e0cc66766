"""A worker as the pool knows it: its device, its members, and what it has not answered yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from search.engines.devices import Device
from search.engines.protocol import Order
from search.spec.ready import Ready
from search.trials.events import (
    Assignment,
    Member,
    Verdict,
)
from search.workers.messages import Go, Keep
from search.workers.pace import Pace
from search.workers.transport import Link


@dataclass
class HostedWorker:
    """A worker of the pool.

    Attributes:
        ready: None until the worker is ready.
        members: the assignments that it trains, with `done` kept up to date.
        began: the time of its start; `start_s`: the seconds until it was ready.
        outbox: messages for the next tick, sent as one batch: a worker never begins an epoch with half of them.
        busy_since: the time of the tick that the worker has not answered yet; None if it is idle. Messages that are sent
            while it is busy are for the tick after that.
        first_size: bytes of its memory when they were first measured; 0 before.
        is_saved: whether its last checkpoint could be written.
    """

    number: int
    device: Device
    link: Link
    began: float
    ready: Ready | None = None
    members: dict[Member, Assignment] = field(default_factory=dict)
    start_s: float = 0.0
    outbox: list[Assignment | Verdict | Keep | Order | Go] = field(default_factory=list)
    busy_since: float | None = None
    first_size: int = 0
    is_saved: bool = True
    pace: Pace = field(default_factory=Pace)

    @property
    def has_capacity(self) -> bool:
        return self.ready is not None and len(self.members) < self.ready.capacity

    @property
    def is_full(self) -> bool:
        """Whether every place has a member. Further members would only wait in the worker."""
        return self.ready is not None and len(self.members) >= self.ready.places
