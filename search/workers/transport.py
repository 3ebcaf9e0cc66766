"""How a worker is reached. What supervises workers needs no more of them than this. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from search.engines.devices import Device
from search.workers.messages import Message, WorkerSpec


class Gone(Exception):  # noqa: N818 (what happened to a worker, and no error of ours)
    """The worker at the other end of a link is gone."""


class Link(Protocol):
    """One worker, from its start to its end."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send messages that belong together. Of a worker that is gone nothing is said here: `receive` tells."""

    def receive(self) -> Sequence[Message]:
        """Return what it sent next, waiting for that; Gone if it is."""

    def has_sent(self, *, within_s: float = 0.0) -> bool:
        """Tell whether `receive` would return, or raise, at once; wait so long for that."""

    @property
    def is_running(self) -> bool:
        """Whether it lives. What it sent before its end can still be received."""

    @property
    def memory(self) -> int:
        """The bytes that it takes; 0 if that is not known."""

    def kill(self) -> None:
        """Let it die; it is noticed by `receive`."""

    def end(self) -> None:
        """End it and all that it has started, and wait for that. Safe to call twice."""

    @property
    def death(self) -> str:
        """How it ended, for people: "was ended by SIGKILL"."""

    @property
    def last_words(self) -> str:
        """The last lines that it printed."""


class Transport(Protocol):
    """Starts workers and waits for them."""

    def start(self, number: int, device: Device, spec: WorkerSpec) -> Link:
        """Start a worker on a device, and send it its spec."""

    def wait(self, links: Collection[Link], *, for_s: float) -> Collection[Link]:
        """Return those that have sent something, or are gone, waiting so long for the first of them."""
