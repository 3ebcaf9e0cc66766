"""The interface through which the pool starts workers and reaches them. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from search.engines.devices import Device
from search.workers.messages import Message, WorkerSpec


class Gone(Exception):  # noqa: N818 (a worker's end, not an error)
    """The worker at the other end of a link has ended."""


class Link(Protocol):
    """One worker, from its start to its end."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send one batch of messages. If the worker has ended, nothing happens here; `receive` raises Gone."""

    def receive(self) -> Sequence[Message]:
        """Wait for the worker's next batch of messages and return it; Gone if the worker has ended."""

    def has_sent(self, *, within_s: float = 0.0) -> bool:
        """Wait up to `within_s` seconds; return whether `receive` would now return or raise at once."""

    @property
    def is_running(self) -> bool:
        """Whether the worker runs. Messages that it sent before its end can still be received."""

    @property
    def memory(self) -> int:
        """The worker's memory in bytes; 0 if unknown."""

    def kill(self) -> None:
        """Kill the worker without waiting; `receive` then raises Gone."""

    def end(self) -> None:
        """End the worker and all processes that it started, and wait for that. Safe to call twice."""

    @property
    def death(self) -> str:
        """How the worker ended, as a phrase: "was ended by SIGKILL"."""

    @property
    def last_words(self) -> str:
        """The last lines that the worker printed."""


class Transport(Protocol):
    """Starts workers and waits for them."""

    def start(self, number: int, device: Device, spec: WorkerSpec) -> Link:
        """Start a worker on a device, and send it its spec."""

    def wait(self, links: Collection[Link], *, for_s: float) -> Collection[Link]:
        """Wait up to `for_s` seconds for the first link with a message or an end; return all such links."""
